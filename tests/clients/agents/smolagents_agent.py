"""smolagents by OpenInference: an agent that calls tools, kept between the turns of a session."""

from __future__ import annotations

import contextlib
import os
import sys

import shop
from openinference.instrumentation import using_attributes
from openinference.instrumentation.smolagents import SmolagentsInstrumentor
from smolagents import LogLevel, OpenAIServerModel, ToolCallingAgent, tool

provider = shop.provider()
SmolagentsInstrumentor().instrument(tracer_provider=provider)
model = OpenAIServerModel(
    "stub-1",
    api_base=os.environ["OPENAI_BASE_URL"],
    api_key="none",
    client_kwargs={"max_retries": 0},
)
tools = [tool(function) for function in shop.FUNCTIONS.values()]
agents: dict[str, ToolCallingAgent] = {}


def answer(turn: shop.Turn) -> str:
    agent = agents.setdefault(
        turn.session,
        ToolCallingAgent(
            tools,
            model,
            name="shop",
            description=shop.PROMPT,
            max_steps=4,
            stream_outputs=turn.stream,
            verbosity_level=LogLevel.OFF,
        ),
    )
    with (
        contextlib.redirect_stdout(sys.stderr),
        using_attributes(session_id=turn.session, user_id=shop.USER),
    ):
        return str(agent.run(turn.said, reset=not turn.history))


shop.main(answer, provider.shutdown)
