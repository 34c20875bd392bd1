"""CrewAI by OpenInference, with its instrumentation of the OpenAI client below."""

from __future__ import annotations

import os

os.environ["CREWAI_DISABLE_TELEMETRY"] = "true"
os.environ["CREWAI_TRACING_ENABLED"] = "false"

import shop
from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from openinference.instrumentation import using_attributes
from openinference.instrumentation.crewai import CrewAIInstrumentor
from openinference.instrumentation.openai import OpenAIInstrumentor

provider = shop.provider()
CrewAIInstrumentor().instrument(tracer_provider=provider)
OpenAIInstrumentor().instrument(tracer_provider=provider)
tools = [tool(name)(function) for name, function in shop.FUNCTIONS.items()]


def answer(turn: shop.Turn) -> str:
    agent = Agent(
        role="shop",
        goal=shop.PROMPT,
        backstory=shop.PROMPT,
        tools=tools,
        llm=LLM(model="stub-1", provider="openai", max_retries=0, stream=turn.stream),
        max_iter=4,
        max_retry_limit=0,
    )
    task = Task(description=turn.said, expected_output="An answer.", agent=agent)
    with using_attributes(session_id=turn.session, user_id=shop.USER):
        return str(Crew(name="shop", agents=[agent], tasks=[task]).kickoff())


shop.main(answer, provider.shutdown)
