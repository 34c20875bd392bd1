"""Which events of a trace belong to which interaction, and which tell of the same call twice.

A trace may hold a web server above the agent, agents below the agent, several conversations below
one root, or no root at all. The topmost agent span decides (kind ``interaction``); everything below
it is its work. Columnar: parents are followed for all events at once, by pointer doubling.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

Indices = npt.NDArray[np.int64]

_NONE: Final = -1
# 2^20 spans deep; what is deeper, or a circle of parents, is cut there.
_MOST_DOUBLINGS: Final = 20
_MOST_WRAPPERS: Final = 32


def resolve(events: pl.DataFrame) -> pl.DataFrame:
    """Assign events to interactions.

    Parameters
    ----------
    events
        Distinct events of whole traces, each of one scope: ``trace``, ``event_id``,
        ``parent_id``, ``ns``, ``payload_hash``, ``start_ns``, ``kind``, ``name``, ``is_root``,
        ``input_tokens``, ``output_tokens``, ``cost_usd``.

    Returns
    -------
    polars.DataFrame
        The events in order of (trace, ns, payload_hash) with ``interaction_id``, ``closes`` (it is
        a topmost agent span), ``repeats`` (a call that another event of the trace tells as well),
        ``sums`` (an agent span that says tokens or cost, below none that does), and
        ``cost_usd`` of calls that only another event that tells them knows.
    """
    events = events.sort("trace", "ns", "payload_hash")
    # Joins on numbers are several times cheaper than on names.
    numbered = events.with_columns(trace=pl.col("trace").rle_id())
    parent = _parents(numbered)
    agent = (events["kind"] == "interaction").to_numpy()
    sums = _sums(events, parent, agent)
    stand_in = _stand_ins(numbered, parent, agent)
    agent = agent | stand_in
    owner, closes = _owners(numbered, agent, stand_in, *_topmost(parent, agent))
    repeats, costs = _repeats(events, parent)
    if costs is not None:
        events = events.with_columns(pl.Series("cost_usd", costs).fill_nan(None))
    return events.with_columns(
        pl.Series("interaction_id", _names(events, owner)),
        pl.Series("closes", closes),
        pl.Series("repeats", repeats),
        pl.Series("sums", sums),
    )


def _parents(events: pl.DataFrame) -> Indices:
    """Row of each event's parent in the same trace, -1 without one; shape (n_events,)."""
    parent = np.full(len(events), _NONE)
    rows = events.select("trace", "event_id", "parent_id").with_row_index("row")
    asking = rows.filter(pl.col("parent_id") != "")
    if asking.is_empty():
        return parent
    first = (
        rows.filter(pl.col("trace").is_in(asking["trace"].unique().implode()))
        .group_by("trace", "event_id")
        .agg(pl.col("row").min().cast(pl.Int64).alias("parent"))
    )
    found = asking.join(
        first, left_on=["trace", "parent_id"], right_on=["trace", "event_id"], how="inner"
    ).filter(pl.col("row") != pl.col("parent"))
    parent[found["row"].to_numpy()] = found["parent"].to_numpy()
    return parent


