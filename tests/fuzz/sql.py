"""Send a reader's statements, settings and parameters to the embedded engine, mutated.

``python -m tests.fuzz.sql --seconds 600``. Two files hold a random token: one beside the data
folder, which the sandbox keeps away, and one within, which only the check of statements does. No
answer may hold a token, plainly or encoded; nothing may be written beside the data folder nor under
the names given here; the engine may never end, nor forget its tables.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from infra.embedded.clickhouse import sandbox_of, start_clickhouse
from infra.embedded.process import stop
from tests.support.processes import free_ports

PASSWORD, READER_PASSWORD = "owner-password", "reader-password"
WRITTEN = "written-by-a-reader"

# {f} is a file with a token, {w} a file to write, {u} an address that nobody listens on.
ATTACKS = (
    "SELECT file('{f}')",
    "SELECT arrayMap(file, ['{f}'])",
    "SELECT arrayMap(x -> file(x), ['{f}'])",
    "SELECT * APPLY file FROM (SELECT '{f}' AS x)",
    "SELECT * APPLY(file) FROM (SELECT '{f}' AS x)",
    "SELECT COLUMNS('x') APPLY file FROM (SELECT '{f}' AS x)",
    "WITH (x -> file(x)) AS f SELECT f('{f}')",
    "WITH file AS f SELECT f('{f}')",
    "SELECT {p:Identifier}('{f}')",
    "SELECT arrayMap({p:Identifier}, ['{f}'])",
    "SELECT * FROM file('{f}', 'LineAsString')",
    "SELECT * FROM '{f}'",
    "SELECT * FROM `{f}`",
    "SELECT * FROM default.`{f}`",
    "SELECT * FROM {p:Identifier}",
    "SELECT * FROM view(SELECT file('{f}'))",
    "SELECT * FROM viewIfPermitted(SELECT file('{f}') ELSE null('x String'))",
    "SELECT * FROM url('file://{f}', 'LineAsString')",
    "SELECT * FROM s3('{u}', 'LineAsString')",
    "SELECT * FROM remote('127.0.0.1', system.one)",
    "SELECT * FROM executable('cat {f}', 'LineAsString', 'x String')",
    "SELECT * FROM sqlite('{f}', 't')",
    "SELECT * FROM python(x)",
    "SELECT * FROM filesystem('{f}')",
    "SELECT * FROM fileCluster('c', '{f}', 'LineAsString')",
    "SELECT * FROM merge('system', '.*')",
    "SELECT * FROM format(LineAsString, file('{f}'))",
    "SELECT * FROM loop(file('{f}', 'LineAsString')) LIMIT 1",
    "SELECT * FROM eval('SELECT file(\\'{f}\\')')",
    "SELECT (SELECT 1 SETTINGS additional_result_filter = 'file(\\'{f}\\') != 0')",
    "SELECT a FROM t SETTINGS additional_table_filters = {'t': 'throwIf(1, file(\\'{f}\\'))'}",
    "SELECT 1 INTO OUTFILE '{w}'",
    "SELECT 1 INTO OUTFILE '{w}' TRUNCATE FORMAT CSV",
    "SELECT 1 FORMAT Template SETTINGS format_template_row = '{f}'",
    "SELECT 1 AS a FORMAT Protobuf",
    "SELECT catboostEvaluate('{f}', 1)",
    "SELECT evalMLMethod('{f}', 1)",
    "SELECT dictGet('{f}', 'x', 1)",
    "SELECT showCertificate()",
    "SELECT addressToLine(1)",
    "SELECT aiGenerate('{f}')",
    "SELECT hasColumnInTable('127.0.0.1', 'u', 'p', 'd', 't', 'c')",
    "DESCRIBE TABLE file('{f}')",
    "DESC url('{u}')",
    "EXPLAIN SELECT file('{f}')",
    "EXPLAIN AST SELECT arrayMap(file, ['{f}'])",
    "SHOW TABLES FROM `{f}`",
    "SHOW CREATE TABLE t",
    "EXISTS TABLE default.`{f}`",
    "SELECT * FROM system.stack_trace",
    "SELECT * FROM system.processes",
    "INSERT INTO FUNCTION file('{w}') SELECT 1",
    "INSERT INTO t FROM INFILE '{f}' FORMAT CSV",
    "INSERT INTO t VALUES (1, 'x')",
    "CREATE TABLE x ENGINE = File(CSV, '{f}')",
    "CREATE FUNCTION g AS x -> file(x)",
    "CREATE VIEW v2 AS SELECT file('{f}')",
    "ATTACH TABLE x FROM '{f}' (a String) ENGINE = Memory",
    "BACKUP DATABASE default TO File('{w}')",
    "DROP TABLE t",
    "SET readonly = 0",
    "SYSTEM SHUTDOWN",
    "KILL QUERY WHERE 1",
    "USE system",
    "SELECT 1 PARALLEL WITH DROP TABLE t",
    "SELECT 1; DROP TABLE t",
    "SELECT {deep}",
    "SELECT 1{chain}",
    "SELECT a FROM t WHERE {chain}",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r",
)
PLAIN = (
    "SELECT b, count(), sumIf(a, a > 1) FROM t GROUP BY b ORDER BY b LIMIT 5",
    "SELECT arrayMap(x -> x + 1, groupArray(a)) FROM t",
    "SELECT a, lagInFrame(a) OVER (PARTITION BY b ORDER BY a) FROM t",
    "SELECT {p:String}, {q:UInt8}, * FROM v",
    "WITH 3 AS x SELECT x, quantiles(0.5, 0.9)(a) FROM t FORMAT JSON",
    "SELECT number FROM numbers(3) UNION ALL SELECT a FROM t",
    "SHOW TABLES",
    "DESCRIBE TABLE t",
    "EXPLAIN SELECT * FROM t",
    "SELECT name FROM system.columns WHERE table = 't' FORMAT TSV",
)
PIECES = (
    "file", "FILE", "`file`", '"file"', "file('{f}')", "'{f}'", "APPLY", "COLUMNS('.*')", "->",
    "(", ")", "[", "]", "{p:Identifier}", "{p:String}", "::String", ",", ".", ";", "--", "/*",
    "*/", "/**/", "# ", "$$", "$x$", "\\", "\\'", "'", '"', "`", "\0", "\u00a0", "\u2018",
    "\u201c", "\ufeff", "SETTINGS", "FORMAT", "INTO OUTFILE '{w}'", "FROM", "IN", "AS", "WITH",
    "UNION ALL", "EXCEPT", "SELECT", "url", "s3", "input", "executable", "view", "arrayMap",
    "arrayReduce", "initializeAggregation", "`\\x66ile`", "f\u0131le", "file\u200b", "system.",
    "default.", "@@version", "?", ":", "NOT", "-",
)  # fmt: skip
SETTINGS = (
    "additional_result_filter", "additional_table_filters", "format_schema",
    "format_schema_source", "format_template_row", "format_template_resultset",
    "format_template_row_format", "readonly", "allow_ddl", "user_files_path", "max_ast_depth",
    "max_parser_depth", "max_query_size", "max_ast_elements", "max_memory_usage",
    "max_execution_time", "max_result_bytes", "dialect", "max_threads", "param_p", "param_q",
    "default_format", "database", "query_id", "session_id",
    "output_format_json_quote_64bit_integers", "compress", "role", "user", "password", "query",
    "output_format_pretty_max_rows", "log_comment", "implicit_select",
    "implicit_table_at_top_level", "schema_inference_make_columns_nullable",
    "file_like_engine_default_partition_strategy", "format_avro_schema_registry_url",
    "output_format_schema", "query_plan_max_step_description_length",
)  # fmt: skip
FORMATS = ("Native", "JSON", "CSV", "Template", "Protobuf", "CapnProto", "Avro", "TSV", "Parquet")


class Found(Exception):
    """A statement did what no reader may."""


@dataclass
class Engine:
    """A running engine with two canaries.

    Parameters
    ----------
    folder
        Empty folder for everything.
    """

    folder: Path

    def __post_init__(self) -> None:
        self.port = free_ports(1)
        self.data = self.folder / "home" / "clickhouse"
        self.token = secrets.token_hex(12)
        self.files = (self.folder / "home" / "canary.csv", self.data / "canary.csv")
        self.process = start_clickhouse(
            self.data, self.port, self.folder / "engine.log", PASSWORD, READER_PASSWORD
        )
        for file in self.files:
            file.write_text(f"a,b\n1,{self.token}\n")
        self.sandbox = sandbox_of(self.port)
        for sql in (
            "CREATE DATABASE fuzz",
            "CREATE TABLE fuzz.t (a Int64, b String) ENGINE = MergeTree ORDER BY a",
            "INSERT INTO fuzz.t VALUES (1, 'x'), (2, 'y')",
            "CREATE VIEW fuzz.v AS SELECT a FROM fuzz.t",
        ):
            status, body = self.ask({}, sql.encode(), "POST", PASSWORD, "owner")
            assert status == 200, body
        self._outside = self._listing()
        raw = self.token.encode()
        self._signs = {raw, raw[::-1], raw.hex().encode(), raw.hex().upper().encode()} | {
            base64.b64encode(bytes(shift) + raw)[8:24] for shift in range(3)
        }

    def ask(
        self, parameters: dict[str, str], body: bytes, method: str, password: str, user: str
    ) -> tuple[int, bytes]:
        """Status and body of one answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        try:
            connection.request(
                method, f"/?{urlencode(parameters)}", body, {"Authorization": f"Basic {login}"}
            )
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def check(self, answer: bytes) -> None:
        """Raise `Found` if a token is in the answer."""
        if any(sign in answer for sign in self._signs):
            raise Found("an answer holds the token")

    def check_state(self) -> None:
        """Raise `Found` if something was written or the engine is no longer what it was."""
        if self.process.poll() is not None:
            raise Found(f"the engine ended with {self.process.returncode}")
        if self._listing() != self._outside:
            raise Found("files beside the data folder changed")
        if written := [*self.folder.rglob(f"*{WRITTEN}*"), *self.data.rglob("*.proto")]:
            raise Found(f"{written[0]} was written")
        counted = self.ask({"database": "fuzz"}, b"SELECT count() FROM v", "POST", PASSWORD, "o")
        if counted != (200, b"2\n"):
            raise Found(f"the tables answer {counted!r}")

    def _listing(self) -> dict[str, int]:
        return {
            str(path): path.stat().st_mtime_ns
            for path in self.folder.rglob("*")
            if self.data not in (path, *path.parents) and path.is_file() and path.suffix != ".log"
        }


