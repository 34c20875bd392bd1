"""Generated results of a fleet of agents, with seasons, deployments and scheduled incidents.

One row is one interaction, as `processors.stations.base.RESULTS` has it. Everything is drawn from a
seed and the hour, so an hour is the same whatever was drawn before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl

from processors.stations.base import RESULTS

HOUR: Final = 3600
START: Final = 1_767_571_200  # Monday 2026-01-05 00:00 UTC

Rows = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Topic:
    """A kind of request: its words and the tools it needs."""

    name: str
    words: tuple[str, ...]
    tools: tuple[str, ...]
    share: float


TOPICS: Final = (
    Topic(
        "order", ("order", "status", "parcel", "tracking", "delivery", "late"),
        ("get_order", "track_parcel"), 0.4,
    ),
    Topic(
        "refund", ("refund", "money", "return", "charge", "broken", "item"),
        ("get_order", "refund_order"), 0.25,
    ),
    Topic(
        "account", ("password", "account", "login", "email", "change", "profile"),
        ("find_user", "update_user"), 0.2,
    ),
    Topic(
        "advice", ("recommend", "compare", "which", "product", "size", "color"),
        ("search_articles",), 0.15,
    ),
)  # fmt: skip
NEW_TOPIC: Final = Topic(
    "warranty", ("warranty", "insurance", "claim", "certificate", "repair", "inspector"),
    ("search_articles",), 1.0,
)  # fmt: skip
COMMON: Final = ("please", "help", "with", "the", "about", "need", "today", "would", "like", "have")


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent of the fleet; ``per_hour`` at the busiest hour."""

    name: str
    per_hour: float
    model: str
    failure: float = 0.04
    season: float = 0.6
    version: str = "v1"


