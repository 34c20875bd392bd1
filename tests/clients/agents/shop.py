"""What all agents under test share: tools, a loop, a way through the scenarios, a book.

An agent is a function from what a user says to what he is told; `main` has it answer every turn of
every scenario and prints the book of what was done, for the test to compare with what is stored.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

PROMPT = os.environ.get("SHOP_PROMPT", "You are the assistant of a shop.")
NAME = os.environ["OTEL_SERVICE_NAME"]
SCENARIOS = json.loads(Path(__file__).with_name("..").joinpath("scenarios.json").read_text())
USER = "user-42"
PLUGIN = ""
"""What a framework puts before the names of tools."""
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {argument: {"type": "string"}},
                "required": [argument],
            },
        },
    }
    for name, description, argument in (
        ("get_weather", "Weather of a city.", "city"),
        ("find_order", "Where an order is.", "number"),
    )
]


@dataclass
class Turn:
    """What a user says, and what an agent needs to know about it.

    Attributes
    ----------
    history
        What was said before in the session, as messages of the OpenAI API.
    stream
        Whether the answer is to be streamed.
    """

    said: str
    session: str
    scenario: str
    stream: bool = False
    history: list[dict[str, str]] = field(default_factory=list)
    tools: list[dict[str, object]] = field(default_factory=list)
    answer: str | None = None
    error: str | None = None


Answer = Callable[[Turn], str]
turns: list[Turn] = []


def get_weather(city: str) -> str:
    """Weather of a city.

    Args:
        city: Name of the city.
    """
    _called("get_weather", {"city": city}, error=False)
    return f"sunny in {city}"


def find_order(number: str) -> str:
    """Where an order is.

    Args:
        number: Number of the order.
    """
    _called("find_order", {"number": number}, error=True)
    raise LookupError(f"no order {number}")


def _called(tool: str, arguments: dict[str, str], error: bool) -> None:
    turns[-1].tools.append({"tool": PLUGIN + tool, "arguments": arguments, "error": error})


FUNCTIONS = {"get_weather": get_weather, "find_order": find_order}


def converse(
    client: Any,
    turn: Turn,
    tools: Mapping[str, Callable[..., str]] = FUNCTIONS,
    model: str = "stub-1",
) -> str:
    """Answer one turn with an OpenAI client: ask the model, run its tools, until it answers."""
    messages: list[Any] = [
        {"role": "system", "content": PROMPT},
        *turn.history,
        {"role": "user", "content": turn.said},
    ]
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    while True:
        response = client.chat.completions.create(
            model=model, messages=messages, tools=TOOLS, **(streamed if turn.stream else {})
        )
        if turn.stream:
            return "".join(c.choices[0].delta.content or "" for c in response if c.choices)
        message = response.choices[0].message
        if not message.tool_calls:
            return message.content
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            try:
                result = tools[call.function.name](**json.loads(call.function.arguments))
            except LookupError as error:
                result = str(error)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def provider() -> Any:
    """Return OpenTelemetry's provider of tracers with its exporter, set for the process."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    try:  # each environment has one of the two
        from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    made = TracerProvider()
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(made)
    return made


def logs() -> Any:
    """Return OpenTelemetry's provider of loggers with its exporter, set for the process."""
    from opentelemetry import _logs
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    made = LoggerProvider()
    made.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    _logs.set_logger_provider(made)
    return made


def flush(*providers: Any) -> Callable[[], object]:
    """Return what sends the rest of what providers hold."""
    return lambda: [provider.shutdown() for provider in providers]


def instrumented(tracer: Any, client: Any) -> Answer:
    """Return an agent whose run and tools are the program's own spans, as the conventions say."""

    def common(operation: str) -> dict[str, str]:
        return {
            "gen_ai.operation.name": operation,
            "gen_ai.agent.name": "shop",
            "gen_ai.conversation.id": turns[-1].session,
            "user.id": USER,
        }

    def traced(name: str) -> Callable[..., str]:
        def call(**arguments: str) -> str:
            attributes = {
                **common("execute_tool"),
                "gen_ai.tool.name": name,
                "gen_ai.tool.call.arguments": json.dumps(arguments),
            }
            with tracer.start_as_current_span(
                f"execute_tool {name}", attributes=attributes
            ) as span:
                result = FUNCTIONS[name](**arguments)
                span.set_attribute("gen_ai.tool.call.result", result)
                return result

        return call

    tools = {name: traced(name) for name in FUNCTIONS}

    def answer(turn: Turn) -> str:
        attributes = common("invoke_agent")
        with tracer.start_as_current_span("invoke_agent shop", attributes=attributes):
            return converse(client, turn, tools)

    return answer


def stamped(made: Any) -> None:
    """Have every span say session and user, for frameworks that have no place for them."""
    from opentelemetry.sdk.trace import SpanProcessor

    class Stamp(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            if turns:
                span.set_attributes({"session.id": turns[-1].session, "user.id": USER})

    made.add_span_processor(Stamp())


def finished(work: Any) -> Any:
    """Result of a coroutine; all run in one loop, since clients keep their connections in it."""
    return _LOOP.run_until_complete(work)


_LOOP = asyncio.new_event_loop()


def main(answer: Answer, flush: Callable[[], object], **more: object) -> None:
    """Have every turn of every scenario answered, flush telemetry, print the book."""
    behind = "opentelemetry-instrumentation-asgi" in {d.name for d in distributions()}
    for scenario in SCENARIOS:
        if scenario.get("web") and not behind:
            continue
        history: list[dict[str, str]] = []
        for said in scenario["turns"]:
            name = scenario["name"]
            session = f"{NAME}/{name.replace(' ', '-')}"
            turn = Turn(said, session, name, bool(scenario.get("stream")), history[:])
            turns.append(turn)
            (_serve if scenario.get("web") else _answer)(answer, turn)
            if turn.answer:
                history += [
                    {"role": "user", "content": said},
                    {"role": "assistant", "content": turn.answer},
                ]
    flush()
    book = [{**vars(turn), "history": None} for turn in turns]
    json.dump({"turns": book, **more}, sys.stdout)


def _answer(answer: Answer, turn: Turn) -> None:
    try:
        turn.answer = answer(turn)
    except Exception as error:  # whatever a framework raises: the run has failed
        turn.error = f"{type(error).__name__}: {error}"


def _serve(answer: Answer, turn: Turn) -> None:
    """Answer behind the published middleware of web servers, between health checks.

    Whatever happens, the server says 200.
    """
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/chat":
            await asyncio.to_thread(_answer, answer, turn)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def requests() -> None:
        served = OpenTelemetryMiddleware(app)
        for path in ("/healthz", "/chat", "/healthz"):
            await served(
                {
                    "type": "http", "method": "POST", "path": path, "scheme": "http",
                    "http_version": "1.1", "query_string": b"", "headers": [],
                    "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 4000),
                },
                _nothing, _nothing,
            )  # fmt: skip

    asyncio.run(requests())


async def _nothing(_: Any = None) -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}
