"""Regression sets: failures of production as cases for evaluation frameworks, and their results.

A case is what was asked and in which context, which tools were at hand, what went wrong, and a
rubric that follows from the reason of the failure. It never holds an answer that nobody gave: of
most failures the right answer is not known. Texts are the stored, redacted ones.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import polars as pl

from ingest.core.errors import UsageError
from processors.clickhouse import Store

VERSION: Final = 1
"""Of the canonical format."""

_TURNS: Final = 20  # earlier turns of a session that are its context
_SPACES: Final = re.compile(r"\s+")
_TEMPLATE: Final = re.compile(r"\{(?=[{%#])")
_CASE_ID: Final = re.compile(r"\b(rc_[0-9a-f]{16})\b")

_RUBRICS: Final[Mapping[str, str]] = {
    "tool_failed": "must handle the failure of {tool}: retry, use another way, or say plainly that"
    " it could not be done; must not present a result that it does not have",
    "tool_error_unrecovered": "must recover from the error of {tool} or say that it failed",
    "tool_loop": "must not repeat the same call of {tool} without progress",
    "unknown_tool": "must call only tools that it was given",
    "bad_arguments": "must call {tool} with arguments that fit its schema",
    "hallucinated_identifier": "must not invent identifiers; those used must stem from the user or"
    " a tool",
    "empty_answer": "must answer the request",
    "refusal": "must not refuse a request that it is allowed to fulfil",
    "model_error": "must answer in spite of a failing model call, or say that it could not",
    "unfinished": "must come to an end",
    "wrong_answer": "must not repeat the outcome that was judged wrong",
}
_RUBRIC: Final = "must not fail in this way again: {reason}"


@dataclass(frozen=True, slots=True)
class Case:
    """One case; the fields are the canonical JSONL.

    Attributes
    ----------
    id
        Hash of the normalised messages and tools.
    messages
        ``{"role", "content"}`` in order, the request last.
    failure
        ``reasons, tool, error`` of what went wrong.
    rubric
        What an answer must or must not do.
    expected
        The right answer where it is known, else null.
    provenance
        ``interactions`` that failed so, ``environment``, ``versions``.
    """

    id: str
    agent: str
    messages: Sequence[Mapping[str, str]]
    tools: Sequence[str]
    failure: Mapping[str, Any]
    rubric: str
    cluster: str
    first_seen: str
    last_seen: str
    provenance: Mapping[str, Any]
    expected: str | None = None
    format: int = VERSION
    redaction: str = ""


_WHICH: Final = """
FROM interactions AS r
LEFT JOIN (SELECT interaction_id, cluster FROM cluster_members FINAL) AS m
    ON m.interaction_id = r.interaction_id
WHERE r.success = 0 AND r.request != '' AND r.agent = {agent:String}
    AND ({cluster:String} = '' OR m.cluster = {cluster:String})
    AND (empty({only:Array(String)}) OR r.interaction_id IN {only:Array(String)})
