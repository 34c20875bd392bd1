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
from numpy.typing import NDArray

from processors.stations.base import RESULTS

HOUR: Final = 3600
START: Final = 1_767_571_200  # Monday 2026-01-05 00:00 UTC

Rows = dict[str, Any]
Mask = NDArray[np.bool_]


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
_EVERY: Final = (*TOPICS, NEW_TOPIC)
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
    apply: Callable[[Rows, Mask, np.random.Generator, Incident], None]


def _fail(
    rows: Rows,
    hit: Mask,
    reason: str,
    tool: str = "",
    template: str = "",
    *,
    llm: bool = False,
) -> None:
    rows["success"][hit] = 0
    rows["failure_reason"][hit] = reason
    rows["failure_tool"][hit] = tool
    rows["failure_template"][hit] = template
    if tool:
        rows["tool_errors"][hit] += 1
    if llm:
        rows["llm_errors"][hit] += 1


def _uses(rows: Rows, tool: str) -> Mask:
    uses: Mask = np.array([tool in topic.tools for topic in _EVERY])[rows["topic"]]
    return uses


def _some(at: Mask, share: float, rng: np.random.Generator) -> Mask:
    chosen: Mask = at & (rng.random(at.size) < share)
    return chosen


def _tool_outage(rows: Rows, at: Mask, rng: np.random.Generator, i: Incident) -> None:
    hit = _some(at & _uses(rows, i.target), 0.8, rng)
    _fail(rows, hit, "tool_failed", i.target, f"503 from {i.target}, request <id>")


def _slow_tool(rows: Rows, at: Mask, rng: np.random.Generator, i: Incident) -> None:
    hit = at & _uses(rows, i.target)
    rows["duration_ms"][hit] += 6_000 * rng.lognormal(0, 0.3, int(hit.sum()))


def _wrong_results(rows: Rows, at: Mask, rng: np.random.Generator, i: Incident) -> None:
    """Well-formed but wrong: no error anywhere, users say so half an hour later."""
    hit = _some(at & _uses(rows, i.target), 0.7, rng)
    rows["success"][hit], rows["success_source"][hit] = 0, "outcome"
    rows["failure_reason"][hit], rows["failure_tool"][hit] = "wrong_answer", i.target
    rows["satisfaction"][hit & ~np.isnan(rows["satisfaction"])] = 0.0


def _model_outage(rows: Rows, at: Mask, rng: np.random.Generator, i: Incident) -> None:
    hit = _some(at, 0.5, rng)
    _fail(rows, hit, "model_error", template="529 overloaded, request <id>", llm=True)


def _model_swap(rows: Rows, at: Mask, rng: np.random.Generator, i: Incident) -> None:
    rows["model"][at] = i.target


def _bad_version(rows: Rows, at: Mask, rng: np.random.Generator, i: Incident) -> None:
    rows["agent_version"][at] = i.target
    _fail(rows, _some(at, 0.2, rng), "refusal", template="I cannot help with that")


def _canary(rows: Rows, at: Mask, rng: np.random.Generator, i: Incident) -> None:
    on = _some(at, 0.05, rng)
    rows["agent_version"][on] = i.target
    _fail(rows, _some(on, 0.5, rng), "refusal", template="I cannot help with that")


def _prompt(rows: Rows, at: Mask, rng: np.random.Generator, i: Incident) -> None:
    hit = at & (rows["topic"] == [t.name for t in _EVERY].index(i.target))
    _fail(rows, _some(hit, 0.5, rng), "incomplete", template="answer left out a step")


def _tail(rows: Rows, at: Mask, rng: np.random.Generator, i: Incident) -> None:
    rows["duration_ms"][_some(at & _uses(rows, i.target), 0.12, rng)] *= 8


def _tokens(rows: Rows, at: Mask, rng: np.random.Generator, i: Incident) -> None:
    rows["agent_version"][at] = i.target
    rows["input_tokens"][at] *= 3
    rows["cost_usd"][at] *= 3


def _loop(rows: Rows, at: Mask, rng: np.random.Generator, i: Incident) -> None:
    hit = _some(at & _uses(rows, i.target), 0.4, rng)
    rows["steps"][hit] += rng.integers(10, 30, int(hit.sum()))
    rows["tool_calls"][hit] += 12
    rows["input_tokens"][hit] *= 4


def _new_request(rows: Rows, at: Mask, rng: np.random.Generator, i: Incident) -> None:
    rows["topic"][_some(at, 0.3, rng)] = len(TOPICS)


