"""OpenTelemetry's instrumentation of the OpenAI client; agent and tools as its conventions say."""

from __future__ import annotations

import shop
from openai import OpenAI
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

spans, logs = shop.provider(), shop.logs()
OpenAIInstrumentor().instrument()
answer = shop.instrumented(spans.get_tracer("shop"), OpenAI(max_retries=0))
shop.main(answer, shop.flush(spans, logs))
