"""A judge's answer as text becomes a verdict, or the reason why there is none. Pure.

Read are a JSON object, alone, in a code fence or with words around it, and free text that names its
verdict. What is cut off, refuses, contradicts itself or uses an unknown word gives no verdict: a
missing score is visible, a wrong one is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from detectors.outcomes.wording import REFUSAL

Status = Literal["done", "refused", "truncated", "malformed"]

MAX_CHARACTERS: Final = 65_536
"""A longer answer is malformed: no judge was asked for so much."""

PASSING: Final = frozenset(
    {
        "pass", "passed", "passes", "satisfied", "satisfactory", "compliant", "success",
        "successful", "correct", "acceptable", "yes", "true", "good", "resolved",
        "通过", "满意", "合格", "成功", "正确", "是",
    }
)  # fmt: skip
FAILING: Final = frozenset(
    {
        "fail", "failed", "fails", "failure", "unsatisfied", "dissatisfied", "unsatisfactory",
        "not_satisfied", "noncompliant", "non_compliant", "not_compliant", "incorrect",
        "unacceptable", "no", "false", "bad", "unresolved", "partial", "partially_satisfied",
        "partially_satisfactory", "partially_compliant", "partial_pass",
        "不通过", "未通过", "不满意", "不合格", "失败", "错误", "否", "部分满意",
    }
)  # fmt: skip
"""Partly is not passed: nobody who asks whether it passed means half of it."""

_VERDICT_KEYS: Final = ("verdict", "passed", "pass", "result", "label", "decision")
_REASON_KEYS: Final = ("justification", "reason", "reasoning", "explanation", "rationale")
_LENGTH_ENDS: Final = frozenset({"length", "max_tokens", "max_output_tokens"})
_REFUSAL_ENDS: Final = frozenset({"refusal", "content_filter", "safety"})

_REFUSAL: Final = re.compile(REFUSAL)
_FREE: Final = re.compile(
    r"(?im)^\W*(?:(?:final |overall )?(?:verdict|result|decision|判定|结论|结果)\W{1,6})"
    r"([\w\u4e00-\u9fff]+(?:[ _-](?:satisfied|compliant|satisfactory|pass))?)"
)
_FENCE: Final = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge's answer came to.

    Attributes
    ----------
    status
        Only ``done`` carries a verdict.
    passed, word
        The verdict, and the word that the judge chose for it.
    score
        Number from 0 to 1, None when the judge gave none.
    reason, issues
        Why, in the judge's words.
    detail
        Of other states, what is wrong; it never quotes the answer.
    """

    status: Status
    passed: bool | None = None
    word: str | None = None
    score: float | None = None
    reason: str | None = None
    issues: tuple[str, ...] = ()
    detail: str | None = None


def parse(text: str | None, finish_reason: str | None = None) -> Verdict:
    """Read a judge's answer.

    Parameters
    ----------
    text
        What the model wrote.
    finish_reason
        Why it stopped, as the endpoint says; None when not known.

    Examples
    --------
    >>> parse('{"verdict": "pass", "justification": "solved"}').passed
    True
    >>> parse('{"verdict": "pa').status
    'truncated'
    >>> parse("I'm sorry, but I can't help with that.").status
    'refused'
    """
    if finish_reason in _REFUSAL_ENDS:
        return Verdict("refused", detail=f"finish reason {finish_reason}")
    if finish_reason in _LENGTH_ENDS:
        return Verdict("truncated", detail=f"finish reason {finish_reason}")
    stripped = (text or "").strip()
    if not stripped:
        return Verdict("malformed", detail="empty answer")
    if len(stripped) > MAX_CHARACTERS:
        return Verdict("malformed", detail=f"more than {MAX_CHARACTERS} characters")
    try:
        found = _objects(stripped)
    except _ContradictionError:
        return Verdict("malformed", detail="a key is given twice with different values")
    verdicts = [verdict for value in found if (verdict := _of_object(value)) is not None]
    if verdicts:
        return _agreed(verdicts)
    if found:
        return Verdict("malformed", detail="the JSON object holds no verdict")
    if stripped.startswith(("{", "```")):
        return Verdict("truncated", detail="a JSON object that does not end")
    return _of_text(stripped)


