// Vercel's AI SDK 7 with its integration of OpenTelemetry.

import { OpenTelemetry } from "@ai-sdk/otel";
import { registerTelemetry } from "ai";
import { run } from "./aisdk.mjs";
import { tracing } from "./tracing.mjs";

const provider = tracing();
registerTelemetry(new OpenTelemetry({ runtimeContext: true }));
await run(
  ({ prompt, name, ...who }) => ({
    instructions: prompt,
    runtimeContext: who,
    telemetry: { functionId: name, includeRuntimeContext: { sessionId: true, userId: true } },
  }),
  () => provider.shutdown(),
);
