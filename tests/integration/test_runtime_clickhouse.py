"""The embedded ClickHouse server, spoken to as its clients do: over HTTP, nothing of ours."""

from __future__ import annotations

import base64
import gzip
import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import clickhouse_connect
import lz4.frame
import polars as pl
import pytest
from backports import zstd
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.embedded import clickhouse as clickhouse_process
from infra.embedded.clickhouse import start_clickhouse
from infra.embedded.process import stop
from infra.schema.migrate import Migration, migrate
from ingest.core.errors import Unavailable, UsageError
from tests.conftest import PASSWORD, READER_PASSWORD, ClickHouse
from tests.support.common import eventually, free_port


@pytest.fixture
def client(clickhouse: ClickHouse) -> Iterator[Any]:
    with clickhouse.client() as connected:
        connected.command("CREATE TABLE t (a Int64, b String) ENGINE = MergeTree ORDER BY a")
        yield connected


@pytest.fixture
def reader(clickhouse: ClickHouse, client: Any) -> Iterator[Any]:
    client.insert("t", [[1, "x"]], ["a", "b"])
    with clickhouse.client("reader") as connected:
        yield connected


def post(
    clickhouse: ClickHouse, body: bytes, method: str = "POST", **parameters: str
) -> tuple[int, dict[str, str], bytes]:
    login = base64.b64encode(f"driftline:{clickhouse.password}".encode()).decode()
    request = urllib.request.Request(
        f"{clickhouse.url}/?{urlencode({'database': clickhouse.database, **parameters})}",
        data=body if method == "POST" else None,
        headers={"Authorization": f"Basic {login}"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, dict(reply.headers), reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def test_insert_and_query(client: Any) -> None:
    moment = datetime(2026, 11, 22, 10, 0, 0, 123456, UTC)
    client.command(
        "CREATE TABLE u (t DateTime64(9, 'UTC'), l LowCardinality(String), n Nullable(Float64),"
        " m Map(LowCardinality(String), UInt32), h Array(Int16)) ENGINE = MergeTree ORDER BY t"
    )
    row = [moment, "a'b\\c\n", None, {"k": 1}, [-3, 4]]
    written = client.insert("u", [row, row], ["t", "l", "n", "m", "h"])
    assert written.written_rows == 2
    found = client.query("SELECT * FROM u", column_formats={"t": "int"}).result_rows
    assert len(found) == 2
    assert found[0][1:] == ("a'b\\c\n", None, {"k": 1}, [-3, 4])
    assert found[0][0] == int(moment.timestamp()) * 10**9 + 123456000


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1), st.text(st.characters(exclude_categories=["Cs"]))
        ),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from(["ArrowStream", "Arrow", "Native", "JSONEachRow", "lz4", "zstd", "gzip"]),
)
def test_rows_come_back_as_they_were(client: Any, rows: list[tuple[int, str]], way: str) -> None:
    client.command("TRUNCATE TABLE t")
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.String}, orient="row")
    options = {"input_format_json_read_numbers_as_strings": 0}
    if way == "Native":
        written = client.insert("t", rows, ["a", "b"])
    elif way.startswith("Arrow"):
        buffer = io.BytesIO()
        if way == "Arrow":
            frame.write_ipc(buffer, compat_level=pl.CompatLevel.oldest(), compression="lz4")
        else:
            frame.write_ipc_stream(buffer, compat_level=pl.CompatLevel.oldest())
        written = client.raw_insert("t", ["a", "b"], buffer.getvalue(), fmt=way)
    else:
        compress = {"lz4": lz4.frame.compress, "zstd": zstd.compress, "gzip": gzip.compress}
        body = frame.write_ndjson().encode()
        written = client.raw_insert(
            "t",
            ["a", "b"],
            compress[way](body) if way in compress else body,
            fmt="JSONEachRow",
            compression=way if way in compress else None,
            settings=options,
        )
    assert written.written_rows == len(rows)
    assert sorted(client.query("SELECT a, b FROM t").result_rows) == sorted(rows)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.integers(0, 255))
def test_parameters_arrive_as_they_were(client: Any, text: str, number: int) -> None:
    found = client.query(
        "SELECT {text:String}, {number:UInt8}, {list:Array(String)}",
        parameters={"text": text, "number": number, "list": [text, "x"]},
    ).first_row
    assert found == (text, number, [text, "x"])


