"""A person is erased: found nowhere, brought back by nothing, and nobody else's numbers change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dashboards.accounting import account
from infra import erasing
from infra.embedded.clickhouse import start_clickhouse
from infra.embedded.process import stop
from infra.schema.migrate import migrate
from ingest.core.errors import UsageError
from ingest.core.events import Event
from processors import audit
from processors.clickhouse import Store
from processors.derive import result_audit
from processors.write.erased import IDS, MARK, Erased, Tombstones, erasure_rows, namer, now_ns, pair
from tests.conftest import PASSWORD, ClickHouse
from tests.integration.pipeline_harness import Pipeline
from tests.integration.pipeline_reference import traffic
from tests.support.common import free_port

CANARY = "canary@people"
WORDS = "xylophone quartz"
KEY = b"key of the test"
S = 10**9
START = 1_760_000_000 * S


def of_canary(count: int, sessions: int = 5) -> list[Event]:
    """Interactions of the canary: what only he says stands in every column that can hold it."""
    events = []
    for n in range(count // 4):
        trace, root = f"canary-trace-{n}", f"{CANARY}-{n}-0"
        parts: list[dict[str, Any]] = [
            {
                # Some are a web server's: there the tool's call is what he asked for.
                "kind": "span" if n % 5 == 4 else "interaction",
                "user_id": CANARY, "status": "error",
                "error_type": "timeout",
                "error_message": f"{WORDS} for {CANARY}", "duration_ms": 900.0,
                "attributes": {"driftline.root": "1", "note": WORDS},
            },
            # Without a user: it is his because of its trace.
            {"kind": "user_message", "content": f"{WORDS} {n}", "parent_id": root},
            {
                "kind": "tool_call", "name": "search", "tool_arguments": WORDS, "parent_id": root,
                "tool_result": WORDS, "cost_usd": 0.25,
            },
            {
                "kind": "feedback", "value": 0.0, "content": WORDS, "target": trace,
                "user_id": CANARY,
            },
        ]  # fmt: skip
        events += [
            Event(
                event_id=f"{CANARY}-{n}-{number}",
                time_unix_nano=START + n * 7 * S,
                agent="booking",
                session_id=f"canary-session-{n % sessions}",
                interaction_id=trace,
                **part,
            )
            for number, part in enumerate(parts)
        ]
    return events


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, ClickHouse]]:
    """An engine whose files nobody else writes."""
    folder, port = tmp_path_factory.mktemp("engine"), free_port()
    process = start_clickhouse(folder / "data", port, folder / "log", PASSWORD, PASSWORD)
    yield folder / "data", ClickHouse(port, "driftline")
    stop(process)


@pytest.fixture
def place(home: tuple[Path, ClickHouse]) -> Iterator[tuple[Path, Pipeline]]:
    folder, clickhouse = home
    with ClickHouse(clickhouse.port, "default").client() as client:
        migrate(client, "driftline")
        yield folder, Pipeline(clickhouse)
        client.command("DROP DATABASE driftline SYNC")


def files_with(folder: Path, *texts: str) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and any(text.encode() in path.read_bytes() for text in texts):
            found.append(str(path.relative_to(folder)))
    return found


COUNTS = (
    "SELECT * FROM rollups FINAL ORDER BY ALL",
    "SELECT * FROM windows FINAL ORDER BY ALL",
    "SELECT cell, agent, live, version, duration_ms, success, cost_usd, satisfaction"
    " FROM interaction_results FINAL ORDER BY ALL",
    "SELECT uniqExact(session_id), uniqExact(user_id), count() FROM sessions",
)


def counts(store: Store) -> list[Any]:
    return [store.query(statement).rows() for statement in COUNTS]


def replay(pipeline: Pipeline, events: list[Event]) -> None:
    """As a worker stores what Kafka gives it once more."""
    tombstones = Tombstones(pipeline.store, KEY)
    stored = pipeline.decoded(events)
    pipeline.write(tombstones.apply(stored))


def test_found_nowhere_and_the_counts_are_as_they_were(place: tuple[Path, Pipeline]) -> None:
    folder, pipeline = place
    others, his = traffic(4), of_canary(400)
    mention = Event(
        event_id="other", time_unix_nano=START, agent="helper", kind="user_message",
        content=f"asked by {CANARY}", interaction_id="i-other",
    )  # fmt: skip
    others.append(mention)
    pipeline.deliver(others)
    pipeline.deliver(his)
    pipeline.recompute()
    store = pipeline.store
    for statement in (
        f"INSERT INTO findings (finding_id, title, evidence, examples) VALUES ('f',"
        f" 'slow for {CANARY}', '{{\"x\": \"canary-trace-1\"}}', ['canary-trace-1', 'i1'])",
        f"INSERT INTO dead_letters (log_id, topic, offset, code, kept, text)"
        f" VALUES ('l', 'otlp', 1, 'too_deep', 'whole', '{{\"user_id\": \"{CANARY}\"}} {WORDS}')",
        "INSERT INTO dead_letters (log_id, topic, offset, code, kept, text)"
        " VALUES ('l', 'otlp', 2, 'too_deep', 'whole', 'of another')",
        "INSERT INTO cluster_members (agent, interaction_id, cluster)"
        " VALUES ('booking', 'canary-trace-1', 'c')",
        "INSERT INTO clusters (cluster, examples) VALUES ('c', ['canary-trace-1', 'i1'])",
    ):
        store.command(statement)
    before, books = counts(store), account(store)
    seen = ("canary", "xylophone")
    assert len(files_with(folder, *seen)) > 10

    person = erasing.find(store, [CANARY])
    assert (len(person.sessions), len(person.interactions)) == (5, 100)
    places = {place.partition(":")[0] for place in erasing.search(store, person)}
    assert places >= {"events.user_id", "events.content", "findings.examples", "findings.title"}
    report = erasing.erase(store, namer(KEY), person, wait_s=0.0)

    assert report.left == []
    assert report.rewritten["events"] == 401  # and one that mentioned him
    assert counts(store) == before
    assert store.query("SELECT examples FROM findings")["examples"][0][1] == "i1"
    texts = store.query("SELECT text FROM dead_letters WHERE topic = 'otlp' ORDER BY offset")[
        "text"
    ]
    assert texts.to_list() == ["", "of another"]
    after = account(store)
    assert after["erased"] == 400
    assert {**after, "erased": 0} == books
    assert audit.reconcile(pipeline.results) == 0
    assert result_audit.repair(pipeline.results) == 0
    assert files_with(folder, *seen) == []

    replay(pipeline, his + others[:-1])
    pipeline.recompute()
    assert counts(store) == before  # what was judged of his words stands
    assert erasing.search(store, person) == []
    assert account(store)["stored"] == books["stored"]
    # Whoever comes back later is a person like any other.
    again = [msgspec.structs.replace(e, time_unix_nano=now_ns()) for e in his[:4]]
    replay(pipeline, again)
    assert len(store.query(f"SELECT 1 AS n FROM events WHERE user_id = '{CANARY}'")) == 2


_COLUMNS = """
SELECT name FROM system.columns WHERE database = currentDatabase() AND table = {table:String}
    AND default_kind NOT IN ('ALIAS', 'MATERIALIZED')
