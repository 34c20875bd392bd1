"""Strands Agents, which instruments itself."""

from __future__ import annotations

import contextlib

import shop
from openai import BadRequestError
from opentelemetry import trace
from strands import Agent, tool
from strands.models.openai import OpenAIModel
from strands.telemetry import StrandsTelemetry

StrandsTelemetry().setup_otlp_exporter()
model = OpenAIModel(model_id="stub-1", client_args={"max_retries": 0})
tools = [tool(function) for function in shop.FUNCTIONS.values()]
for said in shop.REQUESTS:
    agent = Agent(
        name="shop",
        model=model,
        system_prompt=shop.PROMPT,
        tools=tools,
        callback_handler=None,
        trace_attributes={"session.id": shop.SESSION, "user.id": shop.USER},
    )
    with contextlib.suppress(BadRequestError):
        agent(said)
trace.get_tracer_provider().shutdown()
shop.report()