class Mutator:
    """Makes requests from seeds; the same ones for the same ``seed``."""

    def __init__(self, engine: Engine, seed: int, functions: list[str]) -> None:
        self._random = random.Random(seed)
        self._engine, self._functions = engine, functions

    def request(self) -> tuple[dict[str, str], bytes, str]:
        """URL parameters, body and method of one request."""
        pick = self._random
        sql = pick.choice(ATTACKS if pick.random() < 0.6 else PLAIN)
        for _ in range(pick.choice((0, 0, 1, 1, 2, 4))):
            sql = self._changed(sql)
        sql = self._filled(sql)
        parameters = {"database": pick.choice(("fuzz", "fuzz", "default", "system"))}
        for _ in range(pick.choice((0, 0, 0, 1, 2))):
            parameters[pick.choice(SETTINGS)] = self._filled(self._value())
        parameters.setdefault("param_p", self._filled(pick.choice(("file", "x", "{f}"))))
        parameters.setdefault("param_q", "1")
        method = pick.choice(("POST", "POST", "GET"))
        body = sql.encode("utf-8", "surrogatepass")
        if (method == "GET" or pick.random() < 0.2) and len(body) < 4000:
            return parameters | {"query": sql}, b"", method
        return parameters, body, "POST"

    def _changed(self, sql: str) -> str:
        pick, at = self._random, self._random.randrange(len(sql) + 1)
        end = min(len(sql), at + pick.randrange(1, 12))
        way = pick.randrange(7)
        if way == 0:
            return sql[:at] + f" {pick.choice(PIECES)} " + sql[at:]
        if way == 1:
            return sql[:at] + pick.choice(PIECES) + sql[at:]
        if way == 2:
            return sql[:at] + sql[end:]
        if way == 3:
            other = pick.choice(ATTACKS + PLAIN)
            return sql[:at] + other[pick.randrange(len(other)) :]
        if way == 4:
            return sql.replace("file", pick.choice((*PIECES, *pick.sample(self._functions, 3))))
        if way == 5:
            return sql.replace(" ", pick.choice(("/**/", "\n", "--\n", "/*/**/*/", "\t")))
        return f"SELECT * FROM ({sql}) AS q" if pick.random() < 0.5 else f"EXPLAIN {sql}"

    def _value(self) -> str:
        pick = self._random
        return pick.choice(
            ("0", "1", "10000000000", "-1", "{f}", "{w}", "query", "throwIf(1, file('{f}'))",
             "{'t': 'file(''{f}'') != 0'}", "${a:Raw}", "a\r\nX: y", "", pick.choice(FORMATS),
             "auto", "prql", "kusto", "file", "system", "SELECT file('{f}')")
        )  # fmt: skip

    def _filled(self, text: str) -> str:
        pick = self._random
        depth = pick.choice((5, 99, 5_000, 60_000))
        opened, closed = pick.choice(
            (("(", ")"), ("[", "]"), ("f(", ")"), ("not ", ""), ("-(", ")"))
        )
        chain = pick.choice(("+1", " and 1", "::Int8", "[1]", ".1", "||'a'", "?1:2", " in 1"))
        filling = {
            "{f}": str(pick.choice(self._engine.files)),
            "{w}": str(pick.choice((self._engine.folder / "home", self._engine.data)) / WRITTEN),
            "{u}": "http://127.0.0.1:1/x",
            "{deep}": opened * depth + "1" + closed * depth,
            "{chain}": "1" + chain * depth,
        }
        for name, value in filling.items():
            if name in text:
                text = text.replace(name, value)
        return text