"""
_FAILED: Final = f"""
SELECT r.interaction_id AS interaction_id,
    concat(r.session_id, '@scope:', r.scope) AS session_id, r.environment AS environment,
    r.agent AS agent, r.agent_version AS agent_version, r.end AS end, r.request AS request,
    arrayMap(t -> toString(t), r.tools) AS tools, arrayMap(x -> toString(x), r.reasons) AS reasons,
    r.failure_tool AS tool, r.failure_template AS error, r.rules_version AS rules,
    m.cluster AS cluster
{_WHICH}
ORDER BY end DESC, interaction_id DESC
LIMIT {{limit:UInt32}}
"""
_COUNTED: Final = f"SELECT count() AS n {_WHICH}"

_TURNS_OF: Final = """
SELECT concat(i.session_id, '@scope:', i.scope) AS session_id, interaction_id, end, request, answer
FROM interactions AS i
WHERE (i.session_id, i.scope) IN
(
    SELECT session_id, scope FROM interactions
    WHERE success = 0 AND request != '' AND agent = {agent:String}
)
ORDER BY session_id, end, interaction_id
"""


def load_cases(
    store: Store, agent: str, cluster: str = "", limit: int = 5_000, only: Sequence[str] = ()
) -> tuple[list[Case], int]:
    """Cases of the newest stored failures of an agent, each once, oldest first.

    With ``cluster`` those of a cluster, with ``only`` those of these interactions. Also how many
    older failures were not read, because there are more than ``limit``.
    """
    given = {"agent": agent, "cluster": cluster, "only": list(only)}
    failed = store.query(_FAILED, given | {"limit": limit})
    unread = 0
    if len(failed) >= limit:
        unread = max(store.query(_COUNTED, given)["n"][0] - len(failed), 0)
    return cases(failed.reverse(), store.query(_TURNS_OF, {"agent": agent})), unread


def cases(failed: pl.DataFrame, turns: pl.DataFrame) -> list[Case]:
    """Cases of failed interactions and the turns of their sessions. Pure."""
    if failed.is_empty():
        return []
    sessions: dict[str, list[dict[str, Any]]] = {}
    for turn in turns.iter_rows(named=True):
        sessions.setdefault(turn["session_id"], []).append(turn)
    grouped: dict[str, list[tuple[dict[str, Any], list[dict[str, str]]]]] = {}
    for row in failed.iter_rows(named=True):
        messages = _messages(row, sessions.get(row["session_id"], ()))
        grouped.setdefault(case_id(messages, row["tools"]), []).append((row, messages))
    return [_case(name, found) for name, found in grouped.items()]


def _messages(row: dict[str, Any], turns: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    earlier = [t for t in turns if t["end"] < row["end"]][-_TURNS:]
    messages = []
    for turn in earlier:
        for role, text in (("user", turn["request"]), ("assistant", turn["answer"])):
            if text:
                messages.append({"role": role, "content": text})
    return [*messages, {"role": "user", "content": row["request"]}]


def case_id(messages: Iterable[Mapping[str, str]], tools: Iterable[str]) -> str:
    """Identity of a case: what was asked, in lower case and with single spaces, and the tools."""
    said = [[m["role"], _SPACES.sub(" ", m["content"]).strip().lower()] for m in messages]
    text = json.dumps([said, sorted(set(tools))], ensure_ascii=True)
    return "rc_" + hashlib.sha256(text.encode()).hexdigest()[:16]


def _case(name: str, found: Sequence[tuple[dict[str, Any], list[dict[str, str]]]]) -> Case:
    first, last = found[0][0], found[-1][0]
    reasons = list(last["reasons"])
    return Case(
        id=name,
        agent=last["agent"],
        messages=found[-1][1],
        tools=sorted(set(last["tools"])),
        failure={"reasons": reasons, "tool": last["tool"], "error": last["error"]},
        rubric=rubric(reasons, last["tool"]),
        cluster=last["cluster"] or "",
        first_seen=first["end"].isoformat(),
        last_seen=last["end"].isoformat(),
        provenance={
            "interactions": [row["interaction_id"] for row, _ in found][-20:],
            "environment": last["environment"],
            "versions": sorted({row["agent_version"] for row, _ in found}),
        },
        redaction=last["rules"],
    )


def rubric(reasons: Sequence[str], tool: str) -> str:
    """What an answer must or must not do, from the primary reason of the failure."""
    reason = reasons[0] if reasons else "it failed"
    return _RUBRICS.get(reason, _RUBRIC).format(tool=tool or "its tools", reason=reason)


# -- formats ---------------------------------------------------------------------------------------


def _metadata(case: Case) -> dict[str, Any]:
    return {"case": case.id, "agent": case.agent, "cluster": case.cluster, **case.failure}


def _question(case: Case) -> str:
    """All messages as one text, for formats that take one."""
    if len(case.messages) == 1:
        return case.messages[0]["content"]
    return "\n".join(f"{m['role']}: {m['content']}" for m in case.messages)


def _promptfoo(case: Case) -> dict[str, Any]:
    """One test, whose texts are no templates: promptfoo fills in secrets of its environment."""
    test = {
        "description": case.id,
        "vars": {"question": _question(case), "messages": json.dumps(case.messages)},
        "assert": [{"type": "llm-rubric", "value": case.rubric}],
        "metadata": _metadata(case),
    }
    inert: dict[str, Any] = json.loads(_TEMPLATE.sub(r"{\\u200b", json.dumps(test)))
    return inert


def _inspect(case: Case) -> dict[str, Any]:
    return {
        "id": case.id, "input": list(case.messages), "target": case.expected or case.rubric,
        "metadata": {**_metadata(case), "rubric": case.rubric},
    }  # fmt: skip


def _deepeval(case: Case) -> dict[str, Any]:
    golden: dict[str, Any] = {
        "input": _question(case),
        "context": [f"rubric: {case.rubric}"],
        "additional_metadata": _metadata(case),
    }
    return golden if case.expected is None else {**golden, "expected_output": case.expected}


def _langsmith(case: Case) -> dict[str, Any]:
    outputs = {} if case.expected is None else {"answer": case.expected}
    return {
        "inputs": {"messages": list(case.messages)}, "outputs": {**outputs, "rubric": case.rubric},
        "metadata": _metadata(case), "split": "base",
    }  # fmt: skip


def _openai(case: Case) -> dict[str, Any]:
    known = {"ideal": case.expected} if case.expected else {}
    return {"id": case.id, "input": list(case.messages), "criteria": case.rubric, **known}


_PYTEST: Final = '''"""Regression cases as tests: `agent`, `judge` go in conftest.py.

