"""A program model and emitters: what an agent did, and how each sender would tell it.

The right values of the matrix come from the program alone. Emitters are written after the senders'
own sources and use nothing of the translation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

T0 = 1_795_893_308_000_000_000
MS = 1_000_000


@dataclass(frozen=True)
class Tool:
    name: str = "find_order"
    arguments: str = '{"order": "A-17"}'
    result: str = '{"state": "sent"}'
    error: str | None = None


@dataclass(frozen=True)
class Call:
    """A model call: tokens with cached ones inside, and the answer unless it asks for a tool."""

    input: int = 120
    output: int = 18
    cached: int = 20
    answer: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Program:
    """One run of an agent."""

    agent: str = "shop-agent"
    session: str = "s-1"
    user: str = "u-9"
    model: str = "gpt-4o-mini"
    asked: str = "Where is my order?"
    steps: tuple[Call | Tool, ...] = (
        Call(),
        Tool(),
        Call(180, 24, 100, answer="It is on its way."),
    )
    crash: str | None = None

    @property
    def calls(self) -> list[Call]:
        return [step for step in self.steps if isinstance(step, Call)]

    @property
    def tools(self) -> list[Tool]:
        return [step for step in self.steps if isinstance(step, Tool)]

    @property
    def answer(self) -> str | None:
        return None if self.crash else self.calls[-1].answer


@dataclass
class Emitted:
    """A span or, with ``log``, a log record in neutral terms."""

    name: str
    attributes: dict[str, Any]
    id: str = ""
    parent: str | None = None
    kind: int = 1
    start: int = T0
    end: int = T0 + 50 * MS
    error: tuple[str, str] | None = None
    log: bool = False
    body: Any = None
    trace: str = "4" * 32
    exceptions: list[dict[str, Any]] = field(default_factory=list)
    scope: str = "sender"


Emitter = Callable[[Program], list[Emitted]]
EMITTERS: dict[str, Emitter] = {}


def sender(name: str) -> Callable[[Emitter], Emitter]:
    def keep(emitter: Emitter) -> Emitter:
        EMITTERS[name] = emitter
        return emitter

    return keep


def tree(
    program: Program,
    root: tuple[str, dict[str, Any]],
    call: Callable[[Call, list[dict[str, Any]]], tuple[str, dict[str, Any]]],
    tool: Callable[[Tool], tuple[str, dict[str, Any]]],
) -> list[Emitted]:
    """A run with its calls and tools below it, in the order in which spans end."""
    ids = (f"{n:016x}" for n in count(0xA1))
    top = next(ids)
    spans = []
    at = T0 + MS
    for step, (name, attributes) in _told(program, call, tool):
        error = None if step.error is None else ("RuntimeError", step.error)
        spans.append(Emitted(name, attributes, next(ids), top, 1, at, at + 40 * MS, error))
        at += 50 * MS
    crash = None if program.crash is None else ("RuntimeError", program.crash)
    spans.append(Emitted(*root, top, None, 1, T0, at, crash))
    return spans


def _told(program: Program, call: Any, tool: Any) -> Iterator[tuple[Any, Any]]:
    history: list[dict[str, Any]] = [
        {"role": "system", "content": "You sell shoes."},
        {"role": "user", "content": program.asked},
    ]
    for step in program.steps:
        if isinstance(step, Tool):
            yield step, tool(step)
            history.append({"role": "tool", "content": step.result})
        else:
            yield step, call(step, list(history))
            history.append({"role": "assistant", "content": step.answer or "", **_asks(step)})


def _asks(call: Call) -> dict[str, Any]:
    function = {"name": "find_order", "arguments": "{}"}
    return {} if call.answer else {"tool_calls": [{"id": "1", "function": function}]}


def parts(messages: list[dict[str, Any]]) -> str:
    """Messages as the semantic conventions write them."""
    kinds = {"tool": "tool_call_response"}
    return json.dumps(
        [
            {
                "role": m["role"],
                "parts": [{"type": kinds.get(m["role"], "text"), "content": m["content"]}]
                + [{"type": "tool_call", "name": "find_order"}] * ("tool_calls" in m),
            }
            for m in messages
        ]
    )


def reply(call: Call) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": call.answer or "", **_asks(call)}]


def answered(call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """What only an answered call says."""
    return {} if call.error else values


@sender("gen_ai")
def gen_ai(p: Program) -> list[Emitted]:
    def call(c: Call, history: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        return f"chat {p.model}", {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": p.model,
            "gen_ai.input.messages": parts(history),
            **answered(c, {
                "gen_ai.usage.input_tokens": c.input,
                "gen_ai.usage.output_tokens": c.output,
                "gen_ai.usage.cache_read.input_tokens": c.cached,
                "gen_ai.output.messages": parts(reply(c)),
            }),
        }  # fmt: skip

    def tool(t: Tool) -> tuple[str, dict[str, Any]]:
        return f"execute_tool {t.name}", {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": t.name,
            "gen_ai.tool.call.arguments": t.arguments,
            "gen_ai.tool.call.result": t.result,
        }

    return tree(p, (f"invoke_agent {p.agent}", _gen_ai_root(p)), call, tool)


def _gen_ai_root(p: Program) -> dict[str, Any]:
    root = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": p.agent,
        "gen_ai.conversation.id": p.session,
        "user.id": p.user,
        "gen_ai.input.messages": parts([{"role": "user", "content": p.asked}]),
        "gen_ai.usage.input_tokens": sum(c.input for c in p.calls),
        "gen_ai.usage.output_tokens": sum(c.output for c in p.calls),
    }
    if p.answer:
        root["gen_ai.output.messages"] = parts([{"role": "assistant", "content": p.answer}])
    return root


@sender("openllmetry")
def openllmetry(p: Program) -> list[Emitted]:
    same = {
        "traceloop.association.properties.session_id": p.session,
        "traceloop.association.properties.user_id": p.user,
        "traceloop.workflow.name": p.agent,
    }

    def call(c: Call, history: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        flat = {
            f"gen_ai.prompt.{n}.{key}": m[key]
            for n, m in enumerate(history)
            for key in ("role", "content")
        }
        told = {"gen_ai.completion.0.role": "assistant"}
        if c.answer:
            told["gen_ai.completion.0.content"] = c.answer
        else:
            told["gen_ai.completion.0.tool_calls.0.name"] = "find_order"
        return "openai.chat", {
            **same, "llm.request.type": "chat", "gen_ai.request.model": p.model, **flat,
            **answered(c, {
                "gen_ai.usage.prompt_tokens": c.input,
                "gen_ai.usage.completion_tokens": c.output,
                "gen_ai.usage.cache_read_input_tokens": c.cached,
                **told,
            }),
        }  # fmt: skip

    def tool(t: Tool) -> tuple[str, dict[str, Any]]:
        return f"{t.name}.tool", {
            **same,
            "traceloop.span.kind": "tool",
            "traceloop.entity.name": t.name,
            "traceloop.entity.input": t.arguments,
            "traceloop.entity.output": t.result,
        }

    root = {
        **same,
        "traceloop.span.kind": "workflow",
        "traceloop.entity.name": p.agent,
        "traceloop.entity.input": json.dumps({"args": [p.asked], "kwargs": {}}),
    }
    if p.answer:
        root["traceloop.entity.output"] = json.dumps(p.answer)
    return tree(p, (f"{p.agent}.workflow", root), call, tool)


@sender("openinference langgraph")
def langgraph(p: Program) -> list[Emitted]:
    about = {"session.id": p.session, "user.id": p.user}
    node = json.dumps({"lc_agent_name": p.agent, "langgraph_node": "model", "thread_id": p.session})

    def call(c: Call, history: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        heard = {
            f"llm.input_messages.{n}.message.{key}": m[key]
            for n, m in enumerate(history)
            for key in ("role", "content")
        }
        told = {"llm.output_messages.0.message.role": "assistant"}
        if c.answer:
            told["llm.output_messages.0.message.content"] = c.answer
        else:
            name = "llm.output_messages.0.message.tool_calls.0.tool_call.function.name"
            told[name] = "find_order"
        return "ChatOpenAI", {
            **about, "openinference.span.kind": "LLM", "metadata": node,
            "llm.model_name": p.model, **heard,
            **answered(c, {
                "llm.token_count.prompt": c.input,
                "llm.token_count.completion": c.output,
                "llm.token_count.prompt_details.cache_read": c.cached,
                **told,
            }),
        }  # fmt: skip

    def tool(t: Tool) -> tuple[str, dict[str, Any]]:
        wrapped = {"type": "tool", "data": {"content": t.result, "status": "success"}}
        return t.name, {
            **about, "openinference.span.kind": "TOOL", "tool.name": t.name, "metadata": node,
            "input.value": t.arguments, "output.value": json.dumps(wrapped),
        }  # fmt: skip

    thread: list[dict[str, Any]] = [
        {"type": "human", "data": {"content": "An older question"}},
        {"type": "ai", "data": {"content": "An older answer"}},
        {"type": "human", "data": {"content": p.asked}},
    ]
    root: dict[str, Any] = {
        **about,
        "openinference.span.kind": "CHAIN",
        "metadata": json.dumps({"lc_agent_name": p.agent, "thread_id": p.session}),
        "input.value": json.dumps({"messages": thread}),
    }
    if p.answer:
        thread.append({"type": "ai", "data": {"content": p.answer, "tool_calls": []}})
        root["output.value"] = json.dumps({"messages": thread})
    return tree(p, (p.agent, root), call, tool)


@sender("openinference agent")
def openinference(p: Program) -> list[Emitted]:
    spans = langgraph(p)
    for span in spans:
        span.attributes.pop("metadata", None)
    spans[-1].attributes |= {
        "openinference.span.kind": "AGENT",
        "agent.name": p.agent,
        "input.value": json.dumps({"task": p.asked}),
        "llm.token_count.prompt": 999,
    }
    if p.answer:
        spans[-1].attributes["output.value"] = p.answer
    return spans


@sender("ai sdk 5")
def ai_sdk(p: Program) -> list[Emitted]:
    same = {
        "ai.telemetry.functionId": p.agent,
        "ai.telemetry.metadata.sessionId": p.session,
        "ai.telemetry.metadata.userId": p.user,
    }

    def call(c: Call, history: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        kinds = {"tool": "tool-result"}
        said = [
            {"role": m["role"], "content": [
                {"type": kinds.get(m["role"], "text"), "text": m["content"]}]}
            for m in history
        ]  # fmt: skip
        told = {"ai.response.text": c.answer} if c.answer else {"ai.response.toolCalls": "[]"}
        return "ai.generateText.doGenerate", {
            **same, "ai.operationId": "ai.generateText.doGenerate", "ai.model.id": p.model,
            "ai.prompt.messages": json.dumps(said), "gen_ai.request.model": p.model,
            **answered(c, {
                "ai.usage.inputTokens": c.input,
                "ai.usage.outputTokens": c.output,
                "ai.usage.cachedInputTokens": c.cached,
                "gen_ai.usage.input_tokens": c.input,
                "gen_ai.usage.output_tokens": c.output,
                **told,
            }),
        }  # fmt: skip

    def tool(t: Tool) -> tuple[str, dict[str, Any]]:
        return "ai.toolCall", {
            **same,
            "ai.operationId": "ai.toolCall",
            "ai.toolCall.name": t.name,
            "ai.toolCall.args": t.arguments,
            "ai.toolCall.result": t.result,
        }

    root = {
        **same,
        "ai.operationId": "ai.generateText",
        "ai.model.id": p.model,
        "ai.prompt": json.dumps({"system": "You sell shoes.", "prompt": p.asked}),
        "ai.usage.inputTokens": 9999,
        "ai.usage.outputTokens": 9999,
    }
    if p.answer:
        root["ai.response.text"] = p.answer
    return tree(p, ("ai.generateText", root), call, tool)


@sender("ai sdk 7")
def ai_sdk_7(p: Program) -> list[Emitted]:
    spans = gen_ai(p)
    for span in spans:
        span.attributes["gen_ai.agent.name"] = p.agent
    step = Emitted("step 1", {"gen_ai.operation.name": "agent_step"}, "ee" * 8, spans[-1].id)
    return [*spans[:-1], step, spans[-1]]


@sender("langfuse")
def langfuse(p: Program) -> list[Emitted]:
    same = {"session.id": p.session, "user.id": p.user, "langfuse.environment": "production"}

    def call(c: Call, history: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        usage = {
            "prompt_tokens": c.input,
            "completion_tokens": c.output,
            "prompt_tokens_details": {"cached_tokens": c.cached},
        }
        output: Any = c.answer or json.dumps(reply(c)[0])
        return "OpenAI-generation", {
            **same, "langfuse.observation.type": "generation",
            "langfuse.observation.input": json.dumps(history),
            "langfuse.observation.model.name": p.model,
            **answered(c, {
                "langfuse.observation.usage_details": json.dumps(usage),
                "langfuse.observation.output": output,
            }),
        }  # fmt: skip

    def tool(t: Tool) -> tuple[str, dict[str, Any]]:
        given = {"args": [], "kwargs": json.loads(t.arguments)}
        return t.name, {
            **same,
            "langfuse.observation.type": "tool",
            "langfuse.observation.input": json.dumps(given),
            "langfuse.observation.output": t.result,
        }

    root = {
        **same,
        "langfuse.observation.type": "agent",
        "langfuse.internal.is_app_root": True,
        "langfuse.observation.input": json.dumps({"args": [p.asked], "kwargs": {"n": 1}}),
    }
    if p.answer:
        root["langfuse.observation.output"] = p.answer
    return tree(p, (p.agent, root), call, tool)


@sender("mlflow")
def mlflow(p: Program) -> list[Emitted]:
    def call(c: Call, history: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        usage = {"input_tokens": c.input, "output_tokens": c.output,
                 "cache_read_input_tokens": c.cached}  # fmt: skip
        return "Completions", {
            "mlflow.spanType": '"CHAT_MODEL"', "mlflow.llm.model": json.dumps(p.model),
            "mlflow.spanInputs": json.dumps({"messages": history, "model": p.model}),
            **answered(c, {
                "mlflow.chat.tokenUsage": json.dumps(usage),
                "mlflow.spanOutputs": json.dumps({"choices": [{"message": reply(c)[0]}]}),
            }),
        }  # fmt: skip

    def tool(t: Tool) -> tuple[str, dict[str, Any]]:
        return t.name, {
            "mlflow.spanType": '"TOOL"',
            "mlflow.spanInputs": t.arguments,
            "mlflow.spanOutputs": t.result,
        }

    root = {
        "mlflow.spanType": '"AGENT"',
        "session.id": p.session,
        "user.id": p.user,
        "mlflow.spanInputs": json.dumps({"question": p.asked}),
    }
    if p.answer:
        root["mlflow.spanOutputs"] = json.dumps(p.answer)
    return tree(p, (p.agent, root), call, tool)


@sender("spring ai")
def spring_ai(p: Program) -> list[Emitted]:
    def call(c: Call, history: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        return f"chat {p.model}", {
            "gen_ai.operation.name": "chat", "gen_ai.request.model": p.model,
            "gen_ai.system": "openai",
            **answered(c, {
                "gen_ai.usage.input_tokens": str(c.input),
                "gen_ai.usage.output_tokens": str(c.output),
                "gen_ai.usage.cache_read.input_tokens": str(c.cached),
            }),
        }  # fmt: skip

    def tool(t: Tool) -> tuple[str, dict[str, Any]]:
        return f"tool_call {t.name}", {
            "gen_ai.operation.name": "framework",
            "spring.ai.kind": "tool_call",
            "spring.ai.tool.definition.name": t.name,
            "spring.ai.tool.call.arguments": t.arguments,
            "spring.ai.tool.call.result": t.result,
        }

    root = {
        "gen_ai.operation.name": "framework",
        "spring.ai.kind": "chat_client",
        "gen_ai.agent.name": p.agent,
        "user.id": p.user,
        "spring.ai.chat.client.conversation.id": p.session,
        "spring.ai.chat.client.user.text": p.asked,
    }
    if p.answer:
        root["gen_ai.completion"] = p.answer
    return tree(p, ("spring_ai chat_client", root), call, tool)


@sender("mastra")
def mastra(p: Program) -> list[Emitted]:
    def call(c: Call, history: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        return f"chat {p.model}", {
            "mastra.span.type": "model_generation", "gen_ai.operation.name": "chat",
            "gen_ai.request.model": p.model,
            "gen_ai.prompt": json.dumps({"messages": history}),
            **answered(c, {
                "gen_ai.usage.input_tokens": c.input,
                "gen_ai.usage.output_tokens": c.output,
                "gen_ai.usage.cached_input_tokens": c.cached,
                "gen_ai.completion": json.dumps({"messages": reply(c)}),
            }),
        }  # fmt: skip

    def tool(t: Tool) -> tuple[str, dict[str, Any]]:
        return f"tool.execute {t.name}", {
            "mastra.span.type": "tool_call",
            "gen_ai.operation.name": "tool.execute",
            "gen_ai.tool.name": t.name,
            "gen_ai.tool.input": t.arguments,
            "gen_ai.tool.output": t.result,
        }

    root = {
        "mastra.span.type": "agent_run",
        "gen_ai.operation.name": "agent.run",
        "gen_ai.agent.id": p.agent,
        "sessionId": p.session,
        "userId": p.user,
        "input": json.dumps([{"role": "user", "content": p.asked}]),
    }
    if p.answer:
        root["output"] = json.dumps({"text": p.answer, "files": []})
    return tree(p, (f"agent.{p.agent}", root), call, tool)


@sender("mastra exporter")
def mastra_exporter(p: Program) -> list[Emitted]:
    """Calls below a generation that is the loop around them and has a span kind of their name."""
    spans = gen_ai(p)
    loop = Emitted(
        "model_generation",
        {"mastra.span.type": "model_generation", "gen_ai.operation.name": "model_generation"},
        "ab" * 8,
        spans[-1].id,
    )
    for span in spans[:-1]:
        is_call = span.attributes["gen_ai.operation.name"] == "chat"
        span.attributes["mastra.span.type"] = "model_inference" if is_call else "tool_call"
        span.parent = loop.id
    root = spans[-1].attributes
    root["mastra.span.type"] = "agent_run"
    root["mastra.metadata.sessionId"] = root.pop("gen_ai.conversation.id")
    root["mastra.metadata.userId"] = root.pop("user.id")
    root["mastra.agent_run.input"] = root.pop("gen_ai.input.messages")
    if "gen_ai.output.messages" in root:
        root["mastra.agent_run.output"] = root.pop("gen_ai.output.messages")
    return [*spans[:-1], loop, spans[-1]]


@sender("pydantic ai 2")
def pydantic_ai(p: Program) -> list[Emitted]:
    spans = gen_ai(p)
    for span in spans:
        span.scope = "pydantic-ai"
        told = span.attributes
        if told["gen_ai.operation.name"] == "execute_tool":
            span.name = "running tool"
            span.attributes = {
                "gen_ai.tool.name": told["gen_ai.tool.name"],
                "tool_arguments": told["gen_ai.tool.call.arguments"],
                "tool_response": told["gen_ai.tool.call.result"],
            }
    root = spans[-1]
    heard = [{"role": "user", "content": "Before?"}, {"role": "assistant", "content": "Yes."}]
    root.name = "agent run"
    root.attributes = {
        "model_name": p.model,
        "agent_name": p.agent,
        "session.id": p.session,
        "user.id": p.user,
        "gen_ai.usage.input_tokens": 999,
        "gen_ai.usage.output_tokens": 999,
        "pydantic_ai.all_messages": parts([*heard, {"role": "user", "content": p.asked}]),
    }
    if p.answer:
        root.attributes["final_result"] = p.answer
    return spans


@sender("livekit")
def livekit(p: Program) -> list[Emitted]:
    names = {"chat": "llm_request", "execute_tool": "function_tool", "invoke_agent": "agent_turn"}
    spans = gen_ai(p)
    for span in spans:
        span.scope = "livekit-agents"
        told = span.attributes
        span.name = names[told.pop("gen_ai.operation.name")]
        for name, said in (
            ("gen_ai.tool.name", "lk.function_tool.name"),
            ("gen_ai.tool.call.arguments", "lk.function_tool.arguments"),
            ("gen_ai.tool.call.result", "lk.function_tool.output"),
        ):
            if name in told:
                told[said] = told.pop(name)
    root = spans[-1].attributes
    del root["gen_ai.input.messages"]
    root["lk.user_input"] = p.asked
    if p.answer:
        del root["gen_ai.output.messages"]
        root["lk.response.text"] = p.answer
    session = Emitted("agent_session", {"lk.agent_label": "x"}, "ef" * 8, scope="livekit-agents")
    spans[-1].parent = session.id
    return [session, *spans]


@sender("agentops")
def agentops(p: Program) -> list[Emitted]:
    kinds = {"workflow": "agent", "tool": "tool"}
    spans = openllmetry(p)
    for span in spans:
        told = span.attributes
        span.attributes = {
            name.replace("traceloop.entity.", "agentops.entity."): value
            for name, value in told.items()
            if not name.startswith("traceloop.") or name.startswith("traceloop.entity.")
        }
        span.attributes |= {"session.id": p.session, "user.id": p.user}
        span.attributes["agentops.span.kind"] = kinds.get(
            told.get("traceloop.span.kind", ""), "llm"
        )
        span.attributes.pop("llm.request.type", None)
        if "agentops.entity.name" in span.attributes:
            span.attributes["operation.name"] = span.attributes.pop("agentops.entity.name")
    spans[-1].name = f"{p.agent}.agent"
    return spans


@sender("ag2")
def ag2(p: Program) -> list[Emitted]:
    kinds = {"invoke_agent": "agent", "chat": "llm", "execute_tool": "tool"}
    spans = gen_ai(p)
    for span in spans:
        operation = span.attributes.pop("gen_ai.operation.name")
        span.attributes["ag2.span.type"] = kinds[operation]
    return spans


@sender("dify")
def dify(p: Program) -> list[Emitted]:
    kinds = {"invoke_agent": "AGENT", "chat": "LLM", "execute_tool": "TOOL"}
    spans = gen_ai(p)
    for span in spans:
        operation = span.attributes.pop("gen_ai.operation.name")
        span.attributes["gen_ai.span.kind"] = kinds[operation]
    root = spans[-1].attributes
    root["gen_ai.session.id"] = root.pop("gen_ai.conversation.id")
    root["gen_ai.user.id"] = root.pop("user.id")
    return spans


@sender("langsmith")
def langsmith(p: Program) -> list[Emitted]:
    about = {"langsmith.metadata.thread_id": p.session, "langsmith.metadata.user_id": p.user,
             "langsmith.metadata.lc_agent_name": p.agent}  # fmt: skip

    def call(c: Call, history: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        return "ChatOpenAI", {
            **about, "langsmith.span.kind": "llm", "gen_ai.operation.name": "chat",
            "gen_ai.request.model": p.model,
            "gen_ai.prompt": json.dumps({"messages": history}),
            **answered(c, {
                "gen_ai.usage.input_tokens": c.input,
                "gen_ai.usage.output_tokens": c.output,
                "gen_ai.usage.cache_read.input_tokens": c.cached,
                "gen_ai.completion": json.dumps({"choices": [{"message": reply(c)[0]}]}),
            }),
        }  # fmt: skip

    def tool(t: Tool) -> tuple[str, dict[str, Any]]:
        return t.name, {
            **about, "langsmith.span.kind": "tool", "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": t.name, "gen_ai.prompt": t.arguments, "gen_ai.completion": t.result,
        }  # fmt: skip

    root = {
        **about,
        "langsmith.span.kind": "chain",
        "gen_ai.operation.name": "chain",
        "gen_ai.prompt": json.dumps({"input": p.asked}),
    }
    if p.answer:
        root["gen_ai.completion"] = json.dumps({"output": p.answer})
    return tree(p, (p.agent, root), call, tool)


@sender("google adk")
def google_adk(p: Program) -> list[Emitted]:
    def call(c: Call, history: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        roles = {"assistant": "model", "tool": "user"}
        contents = [
            {"role": roles.get(m["role"], m["role"]),
             "parts": [{"function_response": {}} if m["role"] == "tool"
                       else {"text": m["content"]}]}
            for m in history[1:]
        ]  # fmt: skip
        said = {"function_call": {"name": "find_order"}} if c.answer is None else {"text": c.answer}
        return "call_llm", {
            "gen_ai.system": "gcp.vertex.agent", "gen_ai.request.model": p.model,
            "gcp.vertex.agent.session_id": p.session,
            "gcp.vertex.agent.llm_request": json.dumps({"contents": contents}),
            **answered(c, {
                "gen_ai.usage.input_tokens": c.input,
                "gen_ai.usage.output_tokens": c.output,
                "gen_ai.usage.cache_read.input_tokens": c.cached,
                "gcp.vertex.agent.llm_response": json.dumps(
                    {"content": {"role": "model", "parts": [said]}}),
            }),
        }  # fmt: skip

    def tool(t: Tool) -> tuple[str, dict[str, Any]]:
        return f"execute_tool {t.name}", {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": t.name,
            "gcp.vertex.agent.tool_call_args": t.arguments,
            "gcp.vertex.agent.tool_response": t.result,
        }

    root = _gen_ai_root(p)
    spans = tree(p, (f"invoke_agent {p.agent}", root), call, tool)
    merged = Emitted("execute_tool (merged)", {}, "ed" * 8, spans[-1].id)
    return [*spans[:-1], merged, spans[-1]]


@sender("claude code spans")
def claude_spans(p: Program) -> list[Emitted]:
    same = {"session.id": p.session, "user.id": p.user}

    def call(c: Call, history: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        return "claude_code.llm_request", {
            **same, "span.type": "llm_request", "model": p.model, "success": c.error is None,
            **answered(c, {
                "input_tokens": c.input - c.cached,
                "output_tokens": c.output,
                "cache_read_tokens": c.cached,
            }),
        }  # fmt: skip

    def tool(t: Tool) -> tuple[str, dict[str, Any]]:
        return "claude_code.tool", {
            **same, "span.type": "tool", "tool_name": t.name, "tool_parameters": t.arguments,
        }  # fmt: skip

    root = {
        **same,
        "gen_ai.agent.name": p.agent,
        "span.type": "interaction",
        "user_prompt": p.asked,
    }
    return tree(p, ("claude_code.interaction", root), call, tool)


@sender("claude code logs")
def claude_logs(p: Program) -> list[Emitted]:
    same = {"session.id": p.session, "user.id": p.user, "prompt.id": "p-1",
            "gen_ai.agent.name": p.agent}  # fmt: skip
    logs = [_log("claude_code", "user_prompt", {**same, "prompt": p.asked})]
    for step in p.steps:
        if isinstance(step, Tool):
            said = {"tool_name": step.name, "success": str(step.error is None).lower(),
                    "tool_parameters": step.arguments, "duration_ms": "40"}  # fmt: skip
            said |= {} if step.error is None else {"error": step.error}
            logs.append(_log("claude_code", "tool_result", {**same, **said}))
        elif step.error:
            said = {"model": p.model, "error": step.error, "status_code": "529"}
            logs.append(_log("claude_code", "api_error", {**same, **said}))
        else:
            counts = {"model": p.model, "input_tokens": str(step.input - step.cached),
                      "output_tokens": str(step.output), "cache_read_tokens": str(step.cached),
                      "duration_ms": "40"}  # fmt: skip
            logs.append(_log("claude_code", "api_request", {**same, **counts}))
    return logs


@sender("codex logs")
def codex_logs(p: Program) -> list[Emitted]:
    same = {"conversation.id": p.session, "user.account_id": p.user, "model": p.model,
            "gen_ai.agent.name": p.agent}  # fmt: skip
    logs = [_codex("user_prompt", {**same, "prompt": p.asked})]
    for step in p.steps:
        if isinstance(step, Tool):
            said = {"tool_name": step.name, "arguments": step.arguments,
                    "success": str(step.error is None).lower(), "agent_name": "/root",
                    "output": step.error or step.result}  # fmt: skip
            said |= {} if step.error is None else {"error.message": step.error}
            logs.append(_codex("tool_result", {**same, **said}))
        elif step.error:
            said = {"error.message": step.error}
            logs.append(_codex("api_request", {**same, **said}))
        else:
            end = {**same, "event.kind": "response.completed"}
            counts = {"input_token_count": str(step.input), "output_token_count": str(step.output),
                      "cached_token_count": step.cached}  # fmt: skip
            logs.append(_codex("api_request", {**same, "attempt": 1}))
            logs.append(_codex("sse_event", end))
            logs.append(_codex("sse_event", {**end, **counts}))
    return logs


@sender("gemini cli logs")
def gemini_logs(p: Program) -> list[Emitted]:
    same = {"session.id": p.session, "user.id": p.user, "prompt_id": "p-1",
            "gen_ai.agent.name": p.agent}  # fmt: skip
    logs = [_log("gemini_cli", "user_prompt", {**same, "prompt": p.asked}, full=True)]
    for step in p.steps:
        if isinstance(step, Tool):
            said = {"function_name": step.name, "function_args": step.arguments,
                    "success": step.error is None}  # fmt: skip
            said |= {} if step.error is None else {"error": step.error}
            logs.append(_log("gemini_cli", "tool_call", {**same, **said}, full=True))
        elif step.error:
            said = {"model": p.model, "error.message": step.error, "status_code": 529}
            logs.append(_log("gemini_cli", "api_error", {**same, **said}, full=True))
        else:
            counts = {"model": p.model, "input_token_count": step.input,
                      "output_token_count": step.output, "thoughts_token_count": 0,
                      "cached_content_token_count": step.cached}  # fmt: skip
            logs.append(_log("gemini_cli", "api_response", {**same, **counts}, full=True))
    return logs


_numbers = count()


def _codex(name: str, attributes: dict[str, Any]) -> Emitted:
    """A record of Codex CLI, whose own name is a place in its source."""
    given = {**attributes, "event.name": f"codex.{name}"}
    moment = T0 + next(_numbers) * MS
    return Emitted("event otel/src/events/session_telemetry.rs:7", given, log=True, end=moment)


def _log(agent: str, name: str, attributes: dict[str, Any], full: bool = False) -> Emitted:
    whole = f"{agent}.{name}"
    given = {**attributes, "event.name": whole if full else name}
    # Each record at its own moment: only the time tells two equal records apart.
    return Emitted("", given, log=True, body=whole, end=T0 + next(_numbers) * MS)
