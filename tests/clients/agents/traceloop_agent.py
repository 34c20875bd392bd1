"""Traceloop's SDK with its instrumentation of the OpenAI client."""

from __future__ import annotations

import contextlib
import os

import shop
from openai import BadRequestError, OpenAI
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
def answer(said: str) -> str:
    return shop.converse(client, said, tools)


@workflow(name="shop")
def handle(said: str) -> str:
    Traceloop.set_association_properties({"session_id": shop.SESSION, "user_id": shop.USER})
    return answer(said)


for said in shop.REQUESTS:
    with contextlib.suppress(BadRequestError):
        handle(said)
from opentelemetry import trace  # noqa: E402

trace.get_tracer_provider().shutdown()
shop.report()
