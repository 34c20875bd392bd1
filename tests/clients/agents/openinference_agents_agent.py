"""OpenInference's instrumentation of the OpenAI Agents SDK: two agents and a handoff."""

from __future__ import annotations

import asyncio
import contextlib

import agents
import shop
from openai import AsyncOpenAI, BadRequestError
from openinference.instrumentation import using_attributes
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
OpenAIAgentsInstrumentor().instrument(tracer_provider=provider)
model = agents.OpenAIChatCompletionsModel("stub-1", AsyncOpenAI(max_retries=0))
refunds = agents.Agent(name="refunds", instructions="You refund.", model=model)
agent = agents.Agent(
    name="shop",
    instructions=shop.PROMPT,
    model=model,
    tools=[agents.function_tool(function) for function in shop.FUNCTIONS.values()],
    handoffs=[refunds],
)


async def answer(said: str) -> None:
    if "story" not in said:
        await agents.Runner.run(agent, said)
        return
    async for _ in agents.Runner.run_streamed(agent, said).stream_events():
        pass


async def main() -> None:
    for said in (*shop.REQUESTS, "a refund please"):
        with (
            contextlib.suppress(BadRequestError),
            using_attributes(session_id=shop.SESSION, user_id=shop.USER),
        ):
            await answer(said)


asyncio.run(main())
provider.shutdown()
shop.report(handoffs=1)
