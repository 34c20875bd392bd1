"""Scheduled incidents and quiet weeks through the real stations: what is found, when, and why.

Results are generated (`bench.incident_world`) and event time runs as fast as the stations do. Each
kind of incident gets a world of its own: days of ordinary traffic, one harmless deployment, then
the incident. Quiet weeks have seasons, growth and deployments and nothing else. Beside it, on the
same traffic: fixed thresholds, as people set them first, and a rolling z-score.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import polars as pl
from scipy import stats

from bench.incident_world import (
    FLEET,
    HOUR,
    KINDS,
    START,
    Deployment,
    Incident,
    Rush,
    World,
    hits,
    one,
)
from bench.report import report, result
from processors.findings import Finding
from processors.stations.base import BUCKETS, CELL
from processors.stations.base import FLEET as ALL_AGENTS
from processors.stations.detection import DetectionConfig
from processors.stations.runner import Stations
from processors.stations.service import all_stations
from processors.stations.storage import MemoryStations

Say = Callable[[str], None]
DAY: Final = 86_400
CONFIG: Final = DetectionConfig()
_BUCKETS: Final = [*map(str, range(BUCKETS)), ALL_AGENTS]
_AGENTS: Final = {
    "slow_tool": "research", "latency_tail": "retail", "loop": "booking",
    "new_request": "billing", "canary": "coding", "cost_explosion": "retail",
    "silent_agent": "booking", "data_health": "coding", "model_outage": "coding",
}  # fmt: skip


@dataclass(slots=True)
class Outcome:
    """What became of one incident.

    Attributes
    ----------
    delay_s
        Event time from its start to the first finding about it; None when it was missed.
    interactions
        Of the agents hit, in that time.
    rank
        Place of the true cause among those of the incident, 1 for the first; None without it.
    paged
        Incidents that paged for it.
    """

    kind: str
    delay_s: int | None = None
    interactions: int = 0
    rank: int | None = None
    severity: str = ""
    paged: set[str] = field(default_factory=set)

    @property
    def pages(self) -> int:
        """How many incidents paged for it."""
        return len(self.paged)


@dataclass(slots=True)
class Peer:
    """Pages of a simple rule on failure rate, mean duration, tokens and volume per 5 minutes."""

    name: str
    pages: list[tuple[str, int]] = field(default_factory=list)


def _unheard(_: str) -> None:
    """Nobody listens."""


def run(quick: bool, seed: int, say: Say = _unheard) -> dict[str, Any]:
    """Measure what is found of every kind of incident, and pages in quiet weeks.

    Parameters
    ----------
    quick
        One day before each incident instead of eight, and one quiet week instead of ten.
    seed
        Of all data.
    say
        Takes one line of progress.
    """
    begun, weeks = time.monotonic(), 1 if quick else 10
    outcomes: list[Outcome] = []
    peers = {"fixed_thresholds": 0, "rolling_z_score": 0}
    # The cost is measured first, while nothing runs beside it.
    cost = _cost(seed)
    # One process for the weeks, which take as long as all incidents together, and one for these.
    os.environ["POLARS_MAX_THREADS"] = "1"
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        quiet = pool.submit(_quiet, seed, weeks, say)
        incidents = [pool.submit(_incident, kind, seed, 1 if quick else 8) for kind in KINDS]
        for done in incidents:
            outcome, caught = done.result()
            outcomes.append(outcome)
            for name, found in caught.items():
                peers[name] += found
            ruled = ", ".join(name for name, found in caught.items() if found) or "none"
            took = f"{time.monotonic() - begun:,.0f} s"
            say(f"{outcome.kind}: {_told(outcome)}; simple rules that paged: {ruled} ({took})")
        pages, notices, false = quiet.result()
    results = _figures(outcomes, pages, notices, weeks) + cost
    for name, found in peers.items():
        results.append(
            result("found_share", found / len(outcomes), "share", peer=name, n=len(outcomes))
        )
        results.append(_rate("pages_per_quiet_week", false[name], weeks, name))
    return report("incidents", seed, ("driftline", "numpy", "scipy", "polars"), results)


def _told(o: Outcome) -> str:
    if o.delay_s is None:
        return "missed"
    return f"{o.severity} after {o.delay_s} s, cause at place {o.rank}, {o.pages} pages"


def _incident(kind: str, seed: int, days: int) -> tuple[Outcome, dict[str, int]]:
    """One incident of a kind on the afternoon after ``days`` of ordinary traffic."""
    start = START + days * DAY + 13 * HOUR + 60 * (seed % 50)
    incident = one(kind, _AGENTS.get(kind, "support"), start, 3 * HOUR)
    hit = {a.name for a in FLEET if hits(incident, a)}
    beside = {"support"} if len(hit) > 1 else set()
    agents = tuple(a for a in FLEET if a.name in hit | beside)
    deployment = Deployment(agents[0].name, start - DAY // 2, "v1.1")
    world = World(seed + len(kind), agents=agents, incidents=(incident,), deployments=(deployment,))
    outcome = Outcome(kind)
    peers = [_Rules("fixed_thresholds"), _Rules("rolling_z_score")]
    for found, hour in _watched(world, incident, peers):
        if _hits(found, incident) and found.found >= incident.start:
            _note(outcome, found, incident)
        del hour
    if outcome.delay_s is not None:
        outcome.interactions = _interactions(world, hit, start, start + outcome.delay_s)
    until = incident.end + SETTLING
    caught = {
        p.name: int(any(a in hit and start <= at <= until for a, at in p.pages)) for p in peers
    }
    return outcome, caught


SETTLING: Final = 3600
"""Seconds after an incident in which it may still be found: ratings come late."""


def _watched(
    world: World, incident: Incident, peers: list[_Rules]
) -> Iterator[tuple[Finding, int]]:
    """Findings of a world from its start until an hour after an incident.

    While the incident begins event time is sealed every minute, as it is in production.
    """
    store = MemoryStations()
    stations = Stations(store, all_stations(CONFIG), save_every_s=math.inf)
    first, last = START, incident.end + SETTLING
    for hour in range(first, last, HOUR):
        rows = world.hour(hour)
        for peer in peers:
            peer.hour(rows, hour)
        begins = incident.start - HOUR < hour <= incident.start
        lasts = incident.start < hour < incident.end + SETTLING
        step = 60 if begins else 600 if lasts else HOUR
        for cut in range(hour + step, hour + HOUR + 1, step):
            part = rows.filter((rows["decided"] >= cut - step) & (rows["decided"] < cut))
            store.feed(part, cut)
            for finding in _stepped(stations):
                yield finding, hour


def _stepped(stations: Stations) -> Iterator[Finding]:
    more = True
    while more:
        found, more = stations.step(_BUCKETS)
        stations.told()
        yield from (f for f in found if not f.incident)


def _hits(found: Finding, incident: Incident) -> bool:
    """Whether a finding can be about an incident: its agents, and it began about then."""
    agents = {a.name for a in FLEET if hits(incident, a)}
    return found.agent in {*agents, ""} and found.began >= incident.start - 1800


def _note(outcome: Outcome, found: Finding, incident: Incident) -> None:
    if not found.active:
        return
    if outcome.delay_s is None:
        outcome.delay_s = found.version - incident.start
    outcome.severity = "page" if "page" in (found.severity, outcome.severity) else "notice"
    outcome.rank = _rank(found, incident) or outcome.rank
    if found.severity == "page":
        outcome.paged.add(found.finding_id)


def _rank(found: Finding, incident: Incident) -> int | None:
    """Place of the true cause; a silent agent is its own.

    Causes that mark as many of the same interactions, as two tools that are always used together,
    share a place: nothing in the data tells them apart.
    """
    attribute, value = incident.cause
    if attribute == "agent":
        return 1 if found.agent == value else None
    if found.attribute == attribute and found.value == value and not found.causes:
        return 1
    causes = [(c.attribute, c.value) for c in found.causes if c.attribute != "cluster"]
    if attribute == "topic":
        words = _words_of(value)
        return next((i for i, (a, v) in enumerate(causes, 1) if a == "topic" and v in words), None)
    told = {(c.attribute, c.value): (c.attribute, c.lift, c.share) for c in reversed(found.causes)}
    true = told.get((attribute, value))
    return next((i for i, c in enumerate(causes, 1) if told[c] == true), None)


def _words_of(topic: str) -> set[str]:
    """Words by which a reader knows a topic."""
    from bench.incident_world import NEW_TOPIC, TOPICS

    return {w for t in (*TOPICS, NEW_TOPIC) if t.name == topic for w in t.words}


def _interactions(world: World, agents: set[str], start: int, end: int) -> int:
    hours = range(start // HOUR * HOUR, end + 1, HOUR)
    rows = pl.concat([world.hour(hour) for hour in hours])
    at = pl.col("decided")
    return rows.filter(pl.col("agent").is_in(agents) & (at >= start) & (at < end)).height


# -- quiet weeks -----------------------------------------------------------------------------------


def _quiet(seed: int, weeks: int, say: Say) -> tuple[int, int, dict[str, int]]:
    """Pages, notices and pages of the peers in weeks in which nothing goes wrong."""
    deployments = tuple(
        Deployment(agent.name, START + week * 7 * DAY + (1 + n) * DAY + 10 * HOUR, f"v1.{week + 1}")
        for week in range(weeks + 1)
        for n, agent in enumerate(FLEET[:3])
    )
    world = World(seed, deployments=deployments, rushes=_rushes(weeks))
    store = MemoryStations()
    stations = Stations(store, all_stations(CONFIG), save_every_s=math.inf)
    peers = [_Rules("fixed_thresholds"), _Rules("rolling_z_score")]
    pages: set[str] = set()
    notices: set[str] = set()
    # The first week warms up and is not counted.
    for n in range((weeks + 1) * 7 * 24):
        hour = START + n * HOUR
        rows = world.hour(hour)
        for peer in peers:
            peer.hour(rows, hour)
        store.feed(rows, hour + HOUR)
        for found in _stepped(stations):
            if n < 7 * 24:
                continue
            if found.finding_id not in pages | notices:
                say(f"quiet week {n // 168}: {found.severity}: {found.title}")
            (pages if found.severity == "page" else notices).add(found.finding_id)
        if n % 168 == 167:
            say(f"quiet week {n // 168}: {len(pages)} pages, {len(notices - pages)} notices so far")
    first = START + 7 * DAY
    false = {p.name: sum(at >= first for _, at in p.pages) for p in peers}
    return len(pages), len(notices - pages), false


def _rushes(weeks: int) -> tuple[Rush, ...]:
    """Twice the traffic of an agent for an afternoon of every week, and a holiday in some."""
    rushes = []
    for week in range(1, weeks + 1):
        start = START + week * 7 * DAY
        agent = FLEET[week % len(FLEET)].name
        rushes.append(Rush(agent, start + 2 * DAY + 12 * HOUR, start + 2 * DAY + 18 * HOUR, 2.0))
        if week % 3 == 0:
            rushes.append(Rush("", start + 4 * DAY, start + 5 * DAY, 0.5))
    return tuple(rushes)


class _Rules(Peer):
    """Rules on five minutes of an agent: fixed limits, or three deviations of the last day.

    A rule that fires for an agent is quiet for an hour.
    """

    _WINDOW = 300

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._past: dict[tuple[str, str], list[float]] = {}
        self._quiet: dict[str, int] = {}

    def hour(self, rows: pl.DataFrame, start: int) -> None:
        """Take an hour of results."""
        windows = (
            rows.with_columns(window=pl.col("decided") // self._WINDOW * self._WINDOW)
            .group_by("agent", "window")
            .agg(
                failures=1 - pl.col("success").mean(),
                duration=pl.col("duration_ms").quantile(0.95),
                tokens=pl.col("input_tokens").mean(),
                n=pl.len(),
            )
            .sort("window", "agent")
        )
        for row in windows.iter_rows(named=True):
            if row["n"] >= 10 and self._fires(row):
                self._page(row["agent"], row["window"] + self._WINDOW)

    def _fires(self, row: dict[str, Any]) -> bool:
        if self.name == "fixed_thresholds":
            # What a dashboard's defaults would say: 20 % failures, p95 of 20 s, 10,000 tokens.
            return bool(
                row["failures"] > 0.2 or row["duration"] > 20_000 or (row["tokens"] or 0) > 10_000
            )
        odd = [self._odd(row, m) for m in ("failures", "duration", "tokens", "n")]  # all learn
        return any(odd)

    def _odd(self, row: dict[str, Any], measure: str) -> bool:
        value = row[measure]
        if value is None:
            return False
        past = self._past.setdefault((row["agent"], measure), [])
        odd = False
        if len(past) >= 144:
            spread = float(np.std(past))
            odd = spread > 0 and abs(value - float(np.mean(past))) > 3 * spread
        past.append(float(value))
        del past[:-288]
        return odd

    def _page(self, agent: str, at: int) -> None:
        if at - self._quiet.get(agent, 0) >= HOUR:
            self.pages.append((agent, at))
        self._quiet[agent] = at


# -- cost ------------------------------------------------------------------------------------------


def _cost(seed: int) -> list[dict[str, Any]]:
    """Stored state per stream of detection, and processor time of steps as in live traffic."""
    fleet = tuple(
        replace(agent, name=f"{agent.name}-{n}", per_hour=1_500, season=0)
        for n in range(16) for agent in FLEET
    )  # fmt: skip
    rows = World(seed, agents=fleet).hour(START)
    store, begun = MemoryStations(), START + 2_400
    stations = Stations(store, all_stations(DetectionConfig(warm_up=500)), save_every_s=math.inf)
    store.feed(rows.filter(pl.col("decided") < begun), begun)
    list(_stepped(stations))
    live = rows.filter(pl.col("decided") >= begun)
    spent = time.process_time()
    for cut in range(begun + CELL, START + HOUR + 1, CELL):
        store.feed(live.filter(pl.col("decided").is_between(cut - CELL, cut - 1)), cut)
        list(_stepped(stations))
    spent = time.process_time() - spent
    stations.flush()
    streams = sum(s.streams for s in store.states.values() if s.station == "detection")
    size = sum(len(s.state) for s in store.states.values())
    return [
        result("state_bytes_per_stream", size / streams, "bytes", n=streams),
        result(
            "cpu_seconds_per_million_interactions", spent / live.height * 1e6, "CPU-s",
            n=live.height,
        ),
    ]  # fmt: skip


# -- figures ---------------------------------------------------------------------------------------


def _figures(outcomes: list[Outcome], pages: int, notices: int, weeks: int) -> list[dict[str, Any]]:
    found = [o for o in outcomes if o.delay_s is not None]
    delays = [o.delay_s for o in found if o.delay_s is not None]
    n = len(outcomes)
    ranks = [o.rank for o in found]
    results = [
        _share("found_share", len(found), n),
        _share("paged_share", sum(o.severity == "page" for o in found), n),
        _share("cause_first_share", sum(r == 1 for r in ranks), n),
        _share("cause_top3_share", sum(r is not None and r <= 3 for r in ranks), n),
        result("delay_median_s", float(np.median(delays)), "s", n=len(delays)),
        result("delay_p90_s", float(np.quantile(delays, 0.9)), "s", n=len(delays)),
        result(
            "delay_median_interactions", float(np.median([o.interactions for o in found])),
            "interactions", n=len(found),
        ),
        result(
            "pages_per_incident", float(np.mean([o.pages for o in found])), "pages", n=len(found)
        ),
        result("pages_per_incident_max", float(max(o.pages for o in found)), "pages", n=len(found)),
        _rate("pages_per_quiet_week", pages, weeks, None),
        _rate("notices_per_quiet_week", notices, weeks, None),
        result("page_budget_per_week", CONFIG.pages_per_week, "pages/week"),
    ]  # fmt: skip
    for o in outcomes:
        results.append(result(f"{o.kind}.delay_s", o.delay_s, "s"))
        results.append(result(f"{o.kind}.cause_rank", o.rank, "place"))
    return results


def _share(metric: str, k: int, n: int) -> dict[str, Any]:
    interval = stats.binomtest(k, n).proportion_ci(method="exact")
    return result(metric, k / n, "share", low=interval.low, high=interval.high, n=n)


def _rate(metric: str, count: int, weeks: int, peer: str | None) -> dict[str, Any]:
    """Events per week with their exact Poisson interval."""
    low = stats.chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    high = stats.chi2.ppf(0.975, 2 * (count + 1)) / 2
    return result(
        metric, count / weeks, "per week", peer=peer, low=low / weeks, high=high / weeks, n=weeks
    )
