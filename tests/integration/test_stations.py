"""Stations on the embedded engine: the same findings as in memory, from real tables."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from infra import erasing
from ingest.core.errors import NotFound, Rejected, UsageError
from processors.derive import sealing
from processors.derive.judging import ResultsConfig
from processors.derive.result_store import ResultStore
from processors.stations.base import RESULTS
from processors.stations.clusters import Clusters, ClustersConfig
from processors.stations.detection import Detection, DetectionConfig
from processors.stations.incidents import Incidents
from processors.stations.runner import Stations
from processors.stations.storage import ClickHouseStations, MemoryStations
from processors.stations.versions import Versions
from processors.watching import watch
from processors.write.erased import namer
from tests.support.stations import T0, failed, results, run
from tests.unit.processors.test_stations import traffic

CONFIG = DetectionConfig(warm_up=600)
LOG = "log"


def insert(store, rows):
    """Rows of ``interaction_results`` as derive writes them."""
    columns = [c for c in RESULTS if c not in ("decided", "answered")]
    at = pl.from_epoch("decided", "s").dt.replace_time_zone("UTC")
    store.insert(
        "interaction_results",
        rows.select(
            *columns,
            cell=at,
            start=at,
            end=at,
            version=pl.lit(1, pl.UInt64),
            live=pl.lit(1, pl.UInt8),
            answer=pl.lit("yes"),
        ),
    )


def seal(store, until):
    """Report a watermark that seals event time up to ``until`` seconds."""
    now = datetime.now(UTC)
    watermark = datetime.fromtimestamp(T0 + until, UTC) + timedelta(seconds=15)
    row = (
        LOG, "driftline.events", 0, watermark, 10, 1, [], now - timedelta(seconds=60), now
    )  # fmt: skip
    store.insert("watermarks", pl.DataFrame([row], schema=sealing.SCHEMA, orient="row"))


def stations_of(store):
    return ClickHouseStations(store, LOG, ResultStore(store))


def all_stations():
    return [
        Detection(CONFIG), Versions(), Clusters(ClustersConfig(warm_up=600)), Incidents()
    ]  # fmt: skip


def test_the_engine_and_memory_find_the_same(store):
    rows = traffic(7200)
    memory = MemoryStations()
    memory.feed(rows, T0 + 7200)
    run(memory, Stations(memory, all_stations(), save_every_s=0))
    insert(store, rows)
    seal(store, 7200)
    real = stations_of(store)
    assert real.sealed(leads=False) == 0  # nobody has given up what has no end
    assert real.sealed(leads=True) == T0 + 7200
    assert stations_of(store).sealed(leads=False) == T0 + 7200
    first = Stations(real, all_stations(), save_every_s=0)
    findings, _ = first.step([*map(str, range(8)), "fleet"])
    first.told()
    # What follows is done by a process that knows only what is stored.
    findings += run(real, Stations(real, all_stations(), save_every_s=0))
    kept = store.query(
        "SELECT finding_id, status, severity, title, examples FROM findings FINAL ORDER BY 1"
    )
    expected = [
        {name: row[name] for name in kept.columns} for row in memory.rows("findings")
    ]  # fmt: skip
    assert kept.to_dicts() == sorted(expected, key=lambda row: row["finding_id"])
    changes = store.query("SELECT change_id, toInt64(toUnixTimestamp(at)) AS at, status"
                          " FROM station_changes FINAL ORDER BY at, change_id, status")  # fmt: skip
    assert len(changes) == len(memory.rows("station_changes"))
    assert store.query("SELECT count() AS n FROM clusters FINAL")["n"][0] == len(
        memory.rows("clusters")
    )
    assert store.query("SELECT count() AS n FROM cluster_members FINAL")["n"][0] == len(
        memory.rows("cluster_members")
    )
    events = store.query(
        "SELECT toString(a.status) AS status FROM alert_events AS a FINAL ORDER BY ts"
    )
    assert events["status"].to_list()[-1] == "resolved"
    (alert,) = store.query("SELECT state, severity, score FROM alerts").to_dicts()
    assert (alert["state"], alert["severity"]) == ("resolved", "page")


@pytest.mark.parametrize("within", [False, True])
def test_who_is_erased_leaves_the_states_that_a_worker_holds(store, monkeypatch, within):
    """Between two steps, or while one is under way."""
    words = "my xylophone was quartz"
    his = {"user_id": "canary", "session_id": "of-canary", **failed(template=words)}
    insert(store, results([(T0 + 2 * n, his if n % 3 else {}) for n in range(1800)]))
    seal(store, 3600)
    real = stations_of(store)
    stations = Stations(real, all_stations(), save_every_s=0)
    run(real, stations)

    def said():
        rows = store.query("SELECT hex(state) AS state FROM station_state FINAL")["state"]
        states = [zlib.decompress(bytes.fromhex(s).partition(b"\n")[2]) for s in rows]
        return {word for s in states for word in (b'"i001799"', words.encode()) if word in s}

    def erase():
        monkeypatch.undo()
        erasing.erase(store, namer(b"key"), erasing.find(store, ["canary"]), wait_s=0.0)
        assert not said()

    assert len(said()) == 2
    later = results([(T0 + 3600 + 2 * n, failed() if n % 3 else {}) for n in range(1800)])
    insert(store, later.with_columns(interaction_id="l" + later["interaction_id"]))
    seal(store, 7200)
    if within:
        monkeypatch.setattr(real, "actions", lambda _: erase() or [])
    else:
        erase()
    run(real, stations)
    assert min(p for p, _ in real.positions().values()) >= T0 + 7200
    assert not said()


def test_what_was_read_since_the_states_were_stored_is_not_late(store):
    insert(store, traffic(7200, incident=(0, 0)))
    real = stations_of(store)
    stations = Stations(real, all_stations(), save_every_s=1e9)
    for until in (2700, 3600, 5400, 7200):
        seal(store, until)
        run(real, stations)
        if until == 2700:
            stations.flush()
    assert watch(store, ResultsConfig())["late"] == 0
    stations.flush()
    late = traffic(600, incident=(0, 0))
    insert(store, late.with_columns(interaction_id="late" + pl.col("interaction_id")))
    assert watch(store, ResultsConfig())["late"] == len(late)


def test_commands_read_what_stations_wrote(store, clickhouse, monkeypatch):
    from typer.testing import CliRunner

    from infra.cli import app

    insert(store, traffic(7200, incident=(3600, 7200)))
    seal(store, 7200)
    real = stations_of(store)
    run(real, Stations(real, all_stations(), save_every_s=0))
    monkeypatch.setenv("DRIFTLINE_CLICKHOUSE_URL", clickhouse.url)
    monkeypatch.setenv("DRIFTLINE_CLICKHOUSE_USER", clickhouse.user)
    monkeypatch.setenv("DRIFTLINE_CLICKHOUSE_PASSWORD", clickhouse.password)
    monkeypatch.setenv("DRIFTLINE_CLICKHOUSE_DATABASE", clickhouse.database)
    runner = CliRunner()

    def ask(*arguments):
        done = runner.invoke(app, [*arguments, "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    (found,) = ask("findings")
    assert ask("findings", "list") == [found]
    fired = store.query("SELECT DISTINCT toString(a.status) AS status FROM alert_events AS a FINAL")
    assert fired["status"].to_list() == ["firing"]
    (alert,) = store.query("SELECT alert_key, environment FROM alerts").to_dicts()
    assert alert == {"alert_key": found["finding_id"], "environment": found["environment"]}
    assert (found["status"], found["severity"], found["agent"]) == ("open", "page", "shop")
    assert found["causes"][0]["value"] == "find"
    assert ask("findings", "show", found["finding_id"])["finding_id"] == found["finding_id"]
    assert ask("findings", "ack", found["finding_id"])["action"] == "ack"
    assert ask("findings", "list")[0]["status"] == "acknowledged"
    assert ask("findings", "list", "--agent", "other") == []
    clusters = ask("clusters", "list")
    assert clusters[0]["tool"] == "find"
    shown = ask("clusters", "show", clusters[0]["cluster"])
    assert shown["size"] == clusters[0]["size"]
    assert ask("clusters", "lineage")[0]["what"] == "born"
    known = clusters[0]["cluster"]
    now = datetime.now(UTC)
    for name, when in (("before", now - timedelta(hours=1)), ("after", now + timedelta(hours=1))):
        row = {"finding_id": name, "version": 1, "cluster": known, "status": "open"}
        row |= {"severity": "page", "began": when, "found": when}
        times = dict.fromkeys(("began", "found"), pl.Datetime("ms", "UTC"))
        store.insert("findings", pl.DataFrame([row], schema_overrides=times))
    ask("clusters", "ack", known)
    said = {f["finding_id"]: f["status"] for f in ask("findings", "list")}
    assert (said["before"], said["after"]) == ("acknowledged", "open")
    alerts = "SELECT alert_key, status, muted FROM alerts WHERE cluster != '' ORDER BY found"
    assert store.query(alerts).rows() == [("before", "acknowledged", 0), ("after", "open", 0)]
    assert ask("clusters", "show", known)["status"] == "acknowledged"
    ask("clusters", "mute", known)
    assert {f["status"] for f in ask("findings", "list") if f["cluster"]} == {"muted"}
    assert store.query(alerts)["muted"].to_list() == [1, 1]
    assert ask("clusters", "show", known)["status"] == "muted"
    watching = ask("watching")
    assert {"signal", "agent", "warm", "last_sealed"} <= set(watching["streams"][0])

    def refused(error, *arguments):
        with pytest.raises(error) as caught:
            runner.invoke(app, [*arguments, "--json"], catch_exceptions=False)
        return str(caught.value)

    for command in (["findings", "show"], ["clusters", "show"], ["interaction"], ["session"]):
        assert "nowhere" in refused(NotFound, *command, "nowhere")
    versions = "--agent", "shop", "--baseline", "v1", "--candidate"
    assert "there are 'v1'" in refused(Rejected, "compare", *versions, "v99")
    assert "'production'" in refused(Rejected, "compare", *versions, "v2", "--environment", "prod")
    assert "no interaction of nobody" in refused(
        Rejected, "compare", *versions, "v2", "--agent", "nobody"
    )
    assert "both versions" in refused(UsageError, "compare", *versions, "v1")
    other = {"interaction_id": "v2" + pl.col("interaction_id"), "agent_version": pl.lit("v2")}
    insert(store, traffic(7200, incident=(3600, 7200)).with_columns(**other))
    compared = ask("compare", *versions, "v2")
    assert {m["verdict"] for m in compared} <= {"equivalent", "undecided"}
    assert {m["effect"] for m in compared} <= {0.0, None}