def test_an_empty_result_keeps_its_columns(client: Any) -> None:
    found = client.query("SELECT a, toLowCardinality(b) AS c, {x:UInt8} AS x FROM t", {"x": 1})
    assert (found.row_count, found.column_names) == (0, ("a", "c", "x"))


def test_statements_report_what_they_wrote(client: Any) -> None:
    client.insert("t", [[n, "x"] for n in range(10)], ["a", "b"])
    assert client.command("INSERT INTO t SELECT a, b FROM t WHERE a < 4").written_rows == 4
    assert client.command("SELECT count() FROM t") == 14


def test_settings_hold_for_one_request_only(client: Any) -> None:
    setting = "SELECT getSetting('max_block_size')"
    before = client.command(setting)
    assert client.command(setting, settings={"max_block_size": 17}) == 17
    client.command("SET max_block_size = 18")
    assert client.command(setting) == before


@pytest.mark.parametrize(
    ("sql", "code", "words"),
    [
        ("SELEC 1", 62, "Syntax error"),
        ("SELECT * FROM missing", 60, "missing"),
        ("SELECT missing FROM t", 47, "missing"),
        ("INSERT INTO missing VALUES (1)", 60, "missing"),
        ("SELECT * FROM nowhere.t", 81, "nowhere"),
    ],
)
def test_errors_carry_clickhouses_code(client: Any, sql: str, code: int, words: str) -> None:
    with pytest.raises(DatabaseError, match=rf"(?s)code: {code}.*{words}"):
        client.command(sql)


def test_a_bad_row_stores_nothing_of_its_block(client: Any) -> None:
    with pytest.raises(DatabaseError, match="code: 27"):
        client.raw_insert("t", ["a", "b"], b'{"a":1}\n{"a":"x"}\n', fmt="JSONEachRow")
    assert client.command("SELECT count() FROM t") == 0


def test_rows_that_could_not_be_stored_are_never_acknowledged(client: Any) -> None:
    """Failures at the very end of an insert: a constraint, a view that throws."""
    client.command("ALTER TABLE t ADD CONSTRAINT small CHECK a < 100")
    client.command("CREATE TABLE sink (a Int64) ENGINE = MergeTree ORDER BY a")
    client.command("CREATE MATERIALIZED VIEW v TO sink AS SELECT throwIf(a = 7) AS a FROM t")
    for bad in (100, 7):
        with pytest.raises(DatabaseError):
            client.raw_insert("t", ["a", "b"], b"%d,x\n" % bad, fmt="CSV")
    assert client.raw_insert("t", ["a", "b"], b"1,x\n", fmt="CSV").written_rows == 2  # with view
    assert client.command("SELECT count() FROM sink") == 1


def test_a_query_is_stopped_at_its_limits(client: Any) -> None:
    started = time.monotonic()
    endless = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"
    with pytest.raises(DatabaseError, match="code: 159"):
        client.command(endless, settings={"max_execution_time": 0.5})
    assert time.monotonic() - started < 60
    with pytest.raises(DatabaseError, match="code: 241"):
        client.command(
            "SELECT groupArray(number) FROM numbers(10000000)",
            settings={"max_memory_usage": 20_000_000},
        )
    with pytest.raises(DatabaseError, match="code: 396"):
        client.query("SELECT number FROM numbers(200000000)")
    assert client.command("SELECT 1") == 1


def test_queries_run_at_the_same_time(clickhouse: ClickHouse, client: Any) -> None:
    client.insert("t", [[n, "x"] for n in range(1000)], ["a", "b"])

    def sleep(_: int) -> int:
        with clickhouse.client() as own:
            return int(own.command("SELECT sum(a) + sleep(3) FROM t"))

    started = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(sleep, range(6))) == {499500}
    assert time.monotonic() - started < 15  # one after the other: 18 s


