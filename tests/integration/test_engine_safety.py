"""The embedded engine against its own readers: files, fatal errors, clients that go, host names."""

from __future__ import annotations

import base64
import http.client
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from infra.embedded import http_server, sandbox
from infra.embedded.clickhouse import sandbox_of, start_clickhouse
from infra.embedded.process import stop
from infra.embedded.running import FATAL_EXIT_CODE, Running
from tests.conftest import PASSWORD, READER_PASSWORD, ClickHouse
from tests.support.common import eventually, free_port

LANDLOCK = sandbox.version() > 0
needs_landlock = pytest.mark.skipif(not LANDLOCK, reason="the kernel offers no Landlock")


class Started:
    """An engine of a test's own, with a file beside its data and one within."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.log = folder / "engine.log"
        self.process = start_clickhouse(
            folder / "data", self.port, self.log, PASSWORD, READER_PASSWORD
        )
        (folder / "beside.txt").write_text("secret-beside")
        (folder / "data" / "within.txt").write_text("secret-within")
        self.server = ClickHouse(self.port, "default")

    def ask(
        self, sql: str, user: str = "reader", headers: dict[str, str] | None = None, **more: str
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(
                "POST", f"/?{urlencode(more)}", sql.encode(), login(user) | (headers or {})
            )
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def shared_kib(self) -> int:
        """Memory of the engine that is files in memory, such as bodies."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("RssShmem:")[2].split()[0])


def login(user: str = "reader") -> dict[str, str]:
    password = READER_PASSWORD if user == "reader" else PASSWORD
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    started = Started(tmp_path_factory.mktemp("engine"))
    yield started
    stop(started.process)


@pytest.mark.parametrize("file", ["beside.txt", "data/within.txt"])
@pytest.mark.parametrize(
    ("sql", "more"),
    [
        ("SELECT arrayMap(file, ['{f}'])", {}),
        ("SELECT * APPLY file FROM (SELECT '{f}' AS x)", {}),
        ("SELECT {p:Identifier}('{f}')", {"param_p": "file"}),
        ("SELECT 1 AS a FORMAT Template", {"format_template_row": "{f}"}),
        ("SELECT 'x' AS a", {"additional_result_filter": "throwIf(1, file('{f}'))"}),
        ("SELECT * FROM t", {"additional_table_filters": "{'t': 'throwIf(1, file(''{f}''))'}"}),
        ("SELECT 1 AS a FORMAT Protobuf", {"format_schema_source": "query"}),
        ("SELECT * FROM {p:Identifier}", {"param_p": "{f}"}),
        ("SELECT * FROM '{f}'", {"database": "default"}),
        ("SELECT * FROM `{f}`", {"database": "default"}),
    ],
)
def test_a_reader_reads_no_file(engine: Started, sql: str, more: dict[str, str], file: str) -> None:
    path = str(engine.folder / file)
    status, answer = engine.ask(
        sql.replace("{f}", path),
        **{name: value.replace("{f}", path) for name, value in more.items()},
    )
    assert status in (400, 403, 404)
    assert b"secret" not in answer
    assert not list(engine.folder.rglob("*.proto"))


@needs_landlock
def test_not_even_the_owner_reads_a_file_beside_the_data(engine: Started) -> None:
    """What keeps files safe if the check of statements should miss something."""
    assert sandbox_of(engine.port) == "landlock"
    assert engine.ask(f"SELECT file('{engine.folder}/data/within.txt')", "owner")[0] == 200
    for path in (
        engine.folder / "beside.txt",
        "/etc/hostname",
        "/proc/self/environ",
        "/etc/passwd",
    ):
        status, answer = engine.ask(f"SELECT file('{path}')", "owner")
        assert (status, b"Permission denied" in answer) == (500, True), answer
    for sql in (
        f"SELECT 1 INTO OUTFILE '{engine.folder}/out'",
        f"SELECT * FROM url('http://127.0.0.1:{engine.port}/ping', 'LineAsString')"
        " SETTINGS http_max_tries = 1",
        "SELECT * FROM executable('id', 'LineAsString', 'x String')",
    ):
        assert engine.ask(sql, "owner")[0] != 200
    assert not (engine.folder / "out").exists()


def test_no_password_is_in_the_environment_or_the_arguments(engine: Started) -> None:
    for name in ("environ", "cmdline"):
        text = Path(f"/proc/{engine.process.pid}/{name}").read_bytes()
        assert PASSWORD.encode() not in text
        assert b"DRIFTLINE_" not in text


