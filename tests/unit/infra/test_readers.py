"""What readers of the embedded engine may ask: lists of what is allowed, nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.embedded import readers
from infra.embedded.budget import Budget
from infra.embedded.statements import EngineError, Limits

KNOWN = frozenset({"file", "hascolumnintable", "hostname", "count", "arraymap", "lower", "format"})


def check(sql: str, output_format: str = "TabSeparated", database: str = "driftline") -> str:
    return readers.check(sql, database, output_format, KNOWN)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT arrayMap(file, ['/f'])",
        "SELECT arrayMap(FILE, ['/f'])",
        "SELECT arrayMap(`file`, ['/f'])",
        "SELECT arrayMap(\"file\", ['/f'])",
        "SELECT arrayMap(/**/file/**/, ['/f'])",
        "SELECT * APPLY file FROM t",
        "SELECT * APPLY(file) FROM t",
        "SELECT hostName()",
        "SELECT newFunctionOfTheNextVersion(1)",
        "SELECT `fi\\x6ce`('/f')",
        "SELECT {f:Identifier}('/f')",
        "SELECT { f : `Identifier` }",
        "SELECT * FROM url('http://x')",
        "SELECT * FROM view(SELECT file('/f'))",
        "SELECT * FROM format(CSV, '1')",
        "SELECT * FROM '/etc/hostname'",
        "SELECT * FROM system.processes",
        "SELECT * FROM system . `stack_trace`",
        "SELECT (SELECT 1 SETTINGS additional_result_filter = 'x')",
        "SELECT 1 INTO OUTFILE '/f'",
        "SELECT 1 FORMAT Template",
        "SELECT 1 FORMAT `Protobuf`",
        "SELECT 1; SELECT 2",
        "INSERT INTO t VALUES (1)",
        "SET readonly = 0",
        "/* SELECT */ DROP TABLE t",
        "",
    ],
)
def test_what_is_not_listed_is_refused(sql: str) -> None:
    with pytest.raises(EngineError, match=r"Code: (62|164)\."):
        check(sql)


@pytest.mark.parametrize(
    "character", ["$", "#", "@", "\\", "\0", "\u00a0", "\u2018", "\u201c", "\ufeff", "\u0131", "é"]
)
def test_characters_that_could_hide_something_are_refused(character: str) -> None:
    with pytest.raises(EngineError, match=r"Code: 62\."):
        check(f"SELECT 1 {character} + 1")
    if character not in "\0\\":
        assert check(f"SELECT '{character}'") == f"SELECT '{character}'"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT b, countIf(a > 1), quantilesExactIf(0.5, 0.9)(a, b = 'file') FROM t GROUP BY b",
        'SELECT count() OVER (PARTITION BY a ORDER BY b) AS "share, %" FROM t -- file',
        "WITH t AS (SELECT 1 AS x) SELECT x::Nullable(String), CAST(x AS Decimal(9, 2)) FROM t",
        "SELECT a FROM t WHERE a IN (1, 2) AND (b LIKE 'x' OR NOT (a BETWEEN (1) AND (2)))",
        "SELECT arrayMap(lower, ['X']), sumOrNullIf(a, 1), uniqExactMergeState(s) FROM t",
        "SELECT {x:String}, {y:Array(DateTime64(9, 'UTC'))}",
        "SELECT format FROM system.columns FORMAT JSONCompactEachRowWithNames;",
        "SELECT * FROM system.settings",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "SHOW CREATE TABLE t",
        "DESCRIBE TABLE t",
        "EXPLAIN SELECT 1",
        "SELECT count() FILTER (WHERE a > 1), a FROM t GROUP BY a ORDER BY a WITH FILL STEP (2)",
        "EXISTS TABLE t",
        "SELECT 'it''s' || 'a\\'file(' AS x, `a``b`",
    ],
)
def test_queries_pass_as_they_are(sql: str) -> None:
    assert check(sql) == sql.replace("-- file", " ")


def test_comments_do_not_reach_the_engine() -> None:
    assert check("SELECT 1 /* /* */ + 2 -- */ file('x')\n+ 3") == "SELECT 1   + 2  \n+ 3"


def test_brackets_and_length_are_bounded_before_parsing() -> None:
    deep = readers.DEPTH
    check("SELECT " + "(" * deep + "1" + ")" * deep)
    for opened, closed in ("()", "[]", "{}"):
        with pytest.raises(EngineError, match=r"Code: 306\."):
            check("SELECT " + opened * (deep + 1) + "1" + closed * (deep + 1))
    with pytest.raises(EngineError, match=r"Code: 62\..*more than 262144 bytes"):
        check("SELECT 1" + "+1" * 200_000)


@pytest.mark.parametrize("name", ["Template", "Protobuf", "CapnProto", "Avro", "file", ""])
def test_formats_that_read_files_are_refused(name: str) -> None:
    with pytest.raises(EngineError, match=r"Code: 164\..*format"):
        check("SELECT 1", output_format=name)


def test_the_database_system_cannot_be_the_current_one() -> None:
    with pytest.raises(EngineError, match=r"Code: 164\."):
        check("SELECT * FROM stack_trace", database="system")


@given(st.text(max_size=60))
def test_any_text_is_taken_or_refused_and_never_calls_file(text: str) -> None:
    for sql in (text, f"SELECT {text}", f"SELECT file{text}('x')"):
        try:
            plain = check(sql)
        except EngineError:
            continue
        assert "file(" not in plain.lower().replace(" ", "") or "'" in plain or '"' in plain


@pytest.mark.parametrize(
    "name",
    [
        "additional_result_filter",
        "additional_table_filters",
        "format_template_row",
        "format_schema",
        "format_schema_source",
        "user_files_path",
        "dialect",
        "allow_ddl",
    ],
)
def test_settings_that_are_not_listed_are_refused(name: str) -> None:
    with pytest.raises(EngineError, match=rf"Code: 164\..*setting '{name}'"):
        readers.settings({name: "1"})


def test_settings_of_ordinary_clients_pass() -> None:
    asked = {"max_execution_time": "5", "session_timezone": "UTC", "join_use_nulls": "1"}
    assert readers.settings(asked | {"readonly": "1"}) == asked


@pytest.mark.parametrize("name", readers.UPPER_BOUNDS)
def test_limits_of_readers_can_be_lowered_and_not_raised(name: str) -> None:
    limits, bound = Limits(others=readers.UPPER_BOUNDS), readers.UPPER_BOUNDS[name]
    for raised in (str(bound + 1), "0", "-1", "1e99", "nan", "x"):
        assert limits.settings(readers.settings({name: raised}))[name] == str(bound)
    assert limits.settings(readers.settings({name: "1"}))[name] == "1"
    assert limits.settings({})[name] == str(bound)


def test_a_budget_refuses_what_is_too_much_and_forgets_what_has_ended() -> None:
    budget = Budget(10, "bodies")
    with budget.hold(4) as first:
        first.grow(2)
        with pytest.raises(EngineError, match=r"Code: 241\..*bodies"), budget.hold(5):
            pytest.fail("held")
        with pytest.raises(EngineError):
            first.grow(5)
        assert budget.used == 6
    assert budget.used == 0
