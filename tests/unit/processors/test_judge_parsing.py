"""A judge's answer becomes its verdict, and nothing else does."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.compare.agreement import agreement
from processors.evaluators.parsing import MAX_CHARACTERS, parse, passes
from tests.support.common import data_file

FILE = "tau2_retail_llm_judge_verdicts.jsonl.gz"


def records() -> list[dict[str, Any]]:
    with gzip.open(data_file(FILE)) as lines:
        return [json.loads(line) for line in lines]


def answer_of(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "verdict": record["judge_verdict"],
        "justification": record["judge_justification"],
        "issues": record["judge_issues"],
    }


WRITTEN = {
    "strict": lambda answer: json.dumps(answer),
    "indented": lambda answer: json.dumps(answer, indent=2, ensure_ascii=False),
    "fenced": lambda answer: f"```json\n{json.dumps(answer)}\n```",
    "in words": lambda answer: f"Here is my review.\n{json.dumps(answer)}\nLet me know!",
    "free text": lambda answer: f"{answer['justification']}\n\n**Verdict:** {answer['verdict']}",
}


@pytest.mark.parametrize("style", WRITTEN)
def test_recorded_verdicts_are_read_however_they_are_written(style: str) -> None:
    for record in records():
        answer = answer_of(record)
        found = parse(WRITTEN[style](answer))
        assert (found.status, found.word) == ("done", answer["verdict"]), found
        if style != "free text":
            assert found.reason == answer["justification"]
            assert found.issues == tuple(map(str, answer["issues"]))


def test_kappas_of_the_recorded_judges() -> None:
    expected = {
        "customer_outcome_v1": 0.17,
        "policy_conversation_v1": 0.23,
        "quick_triage_v1": 0.05,
        "policy_chain_of_thought_v1": 0.11,
    }
    judges: dict[str, tuple[list[bool], list[bool]]] = {name: ([], []) for name in expected}
    for record in records():
        verdict = parse(json.dumps(answer_of(record)))
        assert verdict.passed is not None
        judged, truth = judges[record["judge_prompt_name"]]
        judged.append(verdict.passed)
        truth.append(record["tau2_success"])
    found = {name: agreement(*pairs) for name, pairs in judges.items()}
    assert {name: judge.n for name, judge in found.items()} == dict.fromkeys(expected, 114)
    for name, judge in found.items():
        assert judge.kappa.value == pytest.approx(expected[name], abs=0.02)
        assert judge.kappa.low is not None and judge.kappa.high is not None
        assert judge.kappa.low < judge.kappa.value < judge.kappa.high


def test_a_cut_off_answer_never_has_a_verdict() -> None:
    for record in records()[::20]:
        text = json.dumps(answer_of(record))
        for end in range(1, len(text)):
            assert parse(text[:end]).status == "truncated", text[:end]


@pytest.mark.parametrize(
    ("text", "finish", "status"),
    [
        (None, None, "malformed"),
        ("  ", None, "malformed"),
        ("[]", None, "malformed"),
        ("null", None, "malformed"),
        ("The agent did well.", None, "malformed"),
        ('{"verdict": "maybe"}', None, "malformed"),
        ('{"verdict": ["pass"]}', None, "malformed"),
        ('{"verdict": null}', None, "malformed"),
        ('{"verdict": "pass", "verdict": "fail"}', None, "malformed"),
        ('{"verdict": "pass"} {"verdict": "fail"}', None, "malformed"),
        ('{"score": 7}', None, "malformed"),
        ('{"score": true}', None, "malformed"),
        ('{"score": NaN}', None, "malformed"),
        ("Verdict: pass\nVerdict: fail", None, "malformed"),
        ("x" * (MAX_CHARACTERS + 1), None, "malformed"),
        ("[" * 50_000, None, "malformed"),
        ('{"a":' * 10_000, None, "truncated"),
        ('{"verdict": "pass"}', "length", "truncated"),
        ('{"verdict": "pass"}', "content_filter", "refused"),
        ("I'm sorry, but I can't assist with that.", None, "refused"),
        ("很抱歉，我无法提供评价。", None, "refused"),  # noqa: RUF001
    ],
)
def test_answers_without_a_verdict(text: str | None, finish: str | None, status: str) -> None:
    found = parse(text, finish)
    assert (found.status, found.passed, found.score) == (status, None, None)
    assert found.detail


@pytest.mark.parametrize(
    ("text", "passed", "score"),
    [
        ('{"passed": true}', True, None),
        ('{"pass": false, "score": 0.2}', False, 0.2),
        ('{"Verdict": "Not compliant."}', False, None),
        ('{"score": 1}', None, 1.0),
        ("PASS", True, None),
        ("Verdict: not satisfied", False, None),
        ("结论：通过", True, None),  # noqa: RUF001
        ('{"verdict": "pass"}\n\n{"verdict": "pass"}', True, None),
        ('{"note": 1}\n{"verdict": "fail"}', False, None),
    ],
)
def test_answers_with_a_verdict(text: str, passed: bool | None, score: float | None) -> None:
    found = parse(text, "stop")
    assert (found.status, found.passed, found.score) == ("done", passed, score)


@given(st.text(max_size=200), st.sampled_from([None, "stop", "length"]))
def test_any_text_gives_an_answer(text: str, finish: str | None) -> None:
    found = parse(text, finish)
    assert (found.status == "done") == (found.passed is not None or found.score is not None)


def test_partly_is_not_passed() -> None:
    assert passes("partially_satisfied") is False
