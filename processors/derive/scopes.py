"""Whose an id is, and whom an evaluation may speak of: what bound tokens can change. Pure.

Events of a bound token say its scope: ``ENVIRONMENT``, ``ENVIRONMENT/AGENT,AGENT`` or
``/AGENT,AGENT``; all others have none and are trusted (docs/decisions/0016-token-scope.md). Ids
live in a scope. Where several scopes use one id, one of them keeps it: the trusted one, else the
first in the alphabet. For every other it is ``ID@scope:SCOPE``, with colons for slashes.
"""

from __future__ import annotations

from typing import Final

import polars as pl

MARK: Final = "@scope:"


def root(name: str) -> str:
    """An id as its sender gave it.

    >>> root("t@scope:staging:shop/e7"), root("t/e7")
    ('t', 't/e7')
    """
    return name.partition(MARK)[0]


def suffixed(name: str) -> pl.Expr:
    """Id in a ``scope`` that does not keep it as it is."""
    return pl.concat_str(name, _ending())


def of_traces() -> pl.Expr:
    """Name of ``trace`` in the ``scope`` of each event; ``trace`` has to be whole.

    What looks like the name of a further interaction, or of another scope, nobody bound has plain.
    """
    reserved = pl.col("trace").str.contains(f"/|{MARK}")
    return _named("trace", pl.col("scope").min().over("trace"), reserved)


def of_sessions(counts: pl.Expr) -> pl.Expr:
    """Name of the session ``raw`` in the ``scope`` of each interaction, by those that count."""
    reserved = pl.col("raw").str.contains(MARK, literal=True)
    first = pl.col("scope").filter(counts).min().over("raw")
    return pl.when(counts).then(_named("raw", first, reserved)).otherwise("raw")


def plain(name: str) -> pl.Expr:
    """Id without the ``scope`` that it may bear."""
    return (
        pl.when(pl.col("scope") == "")
        .then(name)
        .otherwise(pl.col(name).str.split(_ending()).list.join(""))
    )


def _ending() -> pl.Expr:
    return pl.concat_str(pl.lit(MARK), pl.col("scope").str.replace_all("/", ":", literal=True))


def _named(name: str, first: pl.Expr, reserved: pl.Expr) -> pl.Expr:
    bound = pl.col("scope") != ""
    return (
        pl.when(bound & (reserved | (pl.col("scope") != first)))
        .then(suffixed(name))
        .otherwise(name)
    )


def heard(targets: pl.DataFrame, evaluations: pl.DataFrame, key: str) -> pl.DataFrame:
    """Evaluations of things, as far as their scopes admit them.

    Parameters
    ----------
    targets
        Each thing (``key``) with its ``environment`` and ``agent``, once for each ``target`` by
        which it may be named.
    evaluations
        As `results.current` makes them.
    key
        Column that says what is judged.
    """
    found = targets.join(evaluations, on="target")
    if (found["scope"] == "").all() and targets[key].is_unique().all():
        return found
    # Of what one user says by several tokens or of several names the latest counts.
    return (
        found.filter(admits())
        .sort(pl.struct(pl.col("value").is_not_null(), "ns", "event_id"))
        .group_by(key, "kind", "name", "user_id", maintain_order=True)
        .last()
    )


def admits() -> pl.Expr:
    """Whether ``scope`` holds the ``environment`` and the ``agent`` beside it."""
    c = pl.col
    environment, agents = c("scope").str.extract("^([^/]*)"), c("scope").str.extract("/(.*)$")
    return ((environment == "") | (environment == c("environment"))) & (
        agents.is_null() | agents.str.split(",").list.contains(c("agent"))
    )
