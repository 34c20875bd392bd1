"""The monitor in event time, and rows that a repeated step writes again."""

import asyncio
import dataclasses
import json
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from ingest.codec import decode, encode
from ingest.core.events import EVENTS_TOPIC, Event
from processors.clickhouse import ClickHouseConfig, Store
from processors.derive import dirty_marks, sealing, windows
from processors.findings import Change, alert_rows, finding_rows, message
from processors.stations import detection
from processors.stations.detection import Detection, DetectionConfig, Monitor
from processors.write import rows
from tests.support.common import free_port

S = 10**9
T0 = 1_760_000_000
CONFIG = DetectionConfig(arl=10_000, warm_up=2_000)
SHOP, DESK = ("production", "shop"), ("production", "desk")


def cells(rates, start=T0, n=20, seed=3):
    """Cells of 10 s: ``rates`` maps a stream to its failure rate in each tick, None for no cell."""
    rng = np.random.default_rng(seed)
    rows = []
    for stream, per_tick in rates.items():
        for tick, rate in enumerate(per_tick):
            if rate is not None:
                rows.append((start + 10 * tick, *stream, n, int(rng.binomial(n, rate))))
    schema = {
        "start": pl.UInt32,
        "environment": pl.String,
        "agent": pl.String,
        "n": pl.UInt64,
        "failed": pl.UInt64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row").sort("start", "agent")


def run(monitor, found, step=7):
    """Feed cells in steps of a few ticks; returns the changes and the monitor."""
    starts = found["start"].unique().sort().to_list()
    changes = []
    for at in range(0, len(starts), step):
        part = found.filter(pl.col("start").is_in(starts[at : at + step]))
        changes += monitor.update(part, (starts[min(at + step, len(starts)) - 1] + 10) * S)
    return changes


INCIDENT = [0.05] * 300 + [0.35] * 60 + [0.05] * 300
"""Rate of failures that jumps at tick 300 and returns at tick 360."""


def test_an_alarm_on_a_change_of_rate_in_event_time():
    found, resolved = run(Monitor(CONFIG), cells({SHOP: INCIDENT, DESK: [0.05] * 660}))
    assert (found.environment, found.agent, found.firing) == (*SHOP, True)
    assert found.at == found.found
    began = T0 + 3_000
    assert found.found > began * S
    assert found.found <= (began + 100) * S
    assert abs(found.began - began * S) <= 30 * S
    assert found.e_value >= CONFIG.arl
    assert found.baseline == pytest.approx(0.05, abs=0.015)
    assert found.observed == pytest.approx(0.35, abs=0.12)
    assert found.n > 0
    assert not resolved.firing
    assert (T0 + 3_600) * S < resolved.at <= (T0 + 4_000) * S
    assert resolved.at % (10 * S) == 0
    same = ("environment", "agent", "began", "found", "e_value", "baseline", "observed", "n")
    assert all(getattr(resolved, name) == getattr(found, name) for name in same)


def test_no_alarm_without_a_change():
    rates = {("production", f"agent{i}"): [0.02 * (i + 1)] * 500 for i in range(5)}
    assert run(Monitor(CONFIG), cells(rates)) == []


def test_fewer_failures_are_no_alarm():
    assert run(Monitor(CONFIG), cells({SHOP: [0.4] * 300 + [0.05] * 100})) == []


def test_steps_and_restarts_change_nothing():
    found = cells({SHOP: INCIDENT, DESK: [None] * 50 + [0.1] * 400 + [0.6] * 50})
    whole = Monitor(CONFIG)
    expected = run(whole, found, step=1_000)
    assert [c.firing for c in expected if c.agent == "shop"] == [True, False]
    assert [c.firing for c in expected if c.agent == "desk"][:1] == [True]
    cut, changes = Monitor(CONFIG), []
    starts = found["start"].unique().sort().to_list()
    for at in range(0, len(starts), 37):
        part = found.filter(pl.col("start").is_in(starts[at : at + 37]))
        cut = Monitor.restore(cut.snapshot())
        changes += run(cut, part, step=5)
    assert changes == expected
    assert json.loads(cut.snapshot()) == json.loads(whole.snapshot())
    assert cut.firing == whole.firing
    assert cut.position == whole.position


def test_a_restored_monitor_knows_what_fires():
    found = cells({SHOP: INCIDENT})
    monitor = Monitor(CONFIG)
    half = found.filter(pl.col("start") < T0 + 3_300)
    (change,) = run(monitor, half)
    restored = Monitor.restore(monitor.snapshot())
    assert restored.firing == {SHOP: change}
    (resolved,) = run(restored, found.filter(pl.col("start") >= T0 + 3_300))
    assert resolved == dataclasses.replace(change, firing=False, at=resolved.at)
    assert restored.firing == {}


def test_a_stream_that_joins_late_is_judged_like_the_others():
    alone = run(Monitor(CONFIG), cells({SHOP: INCIDENT}, start=T0 + 1_000))
    late = pl.concat(
        [
            cells({DESK: [0.1] * 760}, seed=9),
            cells({SHOP: INCIDENT}, start=T0 + 1_000),
        ]
    ).sort("start", "agent")
    beside = [c for c in run(Monitor(CONFIG), late) if c.agent == "shop"]
    assert beside == alone
    assert [c.firing for c in beside] == [True, False]


def test_ticks_without_traffic_of_an_agent_are_no_evidence():
    """The start of a change is told in event time although the agent pauses in between."""
    night = [0.05] * 200 + [None] * 500 + [0.05] * 100 + [0.5] * 40
    always = [0.1] * len(night)
    (found,) = run(Monitor(CONFIG), cells({SHOP: night, DESK: always}))
    assert found.agent == "shop"
    assert abs(found.began - (T0 + 8_000) * S) <= 30 * S


def test_old_ticks_are_forgotten_without_losing_the_time(monkeypatch):
    monkeypatch.setattr("processors.stations.detection._TICKS_KEPT", 40)
    monitor = Monitor(CONFIG)
    (found, _) = run(monitor, cells({SHOP: INCIDENT}))
    assert abs(found.began - (T0 + 3_000) * S) <= 30 * S
    assert len(json.loads(monitor.snapshot())["ticks"]) <= 80


def change(**fields):
    base = {
        "environment": "production",
        "agent": "shop",
        "firing": True,
        "began": T0 * S,
        "found": (T0 + 50) * S,
        "at": (T0 + 50) * S,
        "e_value": 12_345.0,
        "baseline": 0.05,
        "observed": 0.35,
        "n": 80,
    }
    return Change(**(base | fields))


EVIDENCE = [{"fingerprint": "f", "reason": "timeout", "tool": "pay", "template": "", "since": 9}]


def test_rows_of_a_step_are_the_same_when_it_is_repeated():
    assert finding_rows(change(), EVIDENCE).equals(finding_rows(change(), EVIDENCE))
    again = alert_rows(change(), change().at, EVIDENCE)
    assert again.equals(alert_rows(change(), change().at, EVIDENCE))


def test_an_episode_is_one_finding():
    opened = finding_rows(change(), EVIDENCE).row(0, named=True)
    end = change(firing=False, at=(T0 + 600) * S)
    resolved = finding_rows(end, EVIDENCE).row(0, named=True)
    assert opened["finding_id"] == resolved["finding_id"]
    assert resolved["version"] > opened["version"]
    assert (opened["status"], resolved["status"]) == ("open", "resolved")
    assert opened["ended"] is None
    assert resolved["ended"].timestamp() == T0 + 600
    assert opened["found"] == resolved["found"]
    assert json.loads(opened["evidence"]) == EVIDENCE


def test_what_is_told_is_the_row_as_json():
    finding = finding_rows(change(), EVIDENCE)
    told, row = json.loads(message(finding)), finding.row(0, named=True)
    assert told["evidence"] == EVIDENCE
    assert datetime.fromisoformat(told["began"]) == row["began"]
    assert told["ended"] is None
    plain = [name for name, value in row.items() if isinstance(value, str | int | float)]
    assert {name: told[name] for name in plain if name != "evidence"} == {
        name: row[name] for name in plain if name != "evidence"
    }


@pytest.mark.parametrize("field", ["environment", "agent", "began"])
def test_other_episodes_are_other_findings(field):
    other = change(**{field: 7 * S if field == "began" else "other"})
    ids = [finding_rows(c, [])["finding_id"][0] for c in (change(), other)]
    assert ids[0] != ids[1]


def test_an_alert_fires_beats_and_resolves_under_one_key():
    entry = alert_rows(change(), change().at, EVIDENCE).row(0, named=True)
    beat = alert_rows(change(), (T0 + 300) * S, []).row(0, named=True)
    end = change(firing=False, at=(T0 + 600) * S)
    leave = alert_rows(end, end.at, []).row(0, named=True)
    assert len({row["alert_key"] for row in (entry, beat, leave)}) == 1
    assert [row["status"] for row in (entry, beat, leave)] == ["firing", "firing", "resolved"]
    assert [row["ts"].timestamp() for row in (entry, beat, leave)] == [T0 + 50, T0 + 300, T0 + 600]
    assert [row["score"] for row in (entry, beat, leave)] == [12_345.0, 12_345.0, 0.0]
    assert "timeout in pay" in entry["description"]
    assert "5.0% to 35.0%" in entry["title"]
    assert entry["severity"] == "critical"
    assert alert_rows(change(observed=0.1), 0, [])["severity"][0] == "warning"


def config(clickhouse):
    return ClickHouseConfig(
        clickhouse.url, clickhouse.user, clickhouse.password, clickhouse.database
    )


def failed(name, seconds, agent="shop", status="error"):
    """An interaction that closes so many seconds after T0; its tool call was 25 s before that."""
    common = {"agent": agent, "interaction_id": name}
    return [
        Event(
            event_id=f"{name}-call", time_unix_nano=(T0 + seconds - 25) * S, kind="tool_call",
            name="pay", status="error", error_type="http_503", **common,
        ),
        Event(
            event_id=f"{name}-end", time_unix_nano=(T0 + seconds) * S, kind="interaction",
            status=status, **common,
        ),
    ]  # fmt: skip


def test_the_evidence_is_what_failed_in_the_six_hours_before_and_since(clickhouse):
    """An interaction counts where it closes, and fails of what its earlier parts say."""
    events = [
        *failed("since", 2), *failed("last", 49), *failed("before", -3_600),
        *failed("first", -6 * 3_600), *failed("too early", -6 * 3_600 - 1), *failed("too late", 50),
        *failed("well", 5, status="ok"), *failed("other's", 3, agent="desk"),
    ]  # fmt: skip
    store = Store(config(clickhouse))
    place = np.zeros(1, np.uint32), np.zeros(1, np.uint64)
    stored = rows.event_rows(decode([encode(events)], [2 * T0 * S]), "log", *place)
    store.insert("events", stored)
    windows.recompute(store, 10, dirty_marks.dirty_cells(stored))
    detects = Detection(store, "log", CONFIG, lambda: True, None)
    (group,) = json.loads(detects._announce(change())["evidence"][0])
    assert (group["reason"], group["tool"]) == ("http_503", "pay")
    assert (group["since"], group["before"]) == (2, 2)


class Watched(Store):
    """Keeps the answers with a column of cells' starts."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.read = []

    def query(self, *arguments):
        answer = super().query(*arguments)
        if "failed" in answer.columns:
            self.read.append(answer["start"])
        return answer


def ended(found):
    """Parts of interactions, one for each that ended in these cells."""
    return (
        found.select(
            pl.col("start").alias("cell"), "environment", "agent",
            pl.int_ranges(pl.col("n")).alias("number"), "failed",
        )
        .explode("number")
        .select(
            "cell", "environment", "agent",
            pl.format("{}-{}-{}", "cell", "agent", "number").alias("interaction_id"),
            pl.lit(1, pl.UInt64).alias("version"), pl.lit(1, pl.UInt8).alias("root"),
            pl.lit(1, pl.UInt64).alias("events"),
            pl.from_epoch("cell").cast(pl.Datetime("ns", "UTC")).alias("end"),
            pl.when(pl.col("number") < pl.col("failed")).then(pl.lit("error"))
            .otherwise(pl.lit("ok")).alias("status"),
        )
    )  # fmt: skip


def seal(store, ns):
    """Say that event time is sealed up to ``ns`` and nothing is left to read."""
    then, until = datetime.fromtimestamp(0, UTC), ns + sealing.SEAL_DELAY_NS
    report = [("log", EVENTS_TOPIC, 0, until, 1, 0, [], then, then)]
    store.insert("watermarks", pl.DataFrame(report, schema=sealing.SCHEMA, orient="row"))


def test_a_long_past_is_read_in_steps_and_decided_as_at_once(clickhouse):
    """Whoever takes over goes on from the last step; weeks without traffic are none."""
    store, told = Watched(config(clickhouse)), []
    past = cells({SHOP: [0.05] * 900 + INCIDENT, DESK: [0.1] * 1_560})
    weeks_later = T0 + 40 * 86_400
    past = pl.concat([past, cells({SHOP: [0.05] * 400 + [0.4] * 40}, start=weeks_later)])
    sealed = (weeks_later + 5 * 3_600) * S
    store.insert("interaction_cells", ended(past))
    seal(store, sealed)
    whole = Monitor(CONFIG)
    changes = whole.update(past, sealed)
    assert [c.firing for c in changes] == [True, False, True]

    async def tell(_, body):
        told.append(json.loads(body))

    async def step():
        return await Detection(store, "log", CONFIG, lambda: True, tell)._step()

    steps = 1
    while asyncio.run(step()):
        steps += 1
        assert steps < 20
    assert not asyncio.run(step())
    reached = Detection(store, "log", CONFIG, lambda: True, tell)._load()
    assert json.loads(reached.snapshot()) == json.loads(whole.snapshot())

    expected = pl.concat([finding_rows(change, []) for change in changes]).drop("evidence")
    assert [(t["finding_id"], t["version"], t["status"]) for t in told] == expected.select(
        "finding_id", "version", "status"
    ).rows()
    kept = store.query(f"SELECT {', '.join(expected.columns)} FROM findings FINAL ORDER BY found")
    assert kept.rows() == expected.rows()[1:]
    alerts = store.query("SELECT status, toUnixTimestamp(ts) AS ts FROM alert_events ORDER BY ts")
    beat = sealed // (300 * S) * 300
    assert alerts["ts"].to_list() == [*(c.at // S for c in changes), beat]

    read = [starts for starts in store.read if len(starts)]
    assert pl.concat(read).equals(past["start"])
    assert len(read) == 7
    assert all(starts.max() - starts.min() < 3_600 for starts in read)


def test_detection_that_is_put_off_says_why(monkeypatch, caplog):
    monkeypatch.setattr(detection, "_REST_S", 0.0)
    nowhere = Store(ClickHouseConfig(f"http://127.0.0.1:{free_port()}"))

    said = f"detection put off: ClickHouse at {nowhere._config.url}"

    async def attempt():
        async with Detection(nowhere, "log", CONFIG, lambda: True, None):
            for _ in range(500):
                if any(message.startswith(said) for message in caplog.messages):
                    return True
                await asyncio.sleep(0.01)
        return False

    assert asyncio.run(attempt())
