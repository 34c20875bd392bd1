"""OpenInference's instrumentation of the OpenAI client; the loop is decorated with its helpers."""

from __future__ import annotations

import contextlib

import shop
from openai import BadRequestError, OpenAI
from openinference.instrumentation import OITracer, TraceConfig, using_attributes
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

try:  # each environment has one of the two
    from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
except ImportError:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
OpenAIInstrumentor().instrument(tracer_provider=provider)
tracer = OITracer(provider.get_tracer("shop"), config=TraceConfig())
client = OpenAI(max_retries=0)
tools = {name: tracer.tool(function) for name, function in shop.FUNCTIONS.items()}


@tracer.agent(name="shop-assistant")
def answer(said: str) -> str:
    return shop.converse(client, said, tools)


for said in shop.REQUESTS:
    with (
        contextlib.suppress(BadRequestError),
        using_attributes(session_id=shop.SESSION, user_id=shop.USER),
    ):
        answer(said)
provider.shutdown()
shop.report()