"""


def copy(store: Store, table: str, times: int) -> None:
    """Add copies of all rows, with ids and words of their own."""
    columns = store.query(_COLUMNS, {"table": table})["name"].to_list()
    more = dict.fromkeys(IDS, "k") | dict.fromkeys(
        ("content", "tool_result", "request", "answer"), "hex(sipHash128(k))"
    )
    copied = [f"if({c} = '', '', {c} || {more[c]})" if c in more else c for c in columns]
    store.command(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(copied)}"
        f" FROM (SELECT *, '-' || toString(arrayJoin(range({times}))) AS k FROM {table})",
        settings={"max_partitions_per_insert_block": 0},
    )


def cpu_s(store: Store) -> float:
    """CPU seconds that the engine and this process have used."""
    used = "SELECT sum(value) AS us FROM system.events WHERE event = 'OSCPUVirtualTimeMicroseconds'"
    return float(store.query(used)["us"][0]) / 1e6 + time.process_time()


def test_ten_thousand_events_among_a_million(place: tuple[Path, Pipeline]) -> None:
    folder, pipeline = place
    store, others = pipeline.store, traffic(5)
    pipeline.deliver(others)
    pipeline.recompute()
    for table in ("events", "evaluations", "interaction_results", "session_results"):
        copy(store, table, 1_000_000 // len(others))
    pipeline.deliver(of_canary(10_000, sessions=100))
    pipeline.recompute()
    assert store.query("SELECT count() AS n FROM events")["n"][0] > 1_000_000
    before, began = counts(store), cpu_s(store)
    report = erasing.erase(store, namer(KEY), erasing.find(store, [CANARY]), wait_s=0.0)
    assert report.left == []
    assert report.rewritten["events"] == 10_000
    # A minute with one core, eight seconds of which wait; the clock would measure other processes.
    assert cpu_s(store) - began < 52
    assert counts(store) == before
    assert files_with(folder, "canary", "xylophone") == []


def test_only_one_session_and_what_others_share_stays(place: tuple[Path, Pipeline]) -> None:
    _, pipeline = place
    his = of_canary(80, sessions=4)
    shared = Event(
        event_id="guest", time_unix_nano=START, agent="booking", kind="interaction",
        session_id="canary-session-2", interaction_id="of-guest", user_id="guest", content="hello",
    )  # fmt: skip
    pipeline.deliver([*his, shared])
    pipeline.recompute()
    store = pipeline.store
    with pytest.raises(UsageError, match="nothing of this user"):
        erasing.find(store, [CANARY], "elsewhere")

    one = erasing.find(store, [CANARY], "canary-session-1")
    assert erasing.erase(store, namer(KEY), one, wait_s=0.0).left == []
    of = (
        "SELECT countIf(user_id = {u:String}) AS n, countIf(startsWith(event_id, {m:String})) AS e"
        " FROM events FINAL"
    )
    assert store.query(of, {"u": CANARY, "m": MARK}).row(0) == (30, 20)
    replay(pipeline, his)
    assert store.query(of, {"u": CANARY, "m": MARK}).row(0) == (30, 20)

    whole = erasing.find(store, [CANARY])
    assert "canary-session-2" not in whole.sessions
    assert erasing.erase(store, namer(KEY), whole, wait_s=0.0).left == []
    kept = store.query("SELECT session_id, user_id, content FROM events WHERE event_id = 'guest'")
    assert kept.rows() == [("canary-session-2", "guest", "hello")]
    assert audit.reconcile(pipeline.results) == 0


def test_a_run_that_stopped_half_way_goes_on(
    place: tuple[Path, Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, pipeline = place
    pipeline.deliver(of_canary(40))
    pipeline.recompute()
    store, person = pipeline.store, erasing.find(pipeline.store, [CANARY])
    before = counts(store)

    def killed(*_: object) -> None:
        store.command("ALTER TABLE events DELETE WHERE 1", settings={"mutations_sync": 2})
        raise KeyboardInterrupt

    monkeypatch.setattr(erasing, "_put_back", killed)
    with pytest.raises(KeyboardInterrupt):
        erasing.erase(store, namer(KEY), person, wait_s=0.0)
    monkeypatch.undo()
    assert erasing.erase(store, namer(KEY), person, wait_s=0.0).left == []
    assert counts(store) == before
    assert store.query("SELECT count() AS n FROM events FINAL")["n"][0] == 40


def test_a_trace_that_comes_late_is_erased_as_well(place: tuple[Path, Pipeline]) -> None:
    _, pipeline = place
    name = namer(KEY)
    pipeline.store.insert("erasures", erasure_rows([name(CANARY)], now_ns()))
    replay(pipeline, of_canary(40))
    person = erasing.Person([CANARY], ["canary-session-0"], ["canary-trace-1"], whole=True)
    left = erasing.search(pipeline.store, person)
    assert all(place.startswith("events.session_id") for place in left), left


def test_texts_are_found_by_any_of_their_words() -> None:
    name = namer(KEY)
    erased = Erased({name("u/1"): 1, name(pair("u", "t")): 1}, name)
    assert erased.speaks_of('{"user_id":"u/1"}')
    assert not erased.speaks_of('{"user_id":"u/10", "x": "u"}')
