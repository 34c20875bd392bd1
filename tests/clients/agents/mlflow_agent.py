"""MLflow's tracing: its decorator, its patch of the OpenAI client, its exporter."""

from __future__ import annotations

import os

# Its light package fails where metrics are sent, too.
os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = (
    os.environ.pop("OTEL_EXPORTER_OTLP_ENDPOINT") + "/v1/traces"
)

import mlflow
import shop
from mlflow.entities import SpanType
from openai import OpenAI

mlflow.set_tracking_uri("http://127.0.0.1:9")  # not asked: spans go over OTLP
mlflow.openai.autolog()
client = OpenAI(max_retries=0)
tools = {n: mlflow.trace(f, name=n, span_type=SpanType.TOOL) for n, f in shop.FUNCTIONS.items()}


@mlflow.trace(name="shop", span_type=SpanType.AGENT)
def assist(said: str) -> str:
    turn = shop.turns[-1]
    # Session and user of a trace of its own are not sent over OTLP.
    who = {"session.id": turn.session, "user.id": shop.USER}
    mlflow.get_current_active_span().set_attributes(who)
    return shop.converse(client, turn, tools)


def answer(turn: shop.Turn) -> str:
    return assist(turn.said)


shop.main(answer, mlflow.tracing.get_bridged_tracer_provider().shutdown)
