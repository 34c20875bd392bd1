// Mastra with its own exporter to OpenTelemetry.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Agent } from "@mastra/core/agent";
import { Mastra } from "@mastra/core/mastra";
import { createTool } from "@mastra/core/tools";
import { Observability } from "@mastra/observability";
import { OtelExporter } from "@mastra/otel-exporter";
import { z } from "zod";
import { findOrder, getWeather, main, NAME, PROMPT, USER } from "./shop.mjs";

const provider = createOpenAICompatible({
  name: "stub",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: "none",
  includeUsage: true,
});
const tools = {
  get_weather: createTool({
    id: "get_weather",
    description: "Weather of a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async (given) => getWeather(given),
  }),
  find_order: createTool({
    id: "find_order",
    description: "Where an order is.",
    inputSchema: z.object({ number: z.string() }),
    execute: async (given) => findOrder(given),
  }),
};
const endpoint = `${process.env.OTEL_EXPORTER_OTLP_ENDPOINT}/v1/traces`;
const mastra = new Mastra({
  logger: false,
  agents: {
    shop: new Agent({
      id: "shop",
      name: "shop",
      instructions: PROMPT,
      model: provider("stub-1"),
      tools,
      maxRetries: 0,
    }),
  },
  observability: new Observability({
    configs: {
      otel: {
        serviceName: NAME,
        exporters: [
          new OtelExporter({ provider: { custom: { endpoint, protocol: "http/protobuf" } } }),
        ],
      },
    },
  }),
});

await main(async ({ said, session, stream, history }) => {
  const agent = mastra.getAgent("shop");
  const messages = [...history, { role: "user", content: said }];
  const options = {
    maxSteps: 4,
    modelSettings: { maxRetries: 0 },
    tracingOptions: { metadata: { sessionId: session, userId: USER } },
  };
  if (!stream) return (await agent.generate(messages, options)).text;
  return await (await agent.stream(messages, options)).text;
}, () => mastra.shutdown());