@needs_landlock
def test_a_sandbox_that_does_not_hold_is_an_error(tmp_path: Path) -> None:
    """In a process of its own, which could not leave it again."""
    code = (
        "from pathlib import Path; from infra.embedded import sandbox\n"
        f"print(sandbox.restrict(Path({str(tmp_path)!r}), 1))\n"
        f"Path({str(tmp_path)!r}, 'a').write_text('x')\n"
        "for path in ('/etc/passwd', '/proc/self/environ'):\n"
        "    try: open(path); print('open', path)\n"
        "    except PermissionError: pass\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "landlock\n"


def test_a_kernel_without_landlock_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "version", lambda: 0)
    assert sandbox.restrict(Path("/nowhere"), 1) == "none (kernel offers no Landlock)"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1" + "+1" * 200_000,
        "SELECT 1" + "+1" * 100_000,
        "SELECT " + "(" * 100_000 + "1" + ")" * 100_000,
        "SELECT " + "NOT " * 50_000 + "1",
        "SELECT " + "- " * 100_000 + "1",
        "SELECT 1" + "::Int8" * 40_000,
        "SELECT " + "CASE WHEN 1 THEN " * 9_000 + "1" + " END" * 9_000,
    ],
    ids=lambda sql: sql[:20],
)
def test_no_nesting_ends_the_engine(engine: Started, sql: str) -> None:
    unbounded = dict.fromkeys(
        ("max_parser_depth", "max_ast_depth", "max_ast_elements", "max_expanded_ast_elements",
         "max_query_size", "max_parser_backtracks"), "1000000000"
    )  # fmt: skip
    assert engine.ask(sql, **unbounded)[0] in (400, 500)
    assert engine.ask("SELECT 1") == (200, b"1\n")


def test_a_fatal_error_ends_the_process_and_names_the_statement(tmp_path: Path) -> None:
    """The owner may raise limits, and can so overflow the engine's stack."""
    started = Started(tmp_path)
    unbounded = dict.fromkeys(
        ("max_parser_depth", "max_ast_depth", "max_ast_elements", "max_query_size"), "1000000000"
    )
    fatal = "SELECT 1 /* the one that did it */" + "+1" * 200_000
    try:
        with pytest.raises((OSError, http.client.HTTPException)):
            started.ask(fatal, "owner", **unbounded)
        assert started.process.wait(60) == FATAL_EXIT_CODE
        assert "fatal error of the engine while it ran" in started.log.read_text()
        assert "the one that did it" in started.log.read_text()
    finally:
        stop(started.process)


def test_an_answer_with_code_236_alone_is_no_death() -> None:
    ended: list[int] = []
    running = Running(beat=lambda: True, kill=lambda _: None, end=ended.append)  # type: ignore[arg-type]
    try:
        running.check()
        assert ended == []
    finally:
        running.close()


ENDLESS = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"


def runs(engine: Started) -> Callable[[], bool]:
    sql = "SELECT count() FROM system.processes WHERE query LIKE '%numbers(1000000000000)%'"
    return lambda: (
        engine.ask(sql + " AND query NOT LIKE '%system.processes%'", "owner")[1] != b"0\n"
    )


def test_a_readers_statement_ends_when_its_client_goes(engine: Started) -> None:
    is_running = runs(engine)
    for _ in range(8):  # twice as many as there are threads: those that wait must not run either
        client = socket.create_connection(("127.0.0.1", engine.port))
        head = f"GET /?query={quote(ENDLESS)} HTTP/1.1\r\nHost: localhost\r\n"
        client.sendall(f"{head}Authorization: {login()['Authorization']}\r\n\r\n".encode())
        eventually(is_running, 10)
        client.close()
    eventually(lambda: not is_running(), 10)
    assert engine.ask("SELECT 1") == (200, b"1\n")


def test_an_upload_that_is_broken_off_gives_its_memory_back(engine: Started) -> None:
    before = engine.shared_kib()
    for _ in range(5):
        client = socket.create_connection(("127.0.0.1", engine.port))
        head = f"POST /?query=INSERT HTTP/1.1\r\nHost: localhost\r\nContent-Length: {300 << 20}\r\n"
        client.sendall(f"{head}Authorization: {login('owner')['Authorization']}\r\n\r\n".encode())
        client.sendall(bytes(40 << 20))
        client.close()
    eventually(lambda: engine.shared_kib() < before + 10_000, 20)


