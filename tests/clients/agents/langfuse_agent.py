"""Langfuse's SDK: its decorator, its client of OpenAI, any exporter of OTLP."""

from __future__ import annotations

import shop
from langfuse import Langfuse, observe, propagate_attributes
from langfuse.openai import OpenAI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

langfuse = Langfuse(
    public_key="none", secret_key="none", environment="test", span_exporter=OTLPSpanExporter()
)
client = OpenAI(max_retries=0)
tools = {n: observe(name=n, as_type="tool")(f) for n, f in shop.FUNCTIONS.items()}


@observe(name="shop", as_type="agent")
def assist(said: str) -> str:
    return shop.converse(client, shop.turns[-1], tools)


def answer(turn: shop.Turn) -> str:
    with propagate_attributes(session_id=turn.session, user_id=shop.USER):
        return assist(turn.said)


shop.main(answer, langfuse.shutdown)