def passes(word: str) -> bool | None:
    """Whether a verdict's word means yes; None for a word that is not known.

    Examples
    --------
    >>> passes("Satisfied"), passes("not compliant"), passes("maybe")
    (True, False, None)
    """
    key = re.sub(r"[\s_-]+", "_", word.strip().strip(".!*\"'`").lower())
    if key in PASSING:
        return True
    return False if key in FAILING else None


def sole_object(text: str | None) -> dict[str, Any] | None:
    """The text as one JSON object with nothing around it and no key twice; else None.

    >>> sole_object(' {"a": 1} '), sole_object('ok: {"a": 1}'), sole_object('{"a": 1, "a": 2}')
    ({'a': 1}, None, None)
    """
    try:
        return _decoded((text or "").strip())
    except _ContradictionError:
        return None


class _ContradictionError(ValueError):
    pass


def _objects(text: str) -> list[dict[str, Any]]:
    """JSON objects of the text: the whole, else those in fences, else any that stand in it."""
    whole = _decoded(text)
    if whole is not None:
        return [whole]
    fenced = [value for part in _FENCE.findall(text) if (value := _decoded(part)) is not None]
    return fenced or list(_embedded(text))


def _decoded(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text, object_pairs_hook=_unambiguous)
    except _ContradictionError:
        raise
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _embedded(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder(object_pairs_hook=_unambiguous)
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except _ContradictionError:
            raise
        except (ValueError, RecursionError):
            return  # what begins as an object and is none: cut off or broken
        yield value
        at = text.find("{", end)


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise _ContradictionError
        found[key] = value
    return found


def _of_object(value: dict[str, Any]) -> Verdict | None:
    """Verdict of a JSON object; None when it holds none."""
    known = {str(key).lower(): item for key, item in value.items()}
    said = next((known[key] for key in _VERDICT_KEYS if known.get(key) is not None), None)
    score = known.get("score")
    if said is None and score is None:
        return None
    if score is not None and not _is_unit(score):
        return Verdict("malformed", detail="score is not a number from 0 to 1")
    word = None if said is None else str(said)
    passed = None if word is None else passes(word)
    if word is not None and passed is None:
        return Verdict("malformed", detail="verdict is not a known word")
    reason = next((known[key] for key in _REASON_KEYS if isinstance(known.get(key), str)), None)
    issues = known.get("issues")
    return Verdict(
        "done",
        passed,
        word,
        None if score is None else float(score),
        reason,
        tuple(map(str, issues)) if isinstance(issues, list) else (),
    )


def _is_unit(score: Any) -> bool:
    return isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1


def _agreed(verdicts: list[Verdict]) -> Verdict:
    """The first of several that say the same."""
    if len({(verdict.status, verdict.passed, verdict.score) for verdict in verdicts}) > 1:
        return Verdict("malformed", detail="several verdicts that differ")
    return verdicts[0]


def _of_text(text: str) -> Verdict:
    words = _FREE.findall(text)
    single = text if len(text) <= 40 else ""
    verdicts = {passes(word) for word in words} if words else {passes(single)}
    if verdicts in ({True}, {False}):
        return Verdict("done", verdicts.pop(), words[0] if words else single, reason=text)
    if len(verdicts) > 1:
        return Verdict("malformed", detail="several verdicts that differ")
    if _REFUSAL.search(text[:300]):
        return Verdict("refused", detail="declined in words")
    if "{" in text:
        return Verdict("truncated", detail="a JSON object that does not end")
    return Verdict("malformed", detail="no verdict in the answer")
