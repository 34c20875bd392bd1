"""Anchors: labelled targets that are judged again at a steady pace, to notice a judge that changes.

An anchor is a target that a person labelled and that this version of the evaluator has judged. What
is due follows from the calls that are stored, and so does the verdict of the watch: both are
computed anew each time, so nothing is kept here.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from xxhash import xxh3_64_hexdigest

from detectors.compare.judge_drift import ROUNDS, Blame, JudgeWatch
from ingest.core.events import LABEL
from processors.clickhouse import Store
from processors.evaluators.items import Item
from processors.evaluators.rules import Score
from processors.evaluators.spec import Model
from processors.findings import Finding

HOUR: Final = 3600
MOST: Final = 200
"""Anchors of an evaluator, those with the smallest ids: a set that seldom changes."""

_WATCHED_S: Final = 30 * 86_400
_AT_LEAST: Final = 10
"""With fewer anchors nothing could be told."""

_ANCHORS: Final = f"""
SELECT evaluator, evaluator_version, target_kind, target, content, environment, agent, session_id,
    toInt64(toUnixTimestamp(end)) AS end, toUnixTimestamp64Nano(at) AS at, value >= 0.5 AS first
FROM evaluation_decisions FINAL
WHERE evaluator = {{evaluator:String}} AND evaluator_version = {{version:String}} AND state = 'done'
    AND target IN
    (SELECT target FROM current_evaluations WHERE kind = 'outcome' AND name = '{LABEL}')
ORDER BY target LIMIT {MOST}
"""  # noqa: S608 - our own constants

_JUDGED_AGAIN: Final = """
SELECT target, toInt64(toUnixTimestamp(reserved)) AS at, state, answer FROM evaluation_calls FINAL
WHERE account = {evaluator:String} AND evaluator_version = {version:String} AND purpose = 'anchor'
    AND state != 'withdrawn'
ORDER BY reserved, call_id
"""

_LIVE: Final = """
SELECT intDiv(toInt64(toUnixTimestamp(decided)), 3600) AS hour, sum(value) AS total, count() AS n
FROM evaluation_decisions FINAL
WHERE evaluator = {evaluator:String} AND evaluator_version = {version:String} AND state = 'done'
    AND value IS NOT NULL AND run = '' AND decided > now() - INTERVAL 30 DAY
GROUP BY hour ORDER BY hour
"""


class Anchors:
    """The anchors of one evaluator as they stand in the store now.

    Raises
    ------
    Unavailable
        When ClickHouse is away.
    """

    def __init__(self, store: Store, spec: Model) -> None:
        self._spec = spec
        names = {"evaluator": spec.name, "version": spec.version}
        self._anchors = store.query(_ANCHORS, names).to_dicts()
        self._again = store.query(_JUDGED_AGAIN, names).to_dicts()
        self._live = store.query(_LIVE, names).to_dicts()

    def due(self, now_s: int, suspected_s: int | None = None) -> list[Item]:
        """Anchors to judge now: as the pace asks, or since a suspicion all of them at once."""
        total, done = len(self._anchors), len(self._again)
        if total < _AT_LEAST:
            return []
        last = self._again[-1]["at"] if self._again else now_s - HOUR
        n = int((now_s - last) * self._spec.anchors_per_day / 86_400)
        if suspected_s is not None and now_s - last > self._spec.longest_s:
            n = ROUNDS * total - sum(call["at"] >= suspected_s for call in self._again)
        return [self._item(turn) for turn in range(done, done + min(n, ROUNDS * total))]

    def _item(self, turn: int) -> Item:
        anchor = dict(self._anchors[turn % len(self._anchors)])
        del anchor["first"]
        return Item(**anchor, round=turn // len(self._anchors) % 256, purpose="anchor")

    def watched(self, now_s: int) -> tuple[Blame | None, int | None, int]:
        """The first change that can be told, since when one is suspected (s), the first hour."""
        first = {anchor["target"]: bool(anchor["first"]) for anchor in self._anchors}
        hours: dict[int, list[float]] = {
            row["hour"]: [row["total"], row["n"], 0, 0] for row in self._live
        }
        for call in self._again:
            value = _value(call)
            recent = call["at"] > now_s - _WATCHED_S
            if value is not None and recent and call["target"] in first:
                tick = hours.setdefault(call["at"] // HOUR, [0, 0, 0, 0])
                tick[2] += (value >= 0.5) != first[call["target"]]
                tick[3] += 1
        if not hours or len(first) < _AT_LEAST:
            return None, None, 0
        begin, watch = min(hours), JudgeWatch(len(first))
        for hour in range(begin, now_s // HOUR):
            live, n, departures, anchors = hours.get(hour, (0, 0, 0, 0))
            found = watch.update(live, int(n), int(departures), int(anchors))
            if found is not None:
                return found, None, begin
        suspected = (begin + watch.alarm + 1) * HOUR if watch.suspicious else None
        return None, suspected, begin


def _value(call: dict[str, Any]) -> float | None:
    """Mean of the scores of an answer; None where there was none."""
    if call["state"] != "answered":
        return None
    scores = msgspec.json.decode(call["answer"], type=tuple[Score, ...])
    return sum(score.value for score in scores) / len(scores)


def finding_of(spec: Model, blame: Blame, first_hour: int) -> Finding:
    """A changed judge and a changed agent are findings of two kinds."""
    signal = "judge_drift" if blame.who == "judge" else "judged"
    name = f"{signal}:{spec.name}:{spec.version}:{first_hour + blame.began}"
    found = (first_hour + blame.found + 1) * HOUR
    return Finding(
        finding_id=xxh3_64_hexdigest(name.encode()),
        version=found,
        kind=signal,
        signal=signal,
        severity="notice",
        status="open",
        environment="",
        agent="",
        attribute="evaluator",
        value=spec.name,
        label=spec.name,
        began=(first_hour + blame.began) * HOUR,
        found=found,
        e_value=blame.e_value,
        baseline=blame.baseline,
        observed=blame.observed,
        unit="share",
        n=blame.n,
        detector="evaluators",
    )
