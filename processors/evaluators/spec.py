"""What an evaluator is: read from a YAML file, checked, and given a version by what decides.

The version is a hash of everything that an answer depends on: prompt, model, schema, view. What
decides only which targets are judged (filter, rate, budget) is no part of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from xxhash import xxh3_64_hexdigest

from ingest.core.errors import UsageError

PROTOCOL: Final = 1
"""Part of every version: rises when instructions or the reading of answers change."""

Target = Literal["interaction", "session"]
View = Literal["all", "pairs", "first_last", "digest"]

_Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Positive = Annotated[float, Meta(gt=0)]
_Count = Annotated[int, Meta(ge=1)]


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be spent. ``queue`` lets targets wait for the next period, ``skip`` lets them go."""

    calls_per_minute: _Count | None = None
    usd_per_day: _Positive | None = None
    usd_per_week: _Positive | None = None
    when_spent: Literal["skip", "queue"] = "skip"

    @property
    def in_usd(self) -> bool:
        """Whether a price must be known."""
        return self.usd_per_day is not None or self.usd_per_week is not None


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars per million tokens, for a model that the price table does not know."""

    input: Annotated[float, Meta(ge=0)]
    output: Annotated[float, Meta(ge=0)]


class Evaluator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every kind has.

    Attributes
    ----------
    filter
        SQL condition over the columns of the view ``interactions`` or ``sessions``.
    rate
        Share of the sessions that is judged; one hash per session, so smaller rates nest.
    quiet_s
        Seconds of event time without new activity before a target is ready.
    view, characters
        What of a target is shown, and how much of it at most.
    patience_s
        What has waited longer is overloaded and let go.
    """

    name: _Name
    target: Target = "interaction"
    filter: str = "1"
    rate: _Share = 1.0
    quiet_s: Annotated[float, Meta(ge=0)] | None = None
    view: View = "all"
    characters: Annotated[int, Meta(ge=200, le=1_000_000)] = 24_000
    budget: Budget = Budget()
    concurrency: Annotated[int, Meta(ge=1, le=64)] = 4
    timeout_s: _Positive = 30.0
    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    patience_s: _Positive = 3600.0
    enabled: bool = True

    @property
    def quiet(self) -> float:
        """Seconds of quiet: a session has five minutes by default, an interaction has ended."""
        return self.quiet_s if self.quiet_s is not None else 300.0 * (self.target == "session")

    @property
    def longest_s(self) -> float:
        """After so many seconds a call that was begun is over, whatever became of it."""
        return self.timeout_s + 30

    @property
    def version(self) -> str:
        """Hash of what decides an answer, 12 hexadecimal digits."""
        decides = {n: v for n, v in msgspec.to_builtins(self).items() if n not in _NOT_DECIDING}
        return xxh3_64_hexdigest(msgspec.json.encode([PROTOCOL, decides], order="sorted"))[:12]


class Python(
    Evaluator, tag_field="kind", tag="python", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A function ``module:name`` that takes a target and returns a number, or None to refuse."""

    entry: Annotated[str, Meta(pattern=r"^[\w.]+:\w+$")]


class Tools(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tools that must be called, must not be, and how often each may be at most."""

    required: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    at_most: Mapping[str, int] = {}


class Rule(
    Evaluator, tag_field="kind", tag="rule", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Conditions that all must hold; the first that does not is the reason.

    Attributes
    ----------
    json_schema
        The answer is JSON and valid against it.
    matches, forbids
        Regular expressions that the answer must, and must not, contain.
    limits
        Column of the result to the most it may be, such as ``steps: 20``.
    """

    json_schema: Mapping[str, Any] | None = None
    matches: str | None = None
    forbids: str | None = None
    tools: Tools = Tools()
    limits: Mapping[str, float] = {}


class _Model(Evaluator, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model behind an OpenAI-compatible endpoint.

    Attributes
    ----------
    endpoint
        Address that ``/chat/completions`` is appended to.
    key_file
        File that holds the bearer token; without it the setting ``evaluators.api_key``.
    accept
        Names that the endpoint may call the model by, beside its own and dated forms of that.
    anchors_per_day
        How many labelled targets are judged again per day, to notice a judge that changes.
    """

    endpoint: Annotated[str, Meta(pattern=r"^https?://[^\s@]+$")]
    model: Annotated[str, Meta(min_length=1)]
    rubric: str = ""
    accept: tuple[str, ...] = ()
    key_file: str | None = None
    max_tokens: Annotated[int, Meta(ge=16, le=32_768)] = 512
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    price: Price | None = None
    anchors_per_day: Annotated[float, Meta(ge=0, le=10_000)] = 0.0


class Chat(
    _Model, tag_field="kind", tag="chat", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A rubric; the answer is a verdict, a score and a reason."""


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question with given answers; its score is the probability of the good ones."""

    ask: Annotated[str, Meta(min_length=1)]
    choices: Annotated[tuple[str, ...], Meta(min_length=2)] = ("yes", "no")
    good: Annotated[tuple[str, ...], Meta(min_length=1)] = ("yes",)


class Decisions(
    _Model, tag_field="kind", tag="decisions", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Typed questions; the answer is a probability of every choice."""

    questions: Annotated[dict[_Name, Question], Meta(min_length=1)]


Any_ = Python | Rule | Chat | Decisions
Model = Chat | Decisions


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    evaluators: tuple[Any_, ...]


_NOT_DECIDING: Final = frozenset(
    {
        "filter", "rate", "quiet_s", "budget", "concurrency", "timeout_s", "attempts",
        "patience_s", "enabled", "key_file", "price", "anchors_per_day", "accept",
    }
)  # fmt: skip


def load(path: Path) -> tuple[Any_, ...]:
    """Evaluators of a file, those that are enabled.

    Raises
    ------
    UsageError
        The file cannot be read, or says what an evaluator cannot be.
    """
    try:
        return parse(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from None


def parse(text: bytes) -> tuple[Any_, ...]:
    r"""Evaluators of YAML text.

    Raises
    ------
    ValueError
        With the path of what is wrong.

    Examples
    --------
    >>> (one,) = parse(b"evaluators: [{name: polite, kind: rule, forbids: damn}]")
    >>> one.name, one.target, len(one.version)
    ('polite', 'interaction', 12)
    """
    import yaml  # type: ignore[import-untyped]

    try:
        found = msgspec.convert(yaml.safe_load(text), _File).evaluators
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    names = [one.name for one in found]
    if len(set(names)) < len(names):
        raise ValueError("two evaluators have one name")
    for one in found:
        _check(one)
    return tuple(one for one in found if one.enabled)


def _check(one: Any_) -> None:
    where = f"evaluator {one.name}"
    if ";" in one.filter or "--" in one.filter:
        raise ValueError(f"{where}: filter is one condition")
    if isinstance(one, Rule):
        for pattern in (one.matches, one.forbids):
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise ValueError(f"{where}: {pattern!r}: {error}") from None
    if isinstance(one, Chat) and not one.rubric:
        raise ValueError(f"{where}: a chat evaluator needs a rubric")
    if isinstance(one, Decisions):
        for name, question in one.questions.items():
            if not set(question.good) <= set(question.choices):
                raise ValueError(f"{where}: question {name}: good holds what is no choice")
