"""Semantic Kernel's agent, which instruments itself."""

from __future__ import annotations

import logging
import os

os.environ["SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS_SENSITIVE"] = "true"

import shop
from openai import AsyncOpenAI
from opentelemetry.sdk._logs import LoggingHandler
from semantic_kernel.agents import ChatCompletionAgent, ChatHistoryAgentThread
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import kernel_function

shop.PLUGIN = "Shop-"
provider, logs = shop.provider(), shop.logs()
shop.stamped(provider)
# What is said goes through Python's logging.
logging.getLogger("semantic_kernel").addHandler(LoggingHandler(logger_provider=logs))
logging.getLogger("semantic_kernel").setLevel(logging.INFO)


class Shop:
    """The tools, as a plugin."""

    @kernel_function(name="get_weather", description="Weather of a city.")
    def get_weather(self, city: str) -> str:
        return shop.get_weather(city)

    @kernel_function(name="find_order", description="Where an order is.")
    def find_order(self, number: str) -> str:
        return shop.find_order(number)


service = OpenAIChatCompletion("stub-1", async_client=AsyncOpenAI(max_retries=0))
agent = ChatCompletionAgent(
    service=service, name="shop", instructions=shop.PROMPT, plugins=[Shop()]
)
threads: dict[str, ChatHistoryAgentThread] = {}


async def run(turn: shop.Turn) -> str:
    thread = threads.setdefault(turn.session, ChatHistoryAgentThread(thread_id=turn.session))
    if turn.stream:
        parts = agent.invoke_stream(messages=turn.said, thread=thread)
        return "".join([str(part.message) async for part in parts])
    return str((await agent.get_response(messages=turn.said, thread=thread)).message)


shop.main(lambda turn: shop.finished(run(turn)), shop.flush(provider, logs))
