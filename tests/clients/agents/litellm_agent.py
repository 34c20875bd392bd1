"""LiteLLM with its own callback of OpenTelemetry; agent and tools as the conventions say."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"  # else it fetches prices from the network
os.environ["USE_OTEL_LITELLM_REQUEST_SPAN"] = "true"  # else it writes over the span around a call

import litellm
import shop
from litellm.integrations.opentelemetry import OpenTelemetry
from opentelemetry import trace

provider = shop.provider()
litellm.callbacks = [OpenTelemetry(tracer_provider=provider)]
tracer = provider.get_tracer("shop")


def create(model: str, **request: Any) -> Any:
    # A streamed call ends in another thread, where nobody knows the span around it.
    around = {"litellm_parent_otel_span": trace.get_current_span()}
    return litellm.completion(f"openai/{model}", max_retries=0, metadata=around, **request)


client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
shop.main(shop.instrumented(tracer, client), provider.shutdown)