def _stand_ins(
    events: pl.DataFrame, parent: Indices, agent: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Topmost model and tool work, in traces without any agent, once all that is above it is there.

    A web server that calls a model by itself is one. Only the root of a trace's spans says that
    nothing more is above; events that are no spans, such as those of logs, do not.
    """
    kind = events["kind"].cast(pl.String)
    stands = kind.is_in(_STANDING).to_numpy()
    root = events["is_root"].to_numpy()
    if not root.any():
        return np.zeros(len(events), dtype=np.bool_)
    with_agent = events["trace"].filter(pl.Series(agent)).unique()
    stands &= ~events["trace"].is_in(with_agent.implode()).to_numpy()
    stands &= _nearest_work(parent, (kind == "span").to_numpy()) == _NONE
    _, last = _topmost(parent, np.zeros(len(events), dtype=np.bool_))
    stands &= root[last]
    return stands


_STANDING: Final = ("llm_call", "tool_call", "retrieval")


def _topmost(parent: Indices, agent: npt.NDArray[np.bool_]) -> tuple[Indices, Indices]:
    """Row of the highest agent at or above each event (-1 without), and of its last ancestor."""
    rows = np.arange(len(parent))
    jump, last = parent.copy(), rows.copy()
    top = np.where(agent, rows, _NONE)
    for _ in range(_MOST_DOUBLINGS):
        moving = jump != _NONE
        if not moving.any():
            break
        above = jump[moving]
        top[moving] = np.where(top[above] != _NONE, top[above], top[moving])
        last[moving] = last[above]
        jump[moving] = jump[above]
    return top, last


def _owners(
    events: pl.DataFrame,
    agent: npt.NDArray[np.bool_],
    stand_in: npt.NDArray[np.bool_],
    top: Indices,
    last: Indices,
) -> tuple[Indices, npt.NDArray[np.bool_]]:
    """Row of the event that names each event's interaction, and which events close theirs.

    The row is -1 in traces without any agent.

    All agents of a trace without a parent are one interaction, as are all stand-ins, and agents
    whose parent is missing where there is one without. Work that lies below no agent goes to the
    interaction that began last before it.
    """
    frame = events.select("trace", "parent_id", "event_id", "start_ns").with_columns(
        row=pl.int_range(pl.len(), dtype=pl.Int64),
        top=pl.Series(top),
        orphan=pl.Series(events["parent_id"].to_numpy()[last] != ""),
        agent=pl.Series(agent),
        rooted=pl.Series(stand_in) | (events["parent_id"] == ""),
    )
    tops = frame.filter(pl.col("agent") & (pl.col("top") == pl.col("row"))).sort(
        "trace", "start_ns", "event_id"
    )
    roots = tops.filter("rooted").group_by("trace", maintain_order=True).first()
    named = tops.join(roots.select("trace", root="row"), on="trace", how="left").with_columns(
        owner=pl.when(pl.col("rooted") | (pl.col("orphan") & pl.col("root").is_not_null()))
        .then("root")
        .otherwise("row")
    )
    owned = frame.join(
        named.select(top="row", owner="owner"), on="top", how="left", maintain_order="left"
    )["owner"]
    owner: Indices = owned.fill_null(_NONE).to_numpy().copy()
    loose = owner == _NONE
    if loose.any() and not named.is_empty():
        owner[loose] = _nearest(frame.filter(pl.Series(loose)), named)
    closing = named.filter(pl.col("rooted") | (pl.col("owner") == pl.col("row")))["row"]
    closes = np.zeros(len(events), dtype=np.bool_)
    closes[closing.to_numpy()] = True
    return owner, closes


def _nearest(loose: pl.DataFrame, named: pl.DataFrame) -> Indices:
    """Owner for events below no agent: who began last before them, else the first of the trace."""
    owners = named.select("trace", "owner", at="start_ns").sort("at", maintain_order=True)
    first = owners.group_by("trace", maintain_order=True).agg(
        first=pl.col("owner").first(), several=pl.col("owner").n_unique() > 1
    )
    found = loose.select("trace", "row", at="start_ns").join(
        first, on="trace", how="left", maintain_order="left"
    )
    owner: Indices = found["first"].fill_null(_NONE).to_numpy().copy()
    asked = found["several"].fill_null(value=False)
    if asked.any():
        nearest = (
            found.filter(asked)
            .sort("at")
            .join_asof(owners, on="at", by="trace", strategy="backward", check_sortedness=False)
            .sort("row")
        )
        owner[asked.to_numpy()] = nearest.select(pl.coalesce("owner", "first")).to_series()
    return owner


def _names(events: pl.DataFrame, owner: Indices) -> pl.Series:
    """The trace's id for its first interaction; for others the trace's id and their span's."""
    frame = events.select("trace").with_columns(owner=pl.Series(owner))
    owners = frame.filter(pl.col("owner") != _NONE).unique("owner")
    rows = owners["owner"].to_numpy()
    owners = owners.with_columns(
        event_id=events["event_id"].gather(rows),
        start_ns=events["start_ns"].gather(rows),
        rooted=events["parent_id"].gather(rows) == "",
    ).sort("trace", "rooted", "start_ns", "event_id", descending=[False, True, False, False])
    others = owners.filter(~pl.col("trace").is_first_distinct())
    if others.is_empty():
        return frame["trace"]
    named = others.select("owner", name=further("trace", "event_id"))
    return (
        frame.join(named, on="owner", how="left", maintain_order="left")
        .select(pl.coalesce("name", "trace"))
        .to_series()
    )


def further(trace: str, event_id: str) -> pl.Expr:
    """Id of an interaction that is not the first of its trace."""
    return pl.concat_str(pl.col(trace), pl.col(event_id), separator="/")


def _sums(
    events: pl.DataFrame, parent: Indices, agent: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Agent spans that say tokens or cost, below none that does: each contains those below it."""
    said = events.select(pl.any_horizontal(pl.col(name).is_not_null() for name in _SAID))
    says: npt.NDArray[np.bool_] = agent & said.to_series().to_numpy()
    if not says.any():
        return says
    top, _ = _topmost(parent, says)
    highest: npt.NDArray[np.bool_] = says & (top == np.arange(len(parent)))
    return highest


_SAID: Final = ("input_tokens", "output_tokens", "cost_usd")


def _repeats(
    events: pl.DataFrame, parent: Indices
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64] | None]:
    """Calls that are told twice, and what calls cost where another that tells them knows it.

    Instrumentations of one program see the same call, one inside the other: a model call within a
    model call, a tool within the same tool, a question to a person within the wait for the answer.
    The outer counts, but of model calls the outermost that knows tokens.
    """
    kind = events["kind"].cast(pl.String).to_numpy()
    repeats = np.zeros(len(events), dtype=np.bool_)
    calls = np.isin(kind, ("llm_call", "tool_call", "human_input"))
    if not (calls & (parent != _NONE)).any():
        return repeats, None
    above = _nearest_work(parent, kind == "span")
    inside = calls & (above != _NONE) & (kind == kind[above])
    if not inside.any():
        return repeats, None
    name = events["name"].cast(pl.String).fill_null("").to_numpy()
    repeats = inside & ((kind == "human_input") | ((kind == "tool_call") & (name == name[above])))
    models = inside & (kind == "llm_call")
    if not models.any():
        return repeats, None
    link = np.where(models, above, _NONE)
    knows = (
        events.select(pl.col("input_tokens").is_not_null() | pl.col("output_tokens").is_not_null())
        .to_series()
        .to_numpy()
    )
    known_above, known_below = np.zeros_like(repeats), np.zeros_like(repeats)
    for rows, outer in _upward(link):
        known_above[rows] |= knows[outer]
        known_below[outer[knows[rows]]] = True
    chained = models.copy()
    chained[link[models]] = True
    counts = np.where(knows, ~known_above, ~models & ~known_below)
    return repeats | (chained & ~counts), _costs(events, link, chained & counts)


def _upward(link: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Rows that have an outer one, with it; then those and the next outer one, to the outermost."""
    rows = np.flatnonzero(link != _NONE)
    outer = link[rows]
    for _ in range(_MOST_WRAPPERS):
        if not len(rows):
            return
        yield rows, outer
        outer = link[outer]
        rows, outer = rows[outer != _NONE], outer[outer != _NONE]


def _costs(
    events: pl.DataFrame, link: Indices, counts: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64] | None:
    """Cost of each event, with those of calls that count from the outermost that knows it."""
    cost = events["cost_usd"].cast(pl.Float64).fill_null(np.nan).to_numpy().copy()
    priced = ~np.isnan(cost)
    asking = counts & ~priced
    if not (asking.any() and priced.any()):
        return None
    source, teller = np.full(len(cost), _NONE), np.full(len(cost), _NONE)
    priced_above = np.zeros_like(priced)
    for rows, outer in _upward(link):
        told = priced[outer]
        source[rows[told]] = outer[told]
        priced_above[rows] |= told
        first = counts[outer] & (teller[rows] == _NONE)
        teller[rows[first]] = outer[first]
    found = cost.copy()
    given = np.flatnonzero(asking & (source != _NONE))
    # One that is told by several inner ones is paid once.
    found[given] = 0.0
    outermost, at = np.unique(source[given], return_index=True)
    found[given[at]] = cost[outermost]
    inner = np.flatnonzero(priced & ~priced_above & ~counts & (teller != _NONE))
    inner = inner[asking[teller[inner]] & (source[teller[inner]] == _NONE)]
    found[teller[inner]] = 0.0
    np.add.at(found, teller[inner], np.round(cost[inner], 9))
    return found


def _nearest_work(parent: Indices, wrapper: npt.NDArray[np.bool_]) -> Indices:
    """Nearest ancestor that is not merely a wrapper of others; -1 without one."""
    above = parent.copy()
    for _ in range(_MOST_WRAPPERS):
        passing = (above != _NONE) & wrapper[above]
        if not passing.any():
            break
        above[passing] = parent[above[passing]]
    return above
