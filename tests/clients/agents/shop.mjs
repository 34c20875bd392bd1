// What the agents on Node share: tools, a way through the scenarios, a book; as shop.py.

import { readFileSync } from "node:fs";

export const PROMPT = "You are the assistant of a shop.";
export const NAME = process.env.OTEL_SERVICE_NAME;
export const USER = "user-42";
export const turns = [];

function called(tool, args, error) {
  turns.at(-1).tools.push({ tool, arguments: args, error });
}

export function getWeather({ city }) {
  called("get_weather", { city }, false);
  return `sunny in ${city}`;
}

export function findOrder({ number }) {
  called("find_order", { number }, true);
  throw new Error(`no order ${number}`);
}

/** Have every turn of every scenario answered, flush telemetry, print the book. */
export async function main(answer, flush) {
  const scenarios = JSON.parse(readFileSync(new URL("../scenarios.json", import.meta.url)));
  for (const { name, turns: said, stream = false, web } of scenarios) {
    if (web) continue;
    const history = [];
    for (const words of said) {
      const session = `${NAME}/${name.replaceAll(" ", "-")}`;
      const turn = { said: words, session, scenario: name, stream, tools: [] };
      turns.push(turn);
      try {
        turn.answer = await answer({ ...turn, history: [...history] });
        history.push({ role: "user", content: words }, { role: "assistant", content: turn.answer });
      } catch (error) {
        turn.error = String(error);
      }
    }
  }
  await flush();
  console.log(JSON.stringify({ turns }));
}
