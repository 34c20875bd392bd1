"""The published clients that are run, and what each does not say.

``python -m tests.clients.senders`` writes the table of the README.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Client:
    """A published client, and what it leaves out.

    Attributes
    ----------
    name
        Of its lock, and of the service that it says it is.
    title
        What people call it; ``package`` is the one whose version is told.
    omits
        What it does not say, perhaps only "when streaming" or "unless streaming".
    agent
        The agent that its interactions belong to.
    named_by_process
        Whether the process says whose all of it is, for frameworks that name their agents alike.
    version
        What its version is; None leaves driftline to compute one.
    model
        What it says where it does not say which model answered.
    counts_reasoning_twice
        Whether tokens of reasoning come on top of the output that has them.
    ends_with
        A tool of its own by which it gives the answer.
    """

    name: str
    title: str
    package: str
    script: str
    agent: str
    omits: frozenset[str] = frozenset()
    named_by_process: bool = False
    version: str | None = "2026.11"
    model: str = "stub-1"
    ends_with: str = ""
    counts_reasoning_twice: bool = False
    note: str = ""

    @property
    def environment(self) -> Path:
        return HERE / f"env-{self.name}"

    @property
    def is_built(self) -> bool:
        return (self.environment / ".built").exists()

    @property
    def program(self) -> Path | str:
        return "node" if self.script.endswith(".mjs") else self.environment / "bin" / "python"

    @property
    def tested(self) -> str:
        """Version of the package in the lock."""
        locks = HERE / "locks"
        if self.script.endswith(".mjs"):
            lock = json.loads((locks / self.name / "package-lock.json").read_text())
            return str(lock["packages"][f"node_modules/{self.package}"]["version"])
        lock = (locks / f"{self.name}.txt").read_text()
        return re.findall(rf"^{re.escape(self.package)}==(\S+)", lock, re.MULTILINE)[0]

    def lacks(self, what: str, streaming: bool = False) -> bool:
        """Tell whether it leaves something out."""
        condition = "when streaming" if streaming else "unless streaming"
        return not self.omits.isdisjoint({what, f"{what} {condition}"})

    def arguments(self, given: Any) -> str:
        """Arguments to be compared: their values alone where the sender names none."""
        if self.lacks("argument names") and isinstance(given, dict):
            given = " ".join(str(value) for value in given.values())
        return json.dumps(given, sort_keys=True)


def _without(*omitted: str) -> frozenset[str]:
    return frozenset(omitted)


CLIENTS = [
    Client("openinference_openai", "OpenInference, OpenAI client",
           "openinference-instrumentation-openai", "openinference_openai_agent.py",
           "openinference_openai", version=None),
    Client("otlp_json", "the same over OTLP JSON", "opentelemetry-exporter-otlp-json-http",
           "openinference_openai_agent.py", "otlp_json", version=None),
    Client("openinference_agents", "OpenInference, OpenAI Agents SDK",
           "openinference-instrumentation-openai-agents", "openinference_agents_agent.py",
           "openinference_agents",
           _without("answering model", "cached unless streaming", "first token",
                    "reasoning unless streaming"),
           named_by_process=True, version=None, note="hands over to another agent"),
    Client("opentelemetry_openai", "OpenTelemetry, OpenAI client",
           "opentelemetry-instrumentation-openai-v2", "opentelemetry_openai_agent.py",
           "shop", _without("cached", "reasoning", "first token"),
           note="agent and tools are the program's own spans"),
    Client("traceloop", "Traceloop SDK", "traceloop-sdk", "traceloop_agent.py", "shop",
           _without("reasoning when streaming")),
    Client("pydantic_ai", "Pydantic AI", "pydantic-ai-slim", "pydantic_ai_agent.py",
           "shop", _without("user", "version of a call that fails"), version=None),
    Client("strands", "Strands Agents", "strands-agents", "strands_agent.py", "shop",
           _without("answering model", "reasoning"), version="1.62.0",
           note="gives its own version as that of the service"),
    Client("aisdk5", "Vercel AI SDK 5", "ai", "aisdk5.mjs", "aisdk5",
           _without("cached unless streaming", "reasoning unless streaming")),
    Client("aisdk7", "Vercel AI SDK 7", "ai", "aisdk7.mjs", "aisdk7",
           _without("reasoning"), note="session and user from the runtime context"),
    Client("mastra", "Mastra", "@mastra/core", "mastra.mjs", "shop",
           _without("environment"), version="1.71.0",
           note="gives its own version as that of the service"),
    Client("langgraph", "LangGraph and LangChain by OpenInference",
           "openinference-instrumentation-langchain", "langgraph_agent.py", "shop",
           _without("first token", "argument names"),
           note="names no argument of a tool that has one"),
    Client("smolagents", "smolagents by OpenInference", "openinference-instrumentation-smolagents",
           "smolagents_agent.py", "smolagents",
           _without("answering model", "cached", "reasoning", "first token"),
           ends_with="final_answer",
           note="the span of a run that raises is never sent; a printed response is not read"),
    Client("langfuse", "Langfuse SDK", "langfuse", "langfuse_agent.py", "shop"),
    Client("llama_index", "LlamaIndex by OpenInference",
           "openinference-instrumentation-llama-index", "llama_index_agent.py", "llama_index",
           _without("answering model", "duration when streaming"),
           note="a streamed call's span ends before its first token"),
    Client("google_adk", "Google ADK", "google-adk", "google_adk_agent.py", "shop",
           _without("answering model", "first token", "user"), model="openai/stub-1",
           counts_reasoning_twice=True,
           note="its output of models over LiteLLM counts reasoning twice"),
    Client("litellm", "LiteLLM", "litellm", "litellm_agent.py", "shop",
           _without("answering model when streaming", "first token"),
           note="agent and tools are the program's own spans"),
    Client("mlflow", "MLflow Tracing", "mlflow-tracing", "mlflow_agent.py", "shop",
           note="session and user as attributes of the program's own"),
    Client("semantic_kernel", "Semantic Kernel", "semantic-kernel", "semantic_kernel_agent.py",
           "shop", _without("answering model", "cached", "reasoning", "first token"),
           note="session and user as attributes of the program's own"),
    Client("crewai", "CrewAI by OpenInference", "openinference-instrumentation-crewai",
           "crewai_agent.py", "crewai", note="model calls by its sister of the OpenAI client"),
]  # fmt: skip


def table() -> str:
    """Rows of the README: who was run, and what it does not say."""
    rows = ["| client (version tested) | does not say | |", "|---|---|---|"]
    for client in CLIENTS:
        omitted = ", ".join(sorted(client.omits)) or "-"
        computed = "" if client.version else "no version: it is computed"
        note = "; ".join(filter(None, (client.note, computed)))
        rows.append(f"| {client.title} {client.tested} | {omitted} | {note} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
