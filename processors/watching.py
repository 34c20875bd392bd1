"""What detection follows, from the stored states: the read model of ``driftline watching``."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, Final

import numpy as np

from processors.clickhouse import Store
from processors.derive.judging import ResultsConfig
from processors.signals import BY_NAME
from processors.stations.base import BUCKETS, moment
from processors.stations.detection import Detection, DetectionConfig, DetectionState
from processors.stations.streams import Register, attribute

_STATES: Final = """
SELECT bucket, toInt64(toUnixTimestamp(position)) AS position, hex(state) AS state
FROM station_state FINAL WHERE station = 'detection' ORDER BY bucket
"""

_STATIONS: Final = """
SELECT p.station AS station, min(p.position) AS position, count() AS buckets,
    sum(s.streams) AS streams, max(p.interactions) AS most, sum(p.interactions) AS interactions
FROM (SELECT * FROM station_progress FINAL) AS p
LEFT JOIN (SELECT * FROM station_state FINAL) AS s
    ON s.station = p.station AND s.bucket = p.bucket
GROUP BY station ORDER BY station
"""

_LATE: Final = """
SELECT sum(greatest(0, toInt64(stored.n) - toInt64(seen.n))) AS late
FROM
(
    SELECT hour, sum(interactions) AS n FROM station_read FINAL
    GROUP BY hour HAVING hour < toStartOfHour({until:DateTime})
) AS seen
INNER JOIN
(
    SELECT toStartOfHour(cell + if(state = 'unfinished', {given_up:UInt32}, 0)) AS hour,
        count() AS n
    FROM interaction_results FINAL WHERE live AND state != 'open' GROUP BY hour
) AS stored ON stored.hour = seen.hour
"""


def watch(
    store: Store, judged: ResultsConfig, detection: DetectionConfig | None = None
) -> dict[str, Any]:
    """Streams, stations, and how many interactions came after detection had read their hour."""
    states = store.query(_STATES)
    streams = [
        stream
        for _, position, raw in states.iter_rows()
        for stream in _streams(_state(bytes.fromhex(raw), detection), position)
    ]
    stations = store.query(_STATIONS).to_dicts()
    # What was read is noted with the states, which lag behind what was read.
    until = moment(min(states["position"], default=0))
    late = store.query(_LATE, {"until": until, "given_up": judged.read_after_s})
    return {
        "streams": streams,
        "stations": [{k: v for k, v in s.items() if k != "most"} for s in stations],
        "late": int(late["late"][0] or 0) if len(late) else 0,
        "buckets": BUCKETS,
    }


def _state(raw: bytes, config: DetectionConfig | None = None) -> DetectionState:
    return Detection(config or DetectionConfig()).load(raw.partition(b"\n")[2])


def _streams(state: DetectionState, position: int) -> Iterator[dict[str, Any]]:
    rates, width = state.rates, state.tails.detector.indicators
    reference = rates.detector.reference
    yield from _described(
        rates.register, position, rates.detector.warm, reference.n / rates.detector.warm_up,
        rates.detector.baseline,
    )  # fmt: skip
    warm = state.tails.detector.members.warm.reshape(-1, width)[:, 0]
    sizes = np.array([sum(t.counts) for t in state.tails.tails]) / state.tails.warm_up
    known = state.tails.seasons.known[::width]
    medians = [
        t.quantiles(0.5, 0, k)[0] if t.bins else np.nan
        for t, k in zip(state.tails.tails, known.tolist(), strict=True)
    ]
    yield from _described(state.tails.register, position, warm, sizes / 2, medians)
    mixes = state.mixes.detector.members
    each = mixes.warm.reshape(-1, state.mixes.detector.indicators)
    part = mixes.reference.n.reshape(each.shape)[:, 0] / state.mixes.warm_up
    yield from _described(state.mixes.register, position, each[:, 0], part, None)
    hours, away = state.traffic.hours, state.traffic.silent.keys() | state.traffic.unusual.keys()
    yield from _described(
        state.traffic.register, position, hours >= 168, hours / 168, None, away
    )  # fmt: skip


def _described(
    register: Register, position: int, warm: Any, progress: Any, baseline: Any,
    changed: Collection[int] | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    changed = register.open if changed is None else changed
    for i, (signal, environment, agent, value) in enumerate(register.keys):
        base = None if baseline is None or not np.isfinite(baseline[i]) else float(baseline[i])
        yield {
            "signal": signal, "environment": environment, "agent": agent,
            "attribute": attribute(BY_NAME[signal]), "value": value, "warm": bool(warm[i]),
            "progress": float(np.clip(progress[i], 0, 1)), "baseline": base,
            "unit": BY_NAME[signal].unit, "changed": i in changed,
            "last_value": _when(register.last[i]), "last_sealed": _when(position),
        }  # fmt: skip


def _when(at: int) -> datetime:
    return moment(at)