def test_bodies_that_arrive_are_bounded_together(engine: Started) -> None:
    clients = []
    try:
        for _ in range(http_server.BODIES_BYTES // http_server.BODY_BYTES):
            client = socket.create_connection(("127.0.0.1", engine.port))
            length = f"Content-Length: {http_server.BODY_BYTES}\r\n"
            head = f"POST /?query=INSERT HTTP/1.1\r\nHost: localhost\r\n{length}"
            client.sendall(
                f"{head}Authorization: {login('owner')['Authorization']}\r\n\r\n".encode() + b"x"
            )
            clients.append(client)
        refused = eventually(
            lambda: [a for a in [engine.ask("SELECT 1", "owner")] if a[0] == 507], 10
        )
        assert b"bodies of all requests" in refused[0][1]
    finally:
        for client in clients:
            client.close()
    eventually(lambda: engine.ask("SELECT 1", "owner")[0] == 200, 10)


def test_a_reader_sends_no_large_body(engine: Started) -> None:
    status, answer = engine.ask("SELECT 1" + " " * (2 << 20))
    assert (status, b"send smaller blocks" in answer) == (507, True)


def test_results_are_bounded(engine: Started) -> None:
    status, answer = engine.ask("SELECT repeat('x', 1000000) FROM numbers(200)")
    assert (status, answer[:9]) == (500, b"Code: 396")


def test_results_that_nobody_reads_are_bounded_together(engine: Started) -> None:
    sql = quote("SELECT repeat('x', 1000000) FROM numbers(60)")
    clients = []
    try:
        for _ in range(http_server.RESULTS_BYTES // (60 * 10**6) + 2):
            client = socket.create_connection(("127.0.0.1", engine.port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            head = f"GET /?query={sql} HTTP/1.1\r\nHost: localhost\r\n"
            client.sendall(f"{head}Authorization: {login()['Authorization']}\r\n\r\n".encode())
            clients.append(client)
        status, answer = eventually(
            lambda: next(
                (
                    a
                    for a in [engine.ask("SELECT repeat('x', 1000000) FROM numbers(60)")]
                    if a[0] != 200
                ),
                None,
            ),
            30,
        )
        assert (status, b"results of all requests" in answer) == (507, True), answer[:300]
    finally:
        for client in clients:
            client.close()
    eventually(lambda: engine.ask("SELECT 1")[0] == 200, 10)


@pytest.mark.parametrize("query_id", ["a\r\nX-Evil: 1", "é", "x" * 500])
def test_a_query_id_that_is_no_header_is_refused(engine: Started, query_id: str) -> None:
    status, answer = engine.ask("SELECT 1", query_id=query_id)
    assert (status, b"query_id" in answer) == (400, True)
    assert engine.ask("SELECT 1", query_id="a-1")[0] == 200


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example", "169.254.169.254", ""])
def test_a_host_that_is_not_ours_is_refused(engine: Started, name: str) -> None:
    assert engine.ask("SELECT 1", headers={"Host": f"{name}:{engine.port}"})[0] == 403


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8123"])
def test_a_host_of_loopback_is_taken(engine: Started, name: str) -> None:
    assert engine.ask("SELECT 1", headers={"Host": name})[0] == 200


def test_a_configured_host_is_taken(tmp_path: Path) -> None:
    port = free_port()
    process = start_clickhouse(
        tmp_path / "data", port, tmp_path / "log", PASSWORD, hosts=["ClickHouse.internal"]
    )
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/ping", headers={"Host": "clickhouse.internal:80"})
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        stop(process)


def test_the_readers_client_and_its_settings_work(engine: Started) -> None:
    with engine.server.client("reader") as client:
        assert client.command("SELECT 1") == 1
    seconds = "SELECT getSetting('max_execution_time')"
    assert engine.ask(seconds, max_execution_time="5") == (200, b"5\n")
    assert engine.ask(seconds, max_execution_time="5000") == (200, b"60\n")
    assert engine.ask(seconds, format_schema_source="query")[0] == 403


def test_every_listed_function_is_one_of_the_engine(engine: Started) -> None:
    """A name that the engine does not know is a typing error, or has gone with a version."""
    from infra.embedded import readers

    known = engine.ask("SELECT lower(name) FROM system.functions", "owner")[1].decode().split()
    written_by_the_parser = {
        "columns", "dateadd", "date_add", "datesub", "date_sub", "grouping", "lambda",
        "timestampadd", "timestamp_add", "timestampsub", "timestamp_sub", "untuple",
    }  # fmt: skip
    assert readers.functions() - set(known) == written_by_the_parser
    assert not readers.functions() & {"file", "url", "hostname", "dictget", "showcertificate"}
