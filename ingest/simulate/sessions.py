"""One session: a user and an agent talk, tools fail, users rate. All from one random stream.

A session draws from a random generator of its own, so an incident changes the sessions it hits and
no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final, TypeVar

from ingest.core.events import Event
from ingest.simulate.agents import (
    COMMENTS,
    COMPLAINTS,
    MODEL_ERRORS,
    REFUSALS,
    Agent,
    Tool,
    Version,
)
from ingest.simulate.incidents import Effect, Incident

_T = TypeVar("_T")
_MS: Final = 1_000_000
_S: Final = 1_000_000_000

ATTEMPTS: Final = 3
"""How often a call is tried before it has failed for good."""

MODEL_ERROR_RATE: Final = 0.004
MAX_STEPS: Final = 12


@dataclass(frozen=True, slots=True)
class Conditions:
    """What holds around a session.

    Attributes
    ----------
    origin_ns
        When the simulation began, ns since 1970.
    rollout_start_ns, rollout_end_ns
        Since then; the share of the new version rises from 0 to 1 in between.
    """

    origin_ns: int
    rollout_start_ns: int
    rollout_end_ns: int
    incidents: Sequence[Incident]
    environment: str


@dataclass(frozen=True, slots=True)
class Request:
    """The truth about one interaction."""

    interaction_id: str
    agent: str
    version: str
    end_ns: int
    reason: str | None
    incidents: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """Whether the user got what was asked for."""
        return self.reason is None


@dataclass(slots=True)
class Session:
    """A session in the making; `play` does it all.

    Attributes
    ----------
    events
        What was sent so far; feedback may come much later than the rest.
    requests
        The truth behind it.
    """

    id: str
    agent: Agent
    start_ns: int
    conditions: Conditions
    rng: Random
    events: list[Event] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    _version: Version = field(init=False)
    _now_ns: int = field(init=False)
    _effect: Effect = field(default_factory=Effect)
    _outages: dict[str, Incident] = field(default_factory=dict)
    _templates: tuple[tuple[str, str], ...] = MODEL_ERRORS
    _event: Any = field(init=False)
    _word: str = ""

    def play(self) -> None:
        """Play all requests of the session."""
        rng, agent = self.rng, self.agent
        self._version = self._choose_version()
        self._now_ns = self.start_ns
        base = partial(
            Event,
            environment=self.conditions.environment,
            agent=agent.name,
            agent_version=self._version.name,
            session_id=self.id,
            user_id=f"u{int(rng.paretovariate(0.6)) % 50_000}",
        )
        failed = False
        self._word = rng.choice(agent.words)
        for number in range(_geometric(rng, agent.turns)):
            failed = self._request(base, f"{self.id}-{number}", failed)
            self._now_ns += int(rng.lognormvariate(3.2, 0.8) * _S)

    def _choose_version(self) -> Version:
        c, since_ns = self.conditions, self.start_ns - self.conditions.origin_ns
        draw, other = self.rng.random(), self.rng.random()
        old, new = self.agent.versions
        ramp = (since_ns - c.rollout_start_ns) / max(c.rollout_end_ns - c.rollout_start_ns, 1)
        version = new if draw < ramp else old
        for incident in c.incidents:
            hit = incident.agent == self.agent.name and incident.version is not None
            if hit and incident.start_ns <= since_ns < incident.end_ns and other < 0.5:
                return Version(str(incident.version), version.model)
        return version

    def _request(self, base: Any, interaction_id: str, complaining: bool) -> bool:
        """Play one request; tell whether it failed."""
        start_ns, closing_id = self._now_ns, f"{interaction_id}:interaction"
        active = self._meet_incidents()
        self._event = partial(base, interaction_id=interaction_id, parent_id=closing_id)
        texts = COMPLAINTS if complaining else self.agent.requests
        self._add("user_message", content=self._text(self._choice(texts)))
        reason, error, answer = self._work()
        if answer:
            self._add("agent_message", content=answer)
        self.events.append(
            base(
                event_id=closing_id,
                time_unix_nano=self._now_ns,
                kind="interaction",
                interaction_id=interaction_id,
                duration_ms=(self._now_ns - start_ns) / _MS,
                status="error" if error else "ok",
                error_type=reason if error else None,
                error_message=error,
            )
        )
        self.requests.append(
            Request(
                interaction_id,
                self.agent.name,
                self._version.name,
                self._now_ns,
                reason,
                tuple(incident.id for incident in active),
            )
        )
        self._rate(base, interaction_id, good=reason is None)
        return reason is not None

    def _meet_incidents(self) -> list[Incident]:
        since_ns = self._now_ns - self.conditions.origin_ns
        name, version = self.agent.name, self._version.name
        active = [i for i in self.conditions.incidents if i.affects(name, version, since_ns)]
        effects = [incident.what.effect for incident in active]
        latency = tokens = 1.0
        for effect in effects:
            latency, tokens = latency * effect.latency, tokens * effect.tokens
        self._effect = Effect(
            model_errors=sum(effect.model_errors for effect in effects),
            refusals=sum(effect.refusals for effect in effects),
            loops=sum(effect.loops for effect in effects),
            wrong=sum(effect.wrong for effect in effects),
            latency=latency,
            tokens=tokens,
        )
        self._outages = {i.tool: i for i in active if i.tool is not None}
        broken = [i.what for i in active if i.what.effect.model_errors > 0]
        self._templates = (
            tuple((str(kind.error_type), str(kind.error_template)) for kind in broken)
            or MODEL_ERRORS
        )
        return active

    def _work(self) -> tuple[str | None, str | None, str | None]:
        """Do what was asked: true reason of failure, visible error, answer."""
        rng, agent = self.rng, self.agent
        refusing = rng.random() < agent.refusals + self._effect.refusals
        looping = rng.random() < agent.loops + self._effect.loops
        wrong = rng.random() < agent.wrong + self._effect.wrong
        if error := self._call_model():
            return "model_error", error, None
        if refusing:
            return "refusal", None, self._text(self._choice(REFUSALS))
        weights = [tool.weight for tool in agent.tools]
        tools = rng.choices(agent.tools, weights, k=min(_geometric(rng, agent.steps), MAX_STEPS))
        if looping:
            tools = [
                next(t for t in tools + list(agent.tools) if t.kind != "human_input")
            ] * MAX_STEPS
        arguments = self._text(_ARGUMENTS[0])
        for tool in tools:
            error = self._use(tool, arguments if looping else self._text(self._choice(_ARGUMENTS)))
            if error and rng.random() >= agent.recovery:
                if agent.name == "support" and rng.random() < 0.5:
                    self._add("handoff", name="human_support")
                return "tool_failed", error, self._text(self._choice(_APOLOGIES))
            if error := self._call_model():
                return "model_error", error, None
        if looping:
            return "max_steps", f"stopped after {MAX_STEPS} steps", None
        return ("wrong_answer" if wrong else None), None, self._text(self._choice(agent.answers))

    def _call_model(self) -> str | None:
        """Call the model until it answers; the error when it never does."""
        rng, version, effect = self.rng, self._version, self._effect
        model, error = version.model, None
        for attempt in range(ATTEMPTS):
            took_ms = _latency(rng, model.median_ms * version.latency * effect.latency)
            if rng.random() < MODEL_ERROR_RATE + effect.model_errors:
                kind, template = self._choice(self._templates)
                error = self._text(template)
                self._spend(took_ms)
                self._add("llm_call", took_ms, model=model.name, **_failed(kind, error))
                self._spend(250 * 2**attempt)
                continue
            read = int(self.agent.input_tokens * version.tokens * effect.tokens * _spread(rng))
            written = 1 + int(self.agent.output_tokens * _spread(rng))
            cost = None
            if model.input_price is not None and model.output_price is not None:
                cost = round((read * model.input_price + written * model.output_price) / 1e6, 9)
            self._spend(took_ms)
            self._add(
                "llm_call",
                took_ms,
                model=model.name,
                time_to_first_token_ms=round(took_ms * (0.2 + 0.3 * rng.random()), 3),
                input_tokens=read,
                output_tokens=written,
                cached_tokens=read // 2 if attempt == 0 and read > 2048 else None,
                cost_usd=cost,
            )
            return None
        return error

    def _use(self, tool: Tool, arguments: str) -> str | None:
        """Use a tool until it works; the error when it never does."""
        rng, outage, template = self.rng, self._outages.get(tool.name), ""
        stubborn = False
        for attempt in range(ATTEMPTS):
            took_ms = _latency(rng, tool.median_ms)
            self._spend(took_ms)
            draw = rng.random()
            if outage is not None and draw < outage.what.effect.tool_errors:
                kind = str(outage.what.error_type)
                template = str(outage.what.error_template).replace("{tool}", tool.name)
            elif not stubborn and draw >= 1 - tool.error_rate:
                kind, template = self._choice(tool.errors)
                # Half of a tool's own errors are about the question, and asking again is no use.
                stubborn = rng.random() < 0.5
            elif not stubborn:
                result = self._text(self._choice(_RESULTS))
                self._use_event(tool, took_ms, arguments, tool_result=result)
                return None
            error = self._text(template)
            self._use_event(tool, took_ms, arguments, tool_result=error, **_failed(kind, error))
            self._spend(200 * 2**attempt)
        return error

    def _use_event(self, tool: Tool, took_ms: float, arguments: str, **fields: Any) -> None:
        self._add(tool.kind, took_ms, name=tool.name, tool_arguments=arguments, **fields)

    def _rate(self, base: Any, interaction_id: str, *, good: bool) -> None:
        rng = self.rng
        if rng.random() >= self.agent.feedback * (1.0 if good else 2.0):
            return
        happy = rng.random() < (0.92 if good else 0.15)
        stars = self.agent.name == "retail"
        value = (rng.choice((4, 5)) if happy else rng.choice((1, 2, 3))) - 1
        delay_s = min(60 * rng.lognormvariate(0, 1) * rng.paretovariate(1.1), 6 * 3600)
        self.events.append(
            base(
                event_id=f"{interaction_id}:feedback",
                time_unix_nano=self._now_ns + int(delay_s * _S),
                kind="feedback",
                name="stars" if stars else "thumbs",
                value=value / 4 if stars else float(happy),
                content=self._text(self._choice(COMMENTS[happy])) or None,
                target=interaction_id,
            )
        )

    def _add(self, kind: str, took_ms: float | None = None, **fields: Any) -> None:
        self.events.append(
            self._event(
                event_id=f"{self.id}:{len(self.events)}",
                time_unix_nano=self._now_ns,
                kind=kind,
                duration_ms=took_ms,
                **fields,
            )
        )

    def _spend(self, ms: float) -> None:
        self._now_ns += int(ms * _MS)

    def _text(self, template: str) -> str:
        rng = self.rng
        return template.format(
            id=f"{rng.getrandbits(40):010x}", n=2 + int(rng.random() * 9000), word=self._word
        )

    def _choice(self, options: Sequence[_T]) -> _T:
        return options[int(self.rng.random() * len(options))]


_ARGUMENTS: Final = ('{{"query": "{word} {id}"}}', '{{"id": "{id}", "limit": {n}}}')
_RESULTS: Final = ('{{"status": "ok", "id": "{id}"}}', '{{"items": {n}, "first": "{id}"}}')
_APOLOGIES: Final = (
    "I'm sorry, something went wrong on our side. Please try again later.",
    "I could not look up your {word} just now.",
)


def _failed(kind: str, message: str) -> dict[str, str]:
    return {"status": "error", "error_type": kind, "error_message": message}


def _geometric(rng: Random, mean: float) -> int:
    """Draw a whole number of at least 1 with the given mean."""
    count = 1
    while rng.random() >= 1 / mean:
        count += 1
    return count


def _spread(rng: Random) -> float:
    return rng.lognormvariate(0.0, 0.45)


def _latency(rng: Random, median_ms: float) -> float:
    """Lognormal around the median; one in fifty has a Pareto tail of index 1.5, cut at 40 times."""
    took = median_ms * rng.lognormvariate(0.0, 0.5)
    if rng.random() < 0.02:
        took *= min(rng.paretovariate(1.5), 40.0)
    return round(took, 3)