def test_inserts_beside_queries_lose_nothing(clickhouse: ClickHouse, client: Any) -> None:
    done = threading.Event()
    seen: list[int] = []

    def insert(worker: int) -> None:
        with clickhouse.client() as own:
            for block in range(20):
                rows = "".join(f"{worker * 10**6 + block * 100 + n},x\n" for n in range(100))
                assert own.raw_insert("t", ["a", "b"], rows.encode(), fmt="CSV").written_rows == 100

    def watch() -> None:
        with clickhouse.client() as own:
            while not done.is_set():
                seen.append(own.command("SELECT count() FROM t"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(insert, range(4)))
    done.set()
    watcher.join()
    assert seen == sorted(seen)
    assert client.query("SELECT count(), uniqExact(a) FROM t").first_row == (8000, 8000)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (2, 'y')",
        "DROP TABLE t",
        "CREATE TABLE x (a Int8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE x (a Int8)",
        "SET readonly = 0",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1; DROP TABLE t",
        "KILL QUERY WHERE 1",
        "SYSTEM FLUSH LOGS",
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT file('/etc/hostname')",
        "SELECT `file`/**/('/etc/hostname')",
        "WITH (x -> file(x)) AS f SELECT f('/etc/hostname')",
        "SELECT (SELECT file('/etc/hostname'))",
        "EXPLAIN SELECT file('/etc/hostname')",
        "SELECT * FROM '/etc/hostname'",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV')",
        "SELECT * FROM s3('http://127.0.0.1:1/b/x', 'CSV', 'a Int8')",
        "SELECT * FROM remote('127.0.0.1', 'system.one')",
        "SELECT * FROM executable('ls', 'TSV', 'a String')",
        "SELECT * FROM python(x)",
        "INSERT INTO FUNCTION file('{folder}/out') SELECT 1",
        "SELECT 1 INTO OUTFILE '{folder}/out'",
        "BACKUP DATABASE default TO File('{folder}/out')",
    ],
)
def test_a_reader_can_only_read_tables(reader: Any, sql: str, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError):
        reader.raw_query(sql.replace("{folder}", str(tmp_path)))
    assert not list(tmp_path.iterdir())
    assert reader.raw_query("SELECT count() FROM t") == b"1\n"


@pytest.mark.parametrize(
    "table",
    [
        "dead_letter_originals",
        "`dead_letter_originals`",
        "default.dead_letter_originals",
        "(SELECT * FROM dead_letter_originals)",
        "t JOIN dead_letter_originals AS o ON true",
        "merge(currentDatabase(), '.*originals')",
        "merge(currentDatabase(), '^dead_letter')",
    ],
)
def test_a_reader_cannot_read_kept_originals(reader: Any, client: Any, table: str) -> None:
    client.command(
        "CREATE TABLE IF NOT EXISTS dead_letter_originals (original String)"
        " ENGINE = MergeTree ORDER BY ()"
    )
    client.command("INSERT INTO dead_letter_originals (original) VALUES ('canary')")
    with pytest.raises(DatabaseError) as refused:
        reader.raw_query(f"SELECT * FROM {table}")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'a', b, count() FROM t WHERE b IN ('x', 'y') GROUP BY b LIMIT 5",
        "SHOW TABLES LIKE 't'",
        "DESCRIBE TABLE t",
        "EXISTS TABLE t",
        "EXPLAIN SELECT 'x'",
        "WITH 'x' AS w SELECT w FROM t UNION ALL SELECT 'y'",
        "SELECT * FROM numbers(2)",
        "SELECT name FROM system.columns WHERE table = 't'",
    ],
)
def test_a_reader_can_read(reader: Any, sql: str) -> None:
    assert reader.raw_query(sql)


def test_a_get_changes_nothing(clickhouse: ClickHouse, client: Any) -> None:
    status, headers, _ = post(clickhouse, b"", "GET", query="DROP TABLE t")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (403, "164")
    assert post(clickhouse, b"", "GET", query="SELECT count() FROM t")[2] == b"0\n"


@pytest.mark.parametrize(
    ("user", "password"),
    [("driftline", "wrong"), ("driftline", ""), ("reader", PASSWORD), ("reader", "")],
)
def test_a_wrong_password_is_refused(clickhouse: ClickHouse, user: str, password: str) -> None:
    with pytest.raises(DatabaseError, match="code: 516"):
        clickhouse_connect.get_client(
            host="127.0.0.1", port=clickhouse.port, username=user, password=password
        )


def test_ping_needs_no_password(clickhouse: ClickHouse) -> None:
    with urllib.request.urlopen(f"{clickhouse.url}/ping", timeout=60) as reply:
        assert reply.read() == b"Ok.\n"


