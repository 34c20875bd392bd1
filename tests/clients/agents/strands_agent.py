"""Strands Agents, which instruments itself."""

from __future__ import annotations

import shop
from opentelemetry import trace
from strands import Agent, tool
from strands.models.openai import OpenAIModel
from strands.telemetry import StrandsTelemetry

StrandsTelemetry().setup_otlp_exporter()
model = OpenAIModel(model_id="stub-1", client_args={"max_retries": 0})
tools = [tool(function) for function in shop.FUNCTIONS.values()]


def answer(turn: shop.Turn) -> str:
    agent = Agent(
        name="shop",
        model=model,
        system_prompt=shop.PROMPT,
        tools=tools,
        callback_handler=None,
        messages=[
            {"role": message["role"], "content": [{"text": message["content"]}]}
            for message in turn.history
        ],
        trace_attributes={"session.id": turn.session, "user.id": shop.USER},
    )
    return str(agent(turn.said)).strip()


shop.main(answer, trace.get_tracer_provider().shutdown)