FLEET: Final = (
    Agent("support", 900, "gpt-4.1"),
    Agent("retail", 700, "claude-sonnet-4-5", failure=0.06),
    Agent("research", 350, "gpt-4.1", failure=0.03),
    Agent("booking", 500, "claude-sonnet-4-5", failure=0.08, season=0.8),
    Agent("billing", 250, "gemini-2.5-pro", failure=0.02),
    Agent("coding", 600, "gpt-4.1", failure=0.10, season=0.4),
)


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that goes wrong from ``start`` (s) to ``end``, and what its true cause is.

    Attributes
    ----------
    kind
        Key of `KINDS`.
    agent
        Whom it hits, '' for all whose model's provider is ``target``.
    target
        Tool, version, model, topic or provider.
    """

    kind: str
    agent: str
    start: int
    end: int
    target: str = ""

    @property
    def cause(self) -> tuple[str, str]:
        """Attribute and value that should come first."""
        return KINDS[self.kind].attribute, self.target or self.agent


@dataclass(frozen=True, slots=True)
class Kind:
    """How an incident changes the rows it hits: ``apply(rows, mask, rng)`` in place."""

    attribute: str
    target: str
    apply: Callable[[Rows, np.ndarray, np.random.Generator, Incident], None]


def _fail(
    rows: Rows,
    hit: np.ndarray,
    reason: str,
    tool: str = "",
    template: str = "",
    *,
    llm: bool = False,
) -> None:
    for i in np.flatnonzero(hit):
        rows["success"][i] = 0
        rows["reasons"][i] = [reason]
        rows["failure_reason"][i], rows["failure_tool"][i] = reason, tool
        rows["failure_template"][i] = template
    if tool:
        rows["tool_errors"][hit] += 1
    if llm:
        rows["llm_errors"][hit] += 1


def _uses(rows: Rows, tool: str) -> np.ndarray:
    return np.array([tool in tools for tools in rows["tools"]], np.bool_)


def _tool_outage(rows: Rows, at: np.ndarray, rng: np.random.Generator, i: Incident) -> None:
    hit = at & _uses(rows, i.target) & (rng.random(at.size) < 0.8)
    _fail(rows, hit, "tool_failed", i.target, f"503 from {i.target}, request <id>")


def _slow_tool(rows: Rows, at: np.ndarray, rng: np.random.Generator, i: Incident) -> None:
    hit = at & _uses(rows, i.target)
    rows["duration_ms"][hit] += 6_000 * rng.lognormal(0, 0.3, int(hit.sum()))


def _wrong_results(rows: Rows, at: np.ndarray, rng: np.random.Generator, i: Incident) -> None:
    """Well-formed but wrong: no error anywhere, users say so half an hour later."""
    hit = at & _uses(rows, i.target) & (rng.random(at.size) < 0.7)
    for n in np.flatnonzero(hit):
        rows["success"][n], rows["success_source"][n] = 0, "outcome"
        rows["reasons"][n], rows["failure_reason"][n] = ["wrong_answer"], "wrong_answer"
        rows["failure_tool"][n] = i.target
    rated = hit & ~np.isnan(rows["satisfaction"])
    rows["satisfaction"][rated] = 0.0


def _model_outage(rows: Rows, at: np.ndarray, rng: np.random.Generator, i: Incident) -> None:
    hit = at & (rng.random(at.size) < 0.5)
    _fail(rows, hit, "model_error", template="529 overloaded, request <id>", llm=True)


def _model_swap(rows: Rows, at: np.ndarray, rng: np.random.Generator, i: Incident) -> None:
    for n in np.flatnonzero(at):
        rows["models"][n] = [i.target]


def _bad_version(rows: Rows, at: np.ndarray, rng: np.random.Generator, i: Incident) -> None:
    for n in np.flatnonzero(at):
        rows["agent_version"][n] = i.target
    _fail(rows, at & (rng.random(at.size) < 0.2), "refusal", template="I cannot help with that")


def _canary(rows: Rows, at: np.ndarray, rng: np.random.Generator, i: Incident) -> None:
    on = at & (rng.random(at.size) < 0.05)
    for n in np.flatnonzero(on):
        rows["agent_version"][n] = i.target
    _fail(rows, on & (rng.random(at.size) < 0.5), "refusal", template="I cannot help with that")


def _prompt(rows: Rows, at: np.ndarray, rng: np.random.Generator, i: Incident) -> None:
    hit = at & np.array([i.target in request for request in rows["request"]], np.bool_)
    _fail(rows, hit & (rng.random(at.size) < 0.5), "incomplete", template="answer left out a step")


def _tail(rows: Rows, at: np.ndarray, rng: np.random.Generator, i: Incident) -> None:
    hit = at & _uses(rows, i.target) & (rng.random(at.size) < 0.12)
    rows["duration_ms"][hit] *= 8


def _tokens(rows: Rows, at: np.ndarray, rng: np.random.Generator, i: Incident) -> None:
    for n in np.flatnonzero(at):
        rows["agent_version"][n] = i.target
    rows["input_tokens"][at] = rows["input_tokens"][at] * 3
    rows["cost_usd"][at] = rows["cost_usd"][at] * 3


def _loop(rows: Rows, at: np.ndarray, rng: np.random.Generator, i: Incident) -> None:
    hit = at & _uses(rows, i.target) & (rng.random(at.size) < 0.4)
    rows["steps"][hit] += rng.integers(10, 30, int(hit.sum()))
    rows["tool_calls"][hit] += 12
    rows["input_tokens"][hit] = rows["input_tokens"][hit] * 4


def _new_request(rows: Rows, at: np.ndarray, rng: np.random.Generator, i: Incident) -> None:
    hit = at & (rng.random(at.size) < 0.3)
    for n in np.flatnonzero(hit):
        rows["request"][n] = _request(NEW_TOPIC, rng)
        rows["tools"][n] = list(NEW_TOPIC.tools)


def _silent(rows: Rows, at: np.ndarray, rng: np.random.Generator, i: Incident) -> None:
    rows["keep"][at] = False


def _health(rows: Rows, at: np.ndarray, rng: np.random.Generator, i: Incident) -> None:
    for n in np.flatnonzero(at):
        rows["agent_version"][n] = i.target
    rows["input_tokens"][at] = np.nan
    rows["cost_usd"][at] = np.nan


KINDS: Final[dict[str, Kind]] = {
    "tool_outage": Kind("tool", "get_order", _tool_outage),
    "slow_tool": Kind("tool", "search_articles", _slow_tool),
    "wrong_tool_results": Kind("tool", "refund_order", _wrong_results),
    "model_outage": Kind("model", "gpt-4.1", _model_outage),
    "silent_model_swap": Kind("model", "gpt-4.1-mini", _model_swap),
    "bad_version": Kind("agent_version", "v2-bad", _bad_version),
    "canary": Kind("agent_version", "v2-canary", _canary),
    "prompt_regression": Kind("topic", "refund", _prompt),
    "latency_tail": Kind("tool", "track_parcel", _tail),
    "cost_explosion": Kind("agent_version", "v2-costly", _tokens),
    "loop": Kind("tool", "update_user", _loop),
    "new_request": Kind("topic", "warranty", _new_request),
    "silent_agent": Kind("agent", "", _silent),
    "provider_outage": Kind("provider", "anthropic", _model_outage),
    "data_health": Kind("agent_version", "v2-untracked", _health),
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """A harmless new version of an agent from ``at`` (s) on, rolled out over an hour."""

    agent: str
    at: int
    version: str


@dataclass(frozen=True, slots=True)
class World:
    """A fleet with everything that happens to it."""

    seed: int
    agents: tuple[Agent, ...] = FLEET
    incidents: tuple[Incident, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    growth: float = 0.05  # traffic per week
    scale: float = 1.0

    def hour(self, start: int) -> pl.DataFrame:
        """Results decided in the hour from ``start`` (s) on, in order of time and id."""
        parts = [self._agent(n, agent, start) for n, agent in enumerate(self.agents)]
        rows = pl.concat(parts)
        return rows.sort("decided", "interaction_id")

    def _agent(self, number: int, agent: Agent, start: int) -> pl.DataFrame:
        rng = np.random.default_rng([self.seed, number, start // HOUR])
        n = rng.poisson(agent.per_hour * self.scale * self._traffic(agent, start))
        rows = _ordinary(agent, start, int(n), rng)
        rows["agent_version"] = self._versions(agent, rows["at"], rng)
        for incident in self.incidents:
            if self._hits(incident, agent):
                during = (rows["at"] >= incident.start) & (rows["at"] < incident.end)
                KINDS[incident.kind].apply(rows, during, rng, incident)
        return _frame(rows)

    def _traffic(self, agent: Agent, start: int) -> float:
        hour = (start // HOUR) % 24
        day = (start - START) // 86_400 % 7
        wave = 1 - agent.season * (0.5 + 0.5 * np.cos((hour - 15) / 24 * 2 * np.pi + np.pi))
        weekend = 0.6 if day >= 5 else 1.0
        return float(wave * weekend * (1 + self.growth) ** ((start - START) / (7 * 86_400)))

    def _versions(self, agent: Agent, at: np.ndarray, rng: np.random.Generator) -> list[str]:
        chance = rng.random(at.size)
        versions = np.full(at.size, agent.version, dtype=object)
        for deployment in self.deployments:
            if deployment.agent == agent.name:
                progress = np.clip((at - deployment.at) / HOUR, 0, 1)
                versions[chance < progress] = deployment.version
        return list(versions)

    @staticmethod
    def _hits(incident: Incident, agent: Agent) -> bool:
        if incident.kind == "provider_outage":
            return agent.model.startswith("claude")
        return incident.agent == agent.name


def _request(topic: Topic, rng: np.random.Generator) -> str:
    words = [*rng.choice(topic.words, 4), *rng.choice(COMMON, 4)]
    return " ".join([topic.words[0], *words])


def _ordinary(agent: Agent, start: int, n: int, rng: np.random.Generator) -> Rows:
    at = np.sort(rng.integers(start // 10, start // 10 + 360, n) * 10)
    kinds = rng.choice(len(TOPICS), n, p=[t.share for t in TOPICS])
    hour = (start // HOUR) % 24
    # A little harder at night, as real traffic is.
    failure = agent.failure * (1 + 0.15 * np.cos((hour - 3) / 24 * 2 * np.pi))
    failed = rng.random(n) < failure
    tools = [list(TOPICS[k].tools) for k in kinds]
    tokens = rng.lognormal(7.5, 0.6, n)
    rated = rng.random(n) < 0.15
    reasons = rng.choice(["tool_failed", "incomplete", "refusal"], n, p=[0.5, 0.3, 0.2])
    templates = {
        "tool_failed": "timeout after <num> ms",
        "incomplete": "missing field",
        "refusal": "not allowed",
    }
    rows: Rows = {
        "at": at,
        "interaction_id": [f"{agent.name}-{start // HOUR}-{i}" for i in range(n)],
        "keep": np.ones(n, np.bool_),
        "agent": agent.name,
        "session_id": [f"{agent.name}-s{start // HOUR}-{i // 2}" for i in range(n)],
        "user_id": [f"u{u}" for u in rng.integers(0, 4_000, n)],
        "duration_ms": rng.lognormal(8, 0.7, n),
        "time_to_first_token_ms": rng.lognormal(6, 0.4, n),
        "steps": rng.poisson(3, n) + 2.0,
        "llm_calls": rng.poisson(1, n) + 1.0,
        "llm_errors": (rng.random(n) < 0.002).astype(float),
        "tool_calls": np.array([len(t) for t in tools], float),
        "tool_errors": (rng.random(n) < 0.02).astype(float),
        "input_tokens": np.round(tokens),
        "output_tokens": np.round(rng.lognormal(5, 0.5, n)),
        "cost_usd": tokens * 3e-6,
        "success": np.where(failed, 0, 1),
        "success_source": np.where(failed, "structure", "status").astype(object),
        "reasons": [[r] if f else [] for r, f in zip(reasons, failed, strict=True)],
        "failure_reason": [r if f else "" for r, f in zip(reasons, failed, strict=True)],
        "failure_tool": [
            t[0] if f and r == "tool_failed" else ""
            for t, f, r in zip(tools, failed, reasons, strict=True)
        ],
        "failure_template": [
            templates[r] if f else "" for r, f in zip(reasons, failed, strict=True)
        ],
        "satisfaction": np.where(rated, (rng.random(n) < 0.85).astype(float), np.nan),
        "models": [[agent.model] for _ in range(n)],
        "tools": tools,
        "language": rng.choice(["en", "de", "fr"], n, p=[0.8, 0.12, 0.08]).tolist(),
        "request": [_request(TOPICS[k], rng) for k in kinds],
    }  # fmt: skip
    return rows


def _frame(rows: Rows) -> pl.DataFrame:
    n = len(rows["at"])
    data = {name: values for name, values in rows.items() if name not in ("at", "keep", "agent")}
    found = pl.DataFrame(
        {
            **{
                k: list(v) if isinstance(v, np.ndarray) and v.dtype == object else v
                for k, v in data.items()
            },
            "decided": rows["at"],
            "environment": ["production"] * n,
            "agent": [rows["agent"]] * n,
            "state": ["ended"] * n,
            "keep": rows["keep"],
        },
        schema_overrides={
            "reasons": pl.List(pl.String),
            "tools": pl.List(pl.String),
            "models": pl.List(pl.String),
        },
        strict=False,
    )
    floats = [c for c, t in found.schema.items() if t == pl.Float64]
    found = found.with_columns(pl.col(floats).fill_nan(None)).filter("keep")
    fixed = {
        "handoffs": 0,
        "human_inputs": 0,
        "unpriced": 0,
        "answered": 1,
        "dissatisfaction": None,
    }
    return (
        found.with_columns(
            **{k: pl.lit(v, dtype=RESULTS[k]) for k, v in fixed.items()},
        )
        .with_columns(unpriced=(pl.col("cost_usd").is_null()).cast(pl.Int64))
        .select(*(pl.col(name).cast(kind, strict=False) for name, kind in RESULTS.items()))
    )


def one(kind: str, agent: str, start: int, length: int = 2 * HOUR) -> Incident:
    """An incident of a kind with its usual target."""
    made = Incident(kind, agent, start, start + length, KINDS[kind].target)
    if kind == "model_outage":
        model = next(a.model for a in FLEET if a.name == agent)
        return replace(made, target=model)
    return made
