"""Names that become labels of derived rows: bounded, so that no input can make too many series.

Environments, agents, versions, tools and models are *admitted* while there is room; what comes
later is counted under ``__other__``. Raw events keep their names. A decision is stored before the
first row that bears the name, so that a window never changes the series it counts an event in.
Who takes ``__other__`` itself as a name is counted there; it is never decided on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

import polars as pl

from processors.clickhouse import Store

log = logging.getLogger(__name__)

OTHER: Final = "__other__"

_REMEMBERED: Final = 500_000
_ASKED_AT_ONCE: Final = 50_000


def _limits() -> dict[str, int]:
    return {"environment": 100, "agent": 10_000, "agent_version": 10_000, "scope": 10_000}


@dataclass(frozen=True, slots=True)
class CardinalityConfig:
    """How many names of each dimension are told apart; ``scope`` counts tools and models."""

    limits: Mapping[str, int] = field(default_factory=_limits)


class CardinalityLimiter:
    """Decides on the names in a batch of events, each once.

    Parameters
    ----------
    store
        Where decisions are kept, in ``dimension_values``.
    config
        The limits. Workers that meet a new name at the same moment may pass them by a few.
    """

    def __init__(self, store: Store, config: CardinalityConfig | None = None) -> None:
        self._store = store
        self._limits = (config or CardinalityConfig()).limits
        self._decided: dict[str, set[str]] = {dimension: set() for dimension in self._limits}

    def admit(self, events: pl.DataFrame) -> int:
        """Decide on every name in rows of ``events`` that was not decided on before.

        Returns
        -------
        int
            How many names were refused now.

        Raises
        ------
        Unavailable
            When ClickHouse is away; a repeat decides on the same names.
        """
        refused = 0
        for dimension, names in names_in(events).items():
            decided = self._decided[dimension]
            unknown = sorted(names - decided)
            if not unknown:
                continue
            if len(decided) + len(unknown) > _REMEMBERED:
                decided.clear()
            for at in range(0, len(unknown), _ASKED_AT_ONCE):
                refused += self._decide(dimension, unknown[at : at + _ASKED_AT_ONCE])
            decided.update(unknown)
        return refused

    def _decide(self, dimension: str, names: list[str]) -> int:
        known = self._store.query(
            "SELECT DISTINCT value FROM dimension_values"
            " WHERE dimension = {d:String} AND value IN {v:Array(String)}",
            {"d": dimension, "v": names},
        )
        known_names = set(known["value"]) if not known.is_empty() else set()
        new = [name for name in names if name not in known_names]
        if not new:
            return 0
        admitted = self._store.query(
            "SELECT count() AS n FROM admitted_values WHERE dimension = {d:String}",
            {"d": dimension},
        )["n"][0]
        room = max(0, self._limits[dimension] - int(admitted))
        self._store.insert(
            "dimension_values",
            pl.DataFrame(
                {"value": new, "refused": [int(at >= room) for at in range(len(new))]},
                schema={"value": pl.String, "refused": pl.UInt8},
            ).with_columns(dimension=pl.lit(dimension)),
        )
        refused = max(0, len(new) - room)
        if refused:
            log.warning(
                "%s more of %s than the limit of %s: counted under %s",
                refused, dimension, self._limits[dimension], OTHER,
            )  # fmt: skip
        return refused


def names_in(events: pl.DataFrame) -> dict[str, set[str]]:
    """Names in rows of ``events`` by dimension; ``scope`` is ``KIND:NAME`` or ``model:MODEL``."""
    tools = events.select("kind", "name").unique().drop_nulls().filter(pl.col("name") != OTHER)
    found = {
        dimension: set(events[dimension].unique().drop_nulls())
        for dimension in ("environment", "agent", "agent_version")
    }
    found["scope"] = {f"{kind}:{name}" for kind, name in tools.iter_rows()} | {
        f"model:{model}" for model in events["model"].unique().drop_nulls() if model != OTHER
    }
    return {dimension: names - {"", OTHER} for dimension, names in found.items()}


def admitted(dimension: str) -> str:
    """SQL of the set of names admitted in a dimension, for the right side of IN."""
    return f"(SELECT value FROM admitted_values WHERE dimension = '{dimension}')"  # noqa: S608


def refused_in(dimension: str) -> str:
    """SQL of the set of names refused in a dimension, for the right side of IN."""
    return f"(SELECT value FROM refused_values WHERE dimension = '{dimension}')"  # noqa: S608


def limited(expression: str, dimension: str, other: str = f"'{OTHER}'") -> str:
    """SQL of a name as derived rows bear it: itself if admitted or missing, else ``other``."""
    return f"if({expression} = '' OR {expression} IN {admitted(dimension)}, {expression}, {other})"


def as_it_is(expression: str, _dimension: str, _other: str = "") -> str:
    """The same while no name is refused; looking each of them up costs more than to ask that."""
    return expression


LabelSql = Callable[..., str]
"""`limited` or `as_it_is`."""


_LAST_ANSWERS: Final[WeakKeyDictionary[Store, bool]] = WeakKeyDictionary()


def any_refused(store: Store, again: bool = True) -> bool:
    """Whether any name was ever refused, which is then for ever.

    Without asking again it is the last answer, where there was one.
    """
    known = _LAST_ANSWERS.get(store)
    if known is None or (again and not known):
        found = store.query("SELECT max(refused) AS refused FROM dimension_values")
        known = _LAST_ANSWERS[store] = bool(found["refused"][0])
    return known