def test_external_data_is_refused_with_words(client: Any) -> None:
    from clickhouse_connect.driver.external import ExternalData

    with pytest.raises(ClickHouseError, match="takes no external data"):
        client.query(
            "SELECT * FROM x",
            external_data=ExternalData(
                file_name="x", data=b"1\n", fmt="CSV", structure=["a UInt8"]
            ),
        )


# What Grafana's plugin needs, after clickhouse-go's decoder: hello at revision 54460 with block
# info and a byte per column, then plain blocks because the server calls itself revision 0.


class Native:
    """Decoder of the Native format, written from its description."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def take(self, count: int) -> bytes:
        assert self.at + count <= len(self.raw)
        self.at += count
        return self.raw[self.at - count : self.at]

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def string(self) -> str:
        return self.take(self.varint()).decode()

    def block(self, revision: int) -> list[tuple[str, str, list[Any]]]:
        if revision > 0:
            assert (self.varint(), self.take(1)) == (1, b"\0")
            assert (self.varint(), self.take(4), self.varint()) == (2, b"\xff" * 4, 0)
        columns, rows = self.varint(), self.varint()
        out = []
        for _ in range(columns):
            name, kind = self.string(), self.string()
            if revision >= 54454:
                assert self.take(1) == b"\0"
            read = {
                "String": self.string,
                "UInt32": lambda: struct.unpack("<I", self.take(4))[0],
                "UInt8": lambda: self.take(1)[0],
            }[kind]
            out.append((name, kind, [read() for _ in range(rows)]))
        assert self.at == len(self.raw)
        return out


def go(clickhouse: ClickHouse, sql: str) -> bytes:
    status, _, body = post(
        clickhouse, sql.encode(), client_protocol_version="54460", default_format="Native"
    )
    assert status == 200
    return body


def test_grafanas_hello_is_answered_as_revision_zero(clickhouse: ClickHouse) -> None:
    hello = "SELECT displayName(), version(), revision(), timezone()"
    columns = Native(go(clickhouse, hello)).block(54460)
    assert [(name, kind) for name, kind, _ in columns] == [
        ("displayName()", "String"),
        ("version()", "String"),
        ("revision()", "UInt32"),
        ("timezone()", "String"),
    ]
    assert columns[1][2][0].startswith("26.")
    assert (columns[2][2], columns[3][2]) == ([0], ["UTC"])


def test_grafanas_queries_are_plain_blocks(clickhouse: ClickHouse, client: Any) -> None:
    assert Native(go(clickhouse, "SELECT 1")).block(0) == [("1", "UInt8", [1])]
    empty = Native(go(clickhouse, "SELECT b, toUInt32(a) AS n FROM t")).block(0)
    assert empty == [("b", "String", []), ("n", "UInt32", [])]
    assert Native(go(clickhouse, "SHOW TABLES LIKE 't'")).block(0) == [("name", "String", ["t"])]


# Processes


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    return start_clickhouse(folder / "data", port, folder / "server.log", PASSWORD, READER_PASSWORD)


def test_data_outlives_a_kill(tmp_path: Path) -> None:
    port = free_port()
    server = ClickHouse(port, "default")
    process = start(tmp_path, port)
    with server.client() as client:
        client.command("CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")
        for block in range(5):
            client.insert("t", [[block]], ["a"])
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    process = start(tmp_path, port)
    try:
        with server.client() as client:
            assert client.query("SELECT a FROM t ORDER BY a").result_columns == [[0, 1, 2, 3, 4]]
    finally:
        stop(process)
    assert process.returncode == 0


def test_a_crash_at_the_start_is_tried_again_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = "import faulthandler, os; faulthandler.enable(); os.abort()"
    started = []

    def start_what_crashes(command: Any, log: Path, **rest: Any) -> subprocess.Popen[bytes]:
        started.append(command)
        return begin([sys.executable, "-c", crash], log, **rest)

    begin = clickhouse_process.start
    monkeypatch.setattr(clickhouse_process, "start", start_what_crashes)
    monkeypatch.setattr(clickhouse_process, "_LONGEST_WAIT_S", 0.01)
    with pytest.raises(Unavailable, match=r"crashed at its start \(-6\): Aborted \| .*File "):
        start(tmp_path, free_port())
    assert len(started) == 10


def test_a_folder_or_port_in_use_is_named(tmp_path: Path) -> None:
    port = free_port(2)
    process = start(tmp_path, port)
    try:
        with pytest.raises(UsageError, match=rf"port {port} is in use"):
            start(tmp_path, port)
        with pytest.raises(UsageError, match=r"data is in use by another process"):
            start(tmp_path, port + 1)
    finally:
        stop(process)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(UsageError, match=r"cannot write to .*/data"):
        start(tmp_path, free_port())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, which needs root")
def test_a_full_disk_is_said_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(tmp_path)], check=False
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    port = free_port()
    process = start(tmp_path, port)
    try:
        with ClickHouse(port, "default").client() as client:
            client.command("CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY tuple()")
            acknowledged = 0
            row = os.urandom(500_000).hex().encode()

            def insert() -> int:
                return int(client.raw_insert("t", ["a"], row, fmt="LineAsString").written_rows)

            # Others fill the disk as well; what is refused can be sent again when there is room.
            filler = tmp_path / "filler"
            filler.write_bytes(bytes(120 << 20))
            with pytest.raises(DatabaseError, match=r"code: 243.*less than 256 MiB are free"):
                for _ in range(100):
                    acknowledged += insert()
            assert client.command("SELECT count() FROM t") == acknowledged > 3
            with pytest.raises(DatabaseError, match=r"code: 243"):
                client.command("INSERT INTO t SELECT * FROM t")
            filler.unlink()

            def insert_again() -> int:
                with suppress(DatabaseError):
                    return insert()
                return 0

            acknowledged += eventually(insert_again, 10)
            client.command("OPTIMIZE TABLE t FINAL")
            assert client.command("SELECT count() FROM t") == acknowledged
    finally:
        stop(process)
        subprocess.run(["umount", str(tmp_path)], check=False)


# Migrations


def test_migrations_are_applied_once(clickhouse: ClickHouse) -> None:
    with clickhouse.client() as client:
        assert migrate(client, clickhouse.database) == []
        tables = {row[0] for row in client.query("SHOW TABLES").result_rows}
        assert {"events", "ledger", "windows", "interactions", "schema_migrations"} <= tables


def test_a_changed_or_unknown_migration_is_refused(clickhouse: ClickHouse) -> None:
    database = clickhouse.database + "_m"
    first = Migration("0001_a", "CREATE TABLE IF NOT EXISTS a (x Int8) ENGINE = Memory")
    second = Migration("0002_b", "CREATE TABLE IF NOT EXISTS b (x Int8) ENGINE = Memory")
    with clickhouse.client() as client:
        assert migrate(client, database, [first]) == ["0001_a"]
        assert migrate(client, database, [first, second]) == ["0002_b"]
        with pytest.raises(UsageError, match="0001_a was changed"):
            migrate(client, database, [Migration("0001_a", first.text + " "), second])
        with pytest.raises(UsageError, match="0002_b, which this version does not know"):
            migrate(client, database, [first])
        with pytest.raises(UsageError, match="not a name for a database"):
            migrate(client, "a; DROP DATABASE default", [first])
        client.command(f"DROP DATABASE {database} SYNC")


def test_an_interrupted_migration_is_taken_up_again(clickhouse: ClickHouse) -> None:
    database = clickhouse.database + "_i"
    good = "CREATE TABLE IF NOT EXISTS a (x Int8) ENGINE = Memory"
    with clickhouse.client() as client:
        with pytest.raises(DatabaseError):
            migrate(client, database, [Migration("0001_a", f"{good}\n--------\nCREATE nonsense")])
        assert migrate(client, database, [Migration("0001_a", good)]) == ["0001_a"]
        client.command(f"DROP DATABASE {database} SYNC")


def test_slow_readers_keep_no_insert_waiting(clickhouse: ClickHouse, reader: Any) -> None:
    del reader
    with clickhouse.client() as client, ThreadPoolExecutor(12) as pool:

        def read(_: int) -> None:
            with clickhouse.client("reader") as own:
                own.command("SELECT sleep(1)")

        reading = [pool.submit(read, number) for number in range(12)]
        time.sleep(0.3)
        client.raw_insert("t", ["a", "b"], b"9,x\n", fmt="CSV")
        assert sum(done.done() for done in reading) < 8  # four at a time; behind them it would be 9
        for done in reading:
            done.result()
