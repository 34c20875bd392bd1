"""Traceloop's SDK with its instrumentation of the OpenAI client."""

from __future__ import annotations

import contextlib
import os

import shop
from openai import OpenAI
from opentelemetry import trace
from traceloop.sdk import Instruments, Traceloop
from traceloop.sdk.decorators import agent, tool, workflow

with contextlib.redirect_stdout(None):
    Traceloop.init(
        app_name=os.environ["OTEL_SERVICE_NAME"],
        api_endpoint=os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"],
        api_key="none",
        disable_batch=False,
        telemetry_enabled=False,
        instruments={Instruments.OPENAI},
    )
client = OpenAI(max_retries=0)
tools = {name: tool(name=name)(function) for name, function in shop.FUNCTIONS.items()}


@agent(name="shop-assistant")
def assist(said: str) -> str:
    return shop.converse(client, shop.turns[-1], tools)


@workflow(name="shop")
def handle(said: str) -> str:
    session = shop.turns[-1].session
    Traceloop.set_association_properties({"session_id": session, "user_id": shop.USER})
    return assist(said)


shop.main(lambda turn: handle(turn.said), trace.get_tracer_provider().shutdown)
