"""OpenInference's instrumentation of the OpenAI client; the loop is decorated with its helpers."""

from __future__ import annotations

import shop
from openai import OpenAI
from openinference.instrumentation import OITracer, TraceConfig, using_attributes
from openinference.instrumentation.openai import OpenAIInstrumentor

provider = shop.provider()
OpenAIInstrumentor().instrument(tracer_provider=provider)
tracer = OITracer(provider.get_tracer("shop"), config=TraceConfig())
client = OpenAI(max_retries=0)
tools = {name: tracer.tool(function) for name, function in shop.FUNCTIONS.items()}


@tracer.agent(name="shop-assistant")
def assist(said: str) -> str:
    return shop.converse(client, shop.turns[-1], tools)


def answer(turn: shop.Turn) -> str:
    with using_attributes(session_id=turn.session, user_id=shop.USER):
        return assist(turn.said)


shop.main(answer, provider.shutdown)
