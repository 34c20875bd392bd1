// An agent of Vercel's AI SDK, of the version that is installed.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { findOrder, getWeather, main, NAME, PROMPT, USER } from "./shop.mjs";

const provider = createOpenAICompatible({
  name: "stub",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: "none",
  includeUsage: true,
});
const tools = {
  get_weather: tool({
    description: "Weather of a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: getWeather,
  }),
  find_order: tool({
    description: "Where an order is.",
    inputSchema: z.object({ number: z.string() }),
    execute: findOrder,
  }),
};

/** `settings` are what the version wants of a call: the prompt, and who calls for whom. */
export async function run(settings, flush) {
  await main(async ({ said, session, stream, history }) => {
    const call = {
      model: provider("stub-1"),
      messages: [...history, { role: "user", content: said }],
      tools,
      stopWhen: stepCountIs(4),
      maxRetries: 0,
      ...settings({ prompt: PROMPT, name: NAME, sessionId: session, userId: USER }),
    };
    return stream ? await streamText(call).text : (await generateText(call)).text;
  }, flush);
}
