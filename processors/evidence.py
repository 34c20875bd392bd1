"""What a finding rests on: whom it hits, what they have in common, and examples. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import polars as pl

from detectors.failures.slices import Lift, over_represented
from processors.findings import Cause, Finding
from processors.signals import BY_NAME
from processors.stations.versions import MEASURES

BEFORE_S: Final = 6 * 3600
"""Seconds before a change that show what was usual."""

_EXAMPLES: Final = 5
_CAUSES: Final = 5
_LEAST: Final = 0.15  # share of the interactions hit that a cause must explain
_FEWEST: Final = 5  # interactions that it must explain
_DEPLOYED_S: Final = 1800
_FRESH_VERSION: Final = 1.5
_WEIGHTS: Final[Mapping[str, float]] = {
    "agent_version": 1.1, "tool": 1.05, "model": 1.03, "provider": 1.02, "agent": 0.9,
    "language": 1.0, "topic": 0.8, "user": 0.5, "cluster": 0.7,
}  # fmt: skip
"""Among causes that explain as much, the one that somebody can act on comes first."""

_OF_REQUESTS: Final = {**_WEIGHTS, "topic": 1.2}
"""What is asked decides which tools are used."""

_OF_THE_FLEET: Final = {**_WEIGHTS, "provider": 1.04}
"""Where several agents use one model, what they share is who serves it."""

_WORD: Final = re.compile(r"[^\W\d_]{4,}")
_COMMON: Final = 60  # topic words that are tried
_PROVIDERS: Final = (
    ("anthropic", re.compile(r"claude")),
    ("openai", re.compile(r"^(gpt|o[134]|chatgpt|text-embedding)")),
    ("google", re.compile(r"gemini|palm|gemma")),
    ("mistral", re.compile(r"mistral|mixtral|codestral")),
    ("meta", re.compile(r"llama")),
    ("deepseek", re.compile(r"deepseek")),
    ("alibaba", re.compile(r"qwen")),
    ("cohere", re.compile(r"command")),
    ("amazon", re.compile(r"nova|titan")),
)


def provider(model: str) -> str:
    """Who serves a model: the part before a slash, else by its family; '' when not known.

    >>> provider("azure/gpt-4.1"), provider("claude-sonnet-4-5"), provider("house-model")
    ('azure', 'anthropic', '')
    """
    name = model.lower()
    if "/" in name:
        return name.split("/", 1)[0]
    return next((who for who, pattern in _PROVIDERS if pattern.search(name)), "")


def explain(finding: Finding, context: pl.DataFrame) -> Finding:
    """A finding with whom it hits, its causes and examples.

    Parameters
    ----------
    finding
        Of any kind.
    context
        Interactions from `BEFORE_S` before it began until now, columns of
        `processors.stations.base.RESULTS` and ``cluster``; of its agent, or of the whole
        environment for a finding of the fleet.
    """
    if context.is_empty():
        return finding
    since = pl.col("decided") >= finding.began
    if finding.ended is not None:
        since = since & (pl.col("decided") < finding.ended)
    marked = context.with_columns(since=since).with_columns(
        hit=pl.col("since") & _hit(finding, context)
    )
    inside, outside = marked.filter("hit"), marked.filter(~pl.col("hit"))
    costs = inside["cost_usd"].drop_nulls()
    return replace(
        finding,
        agent_version=finding.agent_version or _version(finding, inside),
        users=inside.filter(pl.col("user_id") != "")["user_id"].n_unique() or None,
        sessions=inside["session_id"].n_unique(),
        cost_usd=None if costs.is_empty() else float(costs.sum()),
        causes=_given(finding) or causes(finding, inside, outside),
        examples=_examples(inside),
        evidence=_failures(finding, context),
    )


def _version(finding: Finding, inside: pl.DataFrame) -> str:
    """The version that brought a cluster back: that of most of its failures."""
    if finding.signal != "cluster_regressed" or inside.is_empty():
        return ""
    return str(inside["agent_version"].mode().sort()[0])


def _hit(finding: Finding, context: pl.DataFrame) -> pl.Expr:
    """Whether an interaction shows what the finding says."""
    if finding.cluster:
        return pl.col("cluster") == finding.cluster
    signal = BY_NAME.get(finding.signal)
    if signal is None:
        return _of_version(finding, context)
    if signal.per == "tools":
        return (pl.col("success") == 0) & (pl.col("failure_tool") == finding.value)
    if signal.per == "reasons":
        return pl.col("reasons").list.contains(finding.value)
    if signal.family == "mix":
        many = context.select(v=signal.value).schema["v"] == pl.List(pl.String)
        has = signal.value.list.contains(finding.value) if many else signal.value == finding.value
        return has.fill_null(value=False)
    if signal.family == "tail":
        before = context.filter(pl.col("decided") < finding.began).select(v=signal.value)["v"]
        limit = before.drop_nulls().quantile(0.95) if before.len() > before.null_count() else None
        return (signal.value > limit).fill_null(value=False) if limit is not None else pl.lit(False)
    if signal.name == "new_request":
        return pl.lit(True)
    return (signal.value.cast(pl.Float64) > 0.5).fill_null(value=False)


def _of_version(finding: Finding, context: pl.DataFrame) -> pl.Expr:
    """The interactions of a version that are worse than those of others usually are.

    All of them, when none is.
    """
    its = pl.col("agent_version") == finding.agent_version
    name = finding.signal.removeprefix("version_")
    measure = next((m for m in MEASURES if m.name == name), None)
    if measure is None or name == "success":
        return its & (pl.col("success") == 0)
    value = measure.value.cast(pl.Float64)
    usual = context.filter(~its).select(value.median()).item()
    if usual is None:
        return its
    worse = its & (value < usual if measure.higher_is_better else value > usual)
    since = pl.col("decided") >= finding.began
    some = context.filter(since & worse.fill_null(value=False)).height
    return worse.fill_null(value=False) if some else its


def _given(finding: Finding) -> list[Cause]:
    """The cause of a finding that is about nothing else: a version compared with another."""
    if finding.kind != "version":
        return []
    return [Cause("agent_version", finding.agent_version, 1.0, 1.0, 1.0, 1.0)]


def causes(finding: Finding, inside: pl.DataFrame, outside: pl.DataFrame) -> list[Cause]:
    """Attributes that are over-represented among the interactions hit, best explanation first."""
    if inside.is_empty() or outside.is_empty():
        return []
    words = _words(inside)
    found = over_represented(
        _tally(inside, finding, words), len(inside), _tally(outside, finding, words), len(outside)
    )
    fresh = _fresh_versions(finding, pl.concat([inside, outside]))
    weights = _WEIGHTS if finding.agent else _OF_THE_FLEET
    weights = _OF_REQUESTS if finding.signal == "new_request" else weights
    scored = [
        (_score(lift, len(inside), fresh, weights), _cause(lift, len(inside)))
        for lift in found
        if lift.inside >= max(_LEAST * len(inside), _FEWEST)
    ]
    scored.sort(key=lambda pair: (-pair[0], pair[1].attribute, pair[1].value))
    return [cause for _, cause in scored[:_CAUSES]]


def _cause(lift: Lift, n: int) -> Cause:
    attribute, value = lift.attribute.split("\x1f", 1)
    return Cause(attribute, value, lift.lift, lift.low, lift.high, lift.inside / n)


def _score(lift: Lift, n: int, fresh: set[str], weights: Mapping[str, float]) -> float:
    """Share explained, less what it would explain by chance; more for a version just deployed."""
    attribute, value = lift.attribute.split("\x1f", 1)
    boost = _FRESH_VERSION if attribute == "agent_version" and value in fresh else 1.0
    return lift.inside / n * (1 - 1 / lift.low) * weights[attribute] * boost


def _fresh_versions(finding: Finding, rows: pl.DataFrame) -> set[str]:
    """Versions whose first interaction came shortly before or after the change began."""
    first = rows.group_by("agent_version").agg(pl.col("decided").min())
    start = int(rows["decided"].min() or 0)  # type: ignore[arg-type]
    near = first.filter(
        ((pl.col("decided") - finding.began).abs() <= _DEPLOYED_S)
        & (pl.col("decided") > start + _DEPLOYED_S)
    )
    return set(near["agent_version"].to_list())


def _tally(rows: pl.DataFrame, finding: Finding, words: Iterable[str]) -> dict[str, int]:
    """How many interactions have each attribute."""
    failing = finding.signal in ("failure", "late_failure", "reason", "tool_failure", "model_error")
    troubled = rows.filter(pl.col("llm_errors") > 0) if failing else rows
    models = _each(troubled, "models")
    columns: list[tuple[str, pl.Series]] = [
        ("agent_version", rows["agent_version"]),
        ("language", rows["language"]),
        ("tool", rows["failure_tool"] if failing else _each(rows, "tools")),
        ("model", models),
        ("provider", pl.Series([provider(m) for m in models.to_list()], dtype=pl.String)),
        ("user", rows["user_id"]),
        (
            "cluster",
            rows["cluster"] if "cluster" in rows.columns else pl.Series([], dtype=pl.String),
        ),
        ("agent", rows["agent"] if not finding.agent else pl.Series([], dtype=pl.String)),
    ]
    found = {
        f"{name}\x1f{value}": count
        for name, column in columns
        for value, count in column.value_counts().iter_rows()
        if value
    }
    text = rows["request"].str.slice(0, 600).str.to_lowercase()
    for word in words:
        found[f"topic\x1f{word}"] = int(text.str.contains(word, literal=True).sum())
    return found


def _each(rows: pl.DataFrame, column: str) -> pl.Series:
    return rows.select(pl.col(column).list.unique()).explode(column)[column].drop_nulls()


def _words(inside: pl.DataFrame) -> list[str]:
    """Words that many requests of the interactions hit have."""
    seen: dict[str, int] = {}
    for text in inside["request"].head(2_000).to_list():
        for word in set(_WORD.findall((text or "")[:600].lower())):
            seen[word] = seen.get(word, 0) + 1
    ordered = sorted(seen.items(), key=lambda item: (-item[1], item[0]))
    return [word for word, _ in ordered[:_COMMON]]


def _examples(inside: pl.DataFrame) -> list[str]:
    """Latest interactions of different sessions."""
    latest = inside.sort("decided", "interaction_id", descending=True)
    chosen = latest.unique("session_id", keep="first", maintain_order=True)
    return chosen["interaction_id"].head(_EXAMPLES).to_list()


def _failures(finding: Finding, context: pl.DataFrame) -> list[dict[str, Any]]:
    """Kinds of failure before and since, most frequent first."""
    failed = context.filter((pl.col("success") == 0) & (pl.col("failure_reason") != ""))
    began = pl.col("decided") >= finding.began
    return (
        failed.group_by(
            reason="failure_reason", tool="failure_tool", template="failure_template"
        )
        .agg(since=began.sum(), before=(~began).sum())
        .filter(pl.col("since") > 0)
        .sort("since", "reason", "tool", "template", descending=[True, False, False, False])
        .head(10)
        .to_dicts()
    )  # fmt: skip
