"""OpenTelemetry's instrumentation of the OpenAI client; agent and tools as its conventions say."""

from __future__ import annotations

import json

import shop
from openai import OpenAI
from opentelemetry import _logs
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

spans, logs = shop.provider(), LoggerProvider()
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
_logs.set_logger_provider(logs)
OpenAIInstrumentor().instrument()
tracer = spans.get_tracer("shop")
client = OpenAI(max_retries=0)


def common() -> dict[str, str]:
    return {
        "gen_ai.agent.name": "shop",
        "gen_ai.conversation.id": shop.turns[-1].session,
        "user.id": shop.USER,
    }


def traced(name: str):
    def call(**arguments: str) -> str:
        attributes = {
            **common(),
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


def answer(turn: shop.Turn) -> str:
    attributes = {**common(), "gen_ai.operation.name": "invoke_agent"}
    with tracer.start_as_current_span("invoke_agent shop", attributes=attributes):
        return shop.converse(client, turn, tools)


def flush() -> None:
    spans.shutdown()
    logs.shutdown()


shop.main(answer, flush)
