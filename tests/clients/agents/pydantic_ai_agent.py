"""Pydantic AI, which instruments itself."""

from __future__ import annotations

import contextlib

import shop
from openai import AsyncOpenAI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pydantic_ai import Agent, InstrumentationSettings, ModelRetry
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
agent = Agent(
    OpenAIChatModel("stub-1", provider=OpenAIProvider(openai_client=AsyncOpenAI(max_retries=0))),
    name="shop",
    instructions=shop.PROMPT,
    capabilities=[Instrumentation(InstrumentationSettings(tracer_provider=provider))],
)


@agent.tool_plain
def get_weather(city: str) -> str:
    """Weather of a city."""
    return shop.get_weather(city)


@agent.tool_plain
def find_order(number: str) -> str:
    """Where an order is."""
    try:
        return shop.find_order(number)
    except LookupError as error:
        raise ModelRetry(str(error)) from error


for said in shop.REQUESTS:
    with contextlib.suppress(ModelHTTPError):
        if "story" in said:
            with agent.run_stream_sync(said, conversation_id=shop.SESSION) as result:
                list(result.stream_text())
        else:
            agent.run_sync(said, conversation_id=shop.SESSION)
provider.shutdown()
shop.report()
