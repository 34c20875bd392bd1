"""OpenTelemetry's instrumentation of the OpenAI client; agent and tools as its conventions say."""

from __future__ import annotations

import contextlib
import json

import shop
from openai import BadRequestError, OpenAI
from opentelemetry import _logs, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

spans, logs = TracerProvider(), LoggerProvider()
spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
trace.set_tracer_provider(spans)
_logs.set_logger_provider(logs)
OpenAIInstrumentor().instrument()
tracer = trace.get_tracer("shop")
client = OpenAI(max_retries=0)
COMMON = {
    "gen_ai.agent.name": "shop",
    "gen_ai.conversation.id": shop.SESSION,
    "user.id": shop.USER,
}


def traced(name: str):
    def call(**arguments: str) -> str:
        attributes = {
            **COMMON,
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.arguments": json.dumps(arguments),
        }
        with tracer.start_as_current_span(f"execute_tool {name}", attributes=attributes) as span:
            result = shop.FUNCTIONS[name](**arguments)
            span.set_attribute("gen_ai.tool.call.result", result)
            return result

    return call


tools = {name: traced(name) for name in shop.FUNCTIONS}
for said in shop.REQUESTS:
    attributes = {**COMMON, "gen_ai.operation.name": "invoke_agent"}
    with (
        contextlib.suppress(BadRequestError),
        tracer.start_as_current_span("invoke_agent shop", attributes=attributes),
    ):
        shop.converse(client, said, tools)
spans.shutdown()
logs.shutdown()
shop.report()