def _silent(rows: Rows, at: Mask, rng: np.random.Generator, i: Incident) -> None:
    rows["keep"][at] = False


def _health(rows: Rows, at: Mask, rng: np.random.Generator, i: Incident) -> None:
    rows["agent_version"][at] = i.target
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
    """A harmless new version of an agent from ``at`` (s) on, rolled out over an hour.

    It is a few per cent slower or faster than the one before, and as much longer or shorter.
    """

    agent: str
    at: int
    version: str

    @property
    def pace(self) -> float:
        """Factor of its duration and tokens, 0.96 to 1.04."""
        return 0.96 + 0.01 * (sum(map(ord, self.version + self.agent)) % 9)


@dataclass(frozen=True, slots=True)
class Rush:
    """More or less traffic than usual from ``start`` (s) to ``end``; '' for all agents."""

    agent: str
    start: int
    end: int
    factor: float


@dataclass(frozen=True, slots=True)
class World:
    """A fleet with everything that happens to it."""

    seed: int
    agents: tuple[Agent, ...] = FLEET
    incidents: tuple[Incident, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    rushes: tuple[Rush, ...] = ()
    growth: float = 0.05  # traffic per week

    def hour(self, start: int) -> pl.DataFrame:
        """Results decided in the hour from ``start`` (s) on, in order of time and id."""
        parts = [self._agent(n, agent, start) for n, agent in enumerate(self.agents)]
        return pl.concat(parts).sort("decided", "interaction_id")

    def _agent(self, number: int, agent: Agent, start: int) -> pl.DataFrame:
        rng = np.random.default_rng([self.seed, number, start // HOUR])
        n = rng.poisson(agent.per_hour * self._traffic(agent, start))
        rows = _ordinary(agent, start, int(n), rng)
        self._deploy(agent, rows, rng)
        for incident in self.incidents:
            if hits(incident, agent):
                during = (rows["at"] >= incident.start) & (rows["at"] < incident.end)
                KINDS[incident.kind].apply(rows, during, rng, incident)
        return _frame(agent, start, rows)

    def _traffic(self, agent: Agent, start: int) -> float:
        hour = (start // HOUR) % 24
        day = (start - START) // 86_400 % 7
        wave = 1 - agent.season * (0.5 + 0.5 * np.cos((hour - 15) / 24 * 2 * np.pi + np.pi))
        weekend = 0.6 if day >= 5 else 1.0
        rush = 1.0
        for r in self.rushes:
            if r.agent in ("", agent.name) and r.start <= start < r.end:
                rush *= r.factor
        return float(wave * weekend * rush * (1 + self.growth) ** ((start - START) / (7 * 86_400)))

    def _deploy(self, agent: Agent, rows: Rows, rng: np.random.Generator) -> None:
        chance = rng.random(rows["at"].size)
        pace = np.ones(chance.size)
        for deployment in self.deployments:
            if deployment.agent == agent.name:
                on = chance < np.clip((rows["at"] - deployment.at) / HOUR, 0, 1)
                rows["agent_version"][on] = deployment.version
                pace[on] = deployment.pace
        for name in ("duration_ms", "input_tokens", "cost_usd"):
            rows[name] *= pace


def hits(incident: Incident, agent: Agent) -> bool:
    """Whether an incident is about an agent."""
    if incident.kind == "provider_outage":
        return agent.model.startswith("claude")
    return incident.agent == agent.name


def _ordinary(agent: Agent, start: int, n: int, rng: np.random.Generator) -> Rows:
    hour = (start // HOUR) % 24
    # A little harder at night and slower by day, as real traffic is.
    failed = rng.random(n) < agent.failure * (1 + 0.15 * np.cos((hour - 3) / 24 * 2 * np.pi))
    slower = 1 + 0.08 * np.cos((hour - 15) / 24 * 2 * np.pi)
    german = 0.12 + 0.04 * np.cos((hour - 12) / 24 * 2 * np.pi)
    topic = rng.choice(len(TOPICS), n, p=[t.share for t in TOPICS])
    reason = np.array(["tool_failed", "incomplete", "refusal"], object)[
        rng.choice(3, n, p=[0.5, 0.3, 0.2])
    ]
    reason[~failed] = ""
    first_tool = np.array([t.tools[0] for t in _EVERY], object)[topic]
    tokens = np.round(rng.lognormal(7.5, 0.6, n))
    rated = rng.random(n) < 0.15
    return {
        "at": np.sort(rng.integers(start // 10, start // 10 + 360, n) * 10),
        "keep": np.ones(n, np.bool_),
        "topic": topic,
        "words": rng.integers(0, 6, (n, 4)),
        "common": rng.integers(0, len(COMMON), (n, 4)),
        "user": rng.integers(0, 4_000, n),
        "agent_version": np.full(n, agent.version, object),
        "model": np.full(n, agent.model, object),
        "duration_ms": rng.lognormal(8, 0.7, n) * slower,
        "time_to_first_token_ms": rng.lognormal(6, 0.4, n) * slower,
        "steps": rng.poisson(3, n) + 2,
        "llm_calls": rng.poisson(1, n) + 1,
        "llm_errors": (rng.random(n) < 0.002).astype(int),
        "tool_calls": np.array([len(t.tools) for t in _EVERY])[topic],
        "tool_errors": (rng.random(n) < 0.02).astype(int),
        "input_tokens": tokens,
        "output_tokens": np.round(rng.lognormal(5, 0.5, n)),
        "cost_usd": tokens * 3e-6,
        "success": np.where(failed, 0, 1),
        "success_source": np.where(failed, "structure", "status").astype(object),
        "failure_reason": reason,
        "failure_tool": np.where(reason == "tool_failed", first_tool, ""),
        "failure_template": np.select(
            [reason == r for r in _TEMPLATES], [*_TEMPLATES.values()], default=""
        ).astype(object),
        "satisfaction": np.where(rated, (rng.random(n) < 0.85).astype(float), np.nan),
        "language": np.array(["en", "de", "fr"], object)[
            rng.choice(3, n, p=[0.92 - german, german, 0.08])
        ],
    }


_TEMPLATES: Final = {
    "tool_failed": "timeout after <num> ms",
    "incomplete": "missing field",
    "refusal": "not allowed",
}
_WORDS: Final = np.array([topic.words for topic in _EVERY], object)
_TOOLS: Final = pl.Series([list(topic.tools) for topic in _EVERY], dtype=pl.List(pl.String))
_FIXED: Final = {"handoffs": 0, "human_inputs": 0, "answered": 1, "dissatisfaction": None}


def _frame(agent: Agent, start: int, rows: Rows) -> pl.DataFrame:
    number = np.arange(rows["at"].size)
    topic, unlisted = rows["topic"], ("at", "keep", "topic", "words", "common", "user", "model")
    said = [_WORDS[topic, 0], *_WORDS[topic[:, None], rows["words"]].T]
    said += list(np.array(COMMON, object)[rows["common"]].T)
    request = pl.DataFrame([pl.Series(str(i), w, pl.String) for i, w in enumerate(said)])
    known = {
        name: pl.Series(name, values.tolist(), RESULTS[name], strict=False)
        if values.dtype == object else pl.Series(name, values).fill_nan(None)
        if values.dtype == float else pl.Series(name, values)
        for name, values in rows.items() if name not in unlisted
    }  # fmt: skip
    hour = f"{agent.name}-{start // HOUR}"
    return (
        pl.DataFrame({"decided": rows["at"], "keep": rows["keep"], "number": number, **known})
        .with_columns(
            _TOOLS.gather(topic).alias("tools"),
            pl.Series("model", rows["model"].tolist(), pl.String),
            request.select(request=pl.concat_str(pl.all(), separator=" "))["request"],
            pl.Series("user", rows["user"]),
        )
        .filter("keep")
        .with_columns(
            interaction_id=pl.format(f"{hour}-{{}}", "number"),
            session_id=pl.format(f"{hour}-s{{}}", pl.col("number") // 2),
            user_id=pl.format("u{}", "user"),
            models=pl.concat_list("model"),
            reasons=pl.when(pl.col("failure_reason") != "")
            .then(pl.concat_list("failure_reason"))
            .otherwise(pl.lit([], pl.List(pl.String))),
            unpriced=pl.col("cost_usd").is_null(),
            environment=pl.lit("production"),
            agent=pl.lit(agent.name),
            state=pl.lit("ended"),
            **{name: pl.lit(value) for name, value in _FIXED.items()},
        )
        .select(*(pl.col(name).cast(kind) for name, kind in RESULTS.items()))
    )


def one(kind: str, agent: str, start: int, length: int = 2 * HOUR) -> Incident:
    """An incident of a kind with its usual target."""
    made = Incident(kind, agent, start, start + length, KINDS[kind].target)
    if kind == "model_outage":
        model = next(a.model for a in FLEET if a.name == agent)
        return replace(made, target=model)
    return made