def fuzz(seconds: float, requests: int, seed: int, folder: Path) -> Counter[str]:
    """Return how many statements ran and how many were refused, by code; raise `Found`."""
    engine = Engine(folder)
    seen: Counter[str] = Counter()
    end = time.monotonic() + seconds
    try:
        names = engine.ask({}, b"SELECT name FROM system.functions", "POST", PASSWORD, "owner")[1]
        mutator = Mutator(engine, seed, names.decode().split())
        while time.monotonic() < end and seen.total() < requests:
            parameters, body, method = mutator.request()
            try:
                _one(engine, seen, parameters, body, method)
            except (Found, OSError, http.client.HTTPException) as error:
                sys.stderr.write(f"{method} {parameters!r}\n{body[:5000]!r}\n")
                sys.stderr.write((folder / "engine.log").read_text("utf-8", "replace")[-3000:])
                raise Found(repr(error)) from error
        engine.check_state()
    finally:
        stop(engine.process)
    sys.stdout.write(f"sandbox {engine.sandbox}\n")
    return seen


def _one(
    engine: Engine, seen: Counter[str], parameters: dict[str, str], body: bytes, method: str
) -> None:
    status, answer = engine.ask(parameters, body, method, READER_PASSWORD, "reader")
    engine.check(answer)
    code = answer[:40].partition(b"Code: ")[2].partition(b".")[0].decode(errors="replace")
    seen["ran" if status == 200 else f"refused {code or status}"] += 1
    if seen.total() % 50 == 0 or status == 500:
        engine.check_state()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--requests", type=int, default=10**9, help="stop after so many")
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    given = parser.parse_args()
    seed = secrets.randbits(32) if given.seed is None else given.seed
    sys.stdout.write(f"seed {seed}\n")
    with tempfile.TemporaryDirectory() as folder:
        seen = fuzz(given.seconds, given.requests, seed, Path(folder))
    for name, count in seen.most_common():
        sys.stdout.write(f"{count:8} {name}\n")
    sys.stdout.write(f"{seen.total()} statements, {seen['ran']} ran, no token, nothing written\n")


if __name__ == "__main__":
    main()
