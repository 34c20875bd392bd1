"""Pydantic AI, which instruments itself."""

from __future__ import annotations

import shop
from openai import AsyncOpenAI
from pydantic_ai import Agent, InstrumentationSettings, ModelRetry
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = shop.provider()
said: dict[str, list] = {}
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


async def run(turn: shop.Turn) -> str:
    given = {"message_history": said.get(turn.session), "conversation_id": turn.session}
    if turn.stream:
        async with agent.run_stream(turn.said, **given) as result:
            return "".join([text async for text in result.stream_text(delta=True)])
    result = await agent.run(turn.said, **given)
    said[turn.session] = result.all_messages()
    return result.output


shop.main(lambda turn: shop.finished(run(turn)), provider.shutdown)
