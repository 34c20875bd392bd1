"""OpenInference's instrumentation of the OpenAI Agents SDK: two agents and a handoff."""

from __future__ import annotations

import agents
import shop
from openai import AsyncOpenAI
from openinference.instrumentation import using_attributes
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

provider = shop.provider()
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


async def run(turn: shop.Turn) -> str:
    given = [*turn.history, {"role": "user", "content": turn.said}]
    if not turn.stream:
        return str((await agents.Runner.run(agent, given)).final_output)
    streamed = agents.Runner.run_streamed(agent, given)
    async for _ in streamed.stream_events():
        pass
    return str(streamed.final_output)


def answer(turn: shop.Turn) -> str:
    with using_attributes(session_id=turn.session, user_id=shop.USER):
        return shop.finished(run(turn))


shop.main(answer, provider.shutdown)
