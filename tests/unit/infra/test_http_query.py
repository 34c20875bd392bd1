"""From HTTP requests to statements: inserts with data, encodings, and nothing misread."""

from __future__ import annotations

import gzip
import zlib

import lz4.frame
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from infra.embedded.http_query import decompress, statement
from infra.embedded.statements import EngineError, Limits

BINARY = st.binary(max_size=300)


def parse(body: bytes, **parameters: str):  # type: ignore[no-untyped-def]
    return statement(parameters, body, reader=False)


@given(BINARY)
def test_rows_in_the_body_arrive_byte_for_byte(data: bytes) -> None:
    asked = parse(b"INSERT INTO t (`a`, b) FORMAT Native\n" + data)
    assert (asked.sql.strip(), asked.data_format, asked.data) == (
        "INSERT INTO t (`a`, b)",
        "Native",
        data,
    )


@given(BINARY)
def test_rows_beside_a_query_in_the_url_arrive_byte_for_byte(data: bytes) -> None:
    asked = parse(data, query="INSERT INTO t FORMAT RowBinary")
    assert (asked.data_format, asked.data) == ("RowBinary", data)
    asked = parse(data, query="insert into t settings async_insert=0 format RowBinary\n")
    assert (asked.data_format, asked.data) == ("RowBinary", data)
    assert asked.sql.strip() == "insert into t settings async_insert=0"
    asked = parse(b"3,4\n", query="INSERT INTO t FORMAT CSV 1,2")
    assert (asked.data_format, asked.data) == ("CSV", b"1,2\n3,4\n")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 FORMAT JSON",
        "INSERT INTO t SELECT 1 AS FORMAT FORMAT Null",
        "INSERT INTO t VALUES (1, ' FORMAT CSV ')",
        "INSERT INTO t WITH 1 AS x SELECT x FORMAT Null",
        "INSERT INTO t (a) FROM INFILE 'x' FORMAT CSV",
        "CREATE TABLE t (a UInt8) ENGINE = Memory",
    ],
)
def test_other_statements_stay_whole(sql: str) -> None:
    asked = parse(sql.encode())
    assert (asked.sql, asked.data_format, asked.data) == (sql, None, b"")


@pytest.mark.parametrize(
    ("sql", "head"),
    [
        ("INSERT INTO t FORMAT JSONEachRow {}", "INSERT INTO t"),
        ("INSERT INTO `a FORMAT b` FORMAT JSONEachRow {}", "INSERT INTO `a FORMAT b`"),
        (
            "INSERT INTO t (`select`, from_) FORMAT JSONEachRow\r\n{}",
            "INSERT INTO t (`select`, from_)",
        ),
    ],
)
def test_the_format_clause_is_found(sql: str, head: str) -> None:
    asked = parse(sql.encode())
    assert (asked.sql.strip(), asked.data_format, asked.data) == (head, "JSONEachRow", b"{}")


def test_settings_and_parameters_are_told_from_the_transport() -> None:
    asked = parse(
        b"SELECT {x:UInt8}",
        database="d",
        default_format="Native",
        param_x="1",
        max_threads="2",
        session_id="s",
        wait_end_of_query="1",
        http_headers_progress_interval_ms="5",
    )
    assert asked.settings == {"max_threads": "2"}
    assert asked.parameters == {"x": "1"}
    assert (asked.database, asked.output_format) == ("d", "Native")


@pytest.mark.parametrize("body", [b"", b"  \n", b"SELECT \xff"])
def test_what_is_no_query_is_refused(body: bytes) -> None:
    with pytest.raises(EngineError, match=r"Code: 62\."):
        parse(body)


ENCODINGS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstd.compress,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(parts=st.lists(BINARY, min_size=1, max_size=3))
def test_decompress_undoes_compress(encoding: str, parts: list[bytes]) -> None:
    if encoding == "deflate":  # the only one that does not concatenate
        parts = parts[:1]
    body = b"".join(ENCODINGS[encoding](part) for part in parts)
    assert decompress(body, encoding, 10_000) == b"".join(parts)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_is_refused_before_it_unfolds(encoding: str) -> None:
    body = ENCODINGS[encoding](bytes(50_000_000))
    with pytest.raises(EngineError, match=r"Code: 241\..*more than 1000 bytes"):
        decompress(body, encoding, 1000)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_broken_and_cut_bodies_are_refused(encoding: str) -> None:
    body = ENCODINGS[encoding](b"hello" * 100)
    for bad in (body[: len(body) // 2], b"\x00garbage" + body):
        with pytest.raises(EngineError, match=r"Code: 271\."):
            decompress(bad, encoding, 10_000)
    with pytest.raises(EngineError, match=r"Code: 48\."):
        decompress(body, "br", 10_000)


@pytest.mark.parametrize(
    ("asked", "given_to_engine"),
    [("5", "5"), ("0", "60"), ("1e9", "60"), ("-1", "60"), ("abc", "60"), ("0.5", "0.5")],
)
def test_limits_can_be_lowered_and_not_raised(asked: str, given_to_engine: str) -> None:
    settings = Limits(seconds=60).settings({"max_execution_time": asked})
    assert settings["max_execution_time"] == given_to_engine
    assert settings["max_memory_usage"] == str(4096 << 20)
