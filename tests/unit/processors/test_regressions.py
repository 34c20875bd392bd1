"""Regression cases: identity, content, formats, and results read back."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from ingest.core.errors import UsageError
from processors.regressions import (
    FORMATS,
    case_id,
    cases,
    export,
    read_results,
    rubric,
    standing,
    write,
)

NOW = datetime(2026, 1, 5, tzinfo=UTC)
HOSTILE = "ignore this\n</script>\u202e{{vars.secret}}\x00 " + "x" * 50


def failure(n, request="Refund my ORDER  please", session="s", tools=("refund",), **more):
    known = {
        "interaction_id": f"i{n}", "session_id": session, "environment": "production",
        "agent": "shop", "agent_version": f"v{n}", "end": NOW + timedelta(minutes=n),
        "request": request, "tools": list(tools), "reasons": ["tool_failed"], "tool": "refund",
        "error": "503 from <num>", "rules": "r1", "cluster": "c1",
    }  # fmt: skip
    return {**known, **more}


def turn(n, session="s", request="hello", answer="hi"):
    return {
        "session_id": session, "interaction_id": f"t{n}", "end": NOW - timedelta(minutes=n),
        "request": request, "answer": answer,
    }  # fmt: skip


def made(*failed, turns=()):
    return cases(pl.DataFrame(list(failed)), pl.DataFrame(list(turns)))


def test_equal_requests_are_one_case_with_all_that_failed_so():
    (case,) = made(failure(1), failure(2, request="refund my order please", session="t"))
    assert case.provenance["interactions"] == ["i1", "i2"]
    assert case.provenance["versions"] == ["v1", "v2"]
    assert (case.first_seen, case.last_seen) == (
        (NOW + timedelta(minutes=1)).isoformat(), (NOW + timedelta(minutes=2)).isoformat(),
    )  # fmt: skip
    assert case.cluster == "c1"
    assert case.expected is None


def test_other_tools_or_another_history_are_another_case():
    one, two, three = made(
        failure(1), failure(2, tools=["find"], session="u"), failure(3, session="t"),
        turns=[turn(1, session="t")],
    )  # fmt: skip
    assert len({one.id, two.id, three.id}) == 3
    assert [m["role"] for m in three.messages] == ["user", "assistant", "user"]
    assert case_id(one.messages, one.tools) == one.id


def test_a_rubric_follows_from_the_reason_and_names_no_answer():
    assert "refund" in rubric(["tool_failed"], "refund")
    assert rubric(["house_reason"], "") == "must not fail in this way again: house_reason"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_a_json_object_a_line_also_of_hostile_text(name):
    found = made(failure(1, request=HOSTILE), failure(2))
    text = export(found, name)
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) == 2
    assert text.isascii()
    assert "expected_output" not in text
    assert json.dumps(HOSTILE)[1:25] in text
    # Promptfoo would fill templates in; every other text is whole.
    assert (json.dumps(HOSTILE)[1:40] in text) is (name != "promptfoo")
    assert ("{{" in text) is (name != "promptfoo")


def test_an_unknown_format_is_wrong_use():
    with pytest.raises(UsageError, match="promptfoo"):
        export([], "xml")


def test_the_pytest_set_runs_and_its_results_are_read_back(tmp_path):
    found = made(failure(1), failure(2, tools=["find"], session="u"))
    write(found, "pytest", tmp_path)
    (tmp_path / "conftest.py").write_text(
        "import pytest\n"
        "@pytest.fixture\ndef agent():\n    return lambda messages: 'sorry'\n"
        "@pytest.fixture\ndef judge():\n    return lambda case, answer: 'find' in case['tools']\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=out.xml"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    results = {r.case: r.passed for r in read_results((tmp_path / "out.xml").read_bytes())}
    assert results == {case.id: "find" in case.tools for case in found}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b'{"id": "rc_1", "passed": 1}', b"<a/>", b"<testsuite>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><testsuite/>', b"[1]", b"\xff\xfe",
    ],
)  # fmt: skip
def test_what_are_no_results_is_refused(data):
    with pytest.raises(ValueError):
        read_results(data)


@pytest.mark.parametrize("runs", [(True, False), (False, True), (True, True)])
def test_a_case_that_failed_in_one_of_several_runs_has_failed(runs):
    lines = [f'{{"id": "rc_1", "passed": {str(passed).lower()}}}\n' for passed in runs]
    tests = [f'<testcase name="rc_{1:016}">{"" if p else "<failure/>"}</testcase>' for p in runs]
    for data in ("".join(lines), f"<testsuite>{''.join(tests)}</testsuite>"):
        assert [r.passed for r in read_results(data.encode())] == [all(runs)]


def test_results_of_jsonl_have_a_version():
    (result,) = read_results(b'{"id": "rc_1", "passed": true, "version": "v2"}\n')
    assert (result.case, result.passed, result.version) == ("rc_1", True, "v2")


@pytest.mark.parametrize(
    ("results", "last_failure", "status"),
    [
        ([], None, "open"),
        ([(1, False)], 0, "open"),
        ([(1, False), (2, True)], 0, "fixed"),
        ([(2, True)], 3, "regressed"),
        ([(1, True), (2, False)], 0, "regressed"),
        ([(1, True), (2, False), (3, True)], 0, "fixed"),
    ],
)
def test_where_a_case_stands(results, last_failure, status):
    rows = [(at, passed, "v") for at, passed in results]
    assert standing("c", rows, last_failure).status == status
