"""Evaluators of the kinds ``rule`` and ``python``: no model, no budget, no call. Pure."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec

from ingest.core.errors import UsageError
from processors.evaluators.spec import Python, Rule
from processors.evaluators.views import Case


class Score(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an evaluator says of a target.

    Attributes
    ----------
    name
        Of the score: the evaluator's, with ``.question`` behind it where it asks several.
    value
        0 worst to 1 best.
    reason
        A code.
    label
        The word that was chosen.
    explanation
        Why, in the evaluator's words.
    """

    name: str
    value: float
    reason: str = ""
    label: str = ""
    explanation: str = ""
    attributes: Mapping[str, str] = {}


def compiled(rule: Rule) -> Callable[[Case], Score]:
    """The rule as a function of a target.

    Raises
    ------
    UsageError
        The JSON schema is none.

    Examples
    --------
    >>> judge = compiled(Rule(name="brief", limits={"steps": 3}))
    >>> judge(Case("i", {"steps": 4}, [])).reason
    'steps_over_3'
    """
    schema = None
    if rule.json_schema is not None:
        try:
            cls = jsonschema.validators.validator_for(rule.json_schema)
            cls.check_schema(rule.json_schema)
        except jsonschema.SchemaError as error:
            raise UsageError(f"evaluator {rule.name}: json_schema: {error.message}") from None
        schema = cls(rule.json_schema)
    matches = re.compile(rule.matches) if rule.matches else None
    forbids = re.compile(rule.forbids) if rule.forbids else None

    def judge(case: Case) -> Score:
        reason = _broken(rule, case, schema, matches, forbids)
        label = "fail" if reason else "pass"
        return Score(name=rule.name, value=float(not reason), reason=reason, label=label)

    return judge


def _broken(
    rule: Rule,
    case: Case,
    schema: Any,
    matches: re.Pattern[str] | None,
    forbids: re.Pattern[str] | None,
) -> str:
    """Code of the first condition that does not hold; '' when all do."""
    answer = case.answer
    if schema is not None:
        try:
            value = json.loads(answer)
        except ValueError:
            return "no_json"
        if not schema.is_valid(value):
            return "against_schema"
    if matches is not None and not matches.search(answer):
        return "no_match"
    if forbids is not None and forbids.search(answer):
        return "forbidden_text"
    called = case.tools
    for name in rule.tools.required:
        if name not in called:
            return f"without_{name}"
    for name in rule.tools.forbidden:
        if name in called:
            return f"called_{name}"
    for name, most in rule.tools.at_most.items():
        if called.count(name) > most:
            return f"{name}_over_{most}"
    for column, limit in rule.limits.items():
        known = case.result.get(column)
        if known is not None and known > limit:
            return f"{column}_over_{limit:g}"
    return ""


def loaded(spec: Python) -> Callable[[Case], Score | None]:
    """The function of an entry point; it returns a number, a bool, a mapping, or None to refuse.

    Raises
    ------
    UsageError
        There is no such function.
    """
    module, _, name = spec.entry.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"evaluator {spec.name}: {error}") from None

    def judge(case: Case) -> Score | None:
        found = function(case)
        if found is None:
            return None
        given = dict(found) if isinstance(found, Mapping) else {"value": found}
        given["value"] = float(given["value"])
        if not 0 <= given["value"] <= 1:
            raise ValueError("a score is a number from 0 to 1")
        return msgspec.convert({"name": spec.name, **given}, Score)

    return judge