`agent(messages)` returns the answer; `judge(case, answer)` says whether it meets case["rubric"].
"""

import json
from pathlib import Path

import pytest

CASES = [
    json.loads(line)
    for line in Path(__file__).with_name("cases.jsonl").read_text("utf-8").splitlines()
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_case(case, agent, judge):
    answer = agent(case["messages"])
    assert judge(case, answer), case["rubric"]
'''

_REGISTRY: Final = """driftline-regressions:
  id: driftline-regressions.v1
  description: Failures of production, graded by their rubric.
  metrics: [accuracy]
driftline-regressions.v1:
  class: evals.elsuite.modelgraded.classify:ModelBasedClassify
  args:
    samples_jsonl: driftline-regressions/samples.jsonl
    modelgraded_spec: closedqa
"""

FORMATS: Final[Mapping[str, Callable[[Case], Mapping[str, Any]]]] = {
    "jsonl": asdict,
    "promptfoo": _promptfoo,
    "inspect": _inspect,
    "deepeval": _deepeval,
    "pytest": asdict,
    "langsmith": _langsmith,
    "openai-evals": _openai,
}
"""Formats by name: what becomes of a case, one JSON object a line."""

FILES: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "pytest": ("cases.jsonl", {"test_regressions.py": _PYTEST}),
    "openai-evals": (
        "data/driftline-regressions/samples.jsonl",
        {"evals/driftline-regressions.yaml": _REGISTRY},
    ),
}
"""Formats of several files: path of the one with the cases, and the others by path."""


def write(found: Iterable[Case], name: str, folder: Path) -> None:
    """Write the `FILES` of a format into a folder, which need not be there yet."""
    path, others = FILES[name]
    for at, content in {path: export(found, name), **others}.items():
        (folder / at).parent.mkdir(parents=True, exist_ok=True)
        (folder / at).write_text(content, "utf-8")


def known_format(name: str) -> None:
    """Refuse the name of a format that there is not.

    Raises
    ------
    UsageError
        There is no such format.
    """
    if name not in FORMATS:
        raise UsageError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")


def export(found: Iterable[Case], name: str) -> str:
    """Cases in a format, a line each.

    Raises
    ------
    UsageError
        There is no such format.
    """
    known_format(name)
    lines = (json.dumps(FORMATS[name](case), ensure_ascii=True) for case in found)
    return "".join(f"{line}\n" for line in lines)


# -- results ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """Whether a case passed."""

    case: str
    passed: bool
    version: str = ""


def read_results(data: bytes) -> list[Result]:
    """Results of JUnit XML, or of JSONL with ``id``, ``passed`` and ``version``.

    A case that was run several times has passed if it always did.

    Raises
    ------
    ValueError
        When it is neither, or holds no case.
    """
    each: dict[tuple[str, str], Result] = {}
    for result in _junit(data) if data.lstrip()[:1] == b"<" else _jsonl(data):
        known = each.setdefault((result.case, result.version), result)
        if known.passed:
            each[result.case, result.version] = result
    return list(each.values())


def _jsonl(data: bytes) -> list[Result]:
    found = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            version = str(row.get("version", ""))
            found.append(Result(str(row["id"]), _truth(row["passed"]), version))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"line {number} is not {{id, passed, version}}: {error!r}") from None
    if not found:
        raise ValueError("it holds no result")
    return found


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"passed is {value!r}, not true or false")
    return value


def _junit(data: bytes) -> list[Result]:
    """Results of test cases that have the id of a case in their name."""
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("XML with a document type is refused")
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 - no document type, hence no entities
    except ElementTree.ParseError as error:
        raise ValueError(f"it is not XML: {error}") from None
    found = []
    for test in root.iter("testcase"):
        named = _CASE_ID.search(f"{test.get('name', '')} {test.get('classname', '')}")
        if named is None or test.find("skipped") is not None:
            continue
        passed = test.find("failure") is None and test.find("error") is None
        found.append(Result(named[1], passed))
    if not found:
        raise ValueError("no test in it is named after a case (rc_...)")
    return found


@dataclass(slots=True)
class Standing:
    """Where a case stands: open, fixed or regressed, and since which result."""

    case: str
    status: str = "open"
    results: list[tuple[Any, bool, str]] = field(default_factory=list)


def standing(case: str, results: Iterable[tuple[Any, bool, str]], last_failure: Any) -> Standing:
    """Where a case stands by its results (moment, passed, version) and by later traffic. Pure.

    It is *fixed* when the latest result passed and no traffic failed so since, *regressed* when it
    failed after it had passed, in results or in traffic, and *open* until it has passed.
    """
    ordered = sorted(results, key=lambda r: r[0])
    found = Standing(case, results=ordered)
    passed = [at for at, ok, _ in ordered if ok]
    if not passed:
        return found
    failed_since = not ordered[-1][1] or (last_failure is not None and last_failure > passed[-1])
    found.status = "regressed" if failed_since else "fixed"
    return found
