// Vercel's AI SDK 5, which instruments itself where a call asks for it.

import { run } from "./aisdk.mjs";
import { tracing } from "./tracing.mjs";

const provider = tracing();
await run(
  ({ prompt, name, ...metadata }) => ({
    system: prompt,
    experimental_telemetry: { isEnabled: true, functionId: name, metadata },
  }),
  () => provider.shutdown(),
);
