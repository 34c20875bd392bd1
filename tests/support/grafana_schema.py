"""Hold JSON against the published models of Grafana's schema (grafana-foundation-sdk)."""

from __future__ import annotations

import copy
import enum
import functools
import json
import types
import typing
import warnings
from typing import Any

with warnings.catch_warnings():
    # It would prefer the V2 schema, which Grafana 11 and 12 do not load.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.alerting import RuleGroup
    from grafana_foundation_sdk.models.dashboard import Dashboard

register_default_plugins()


def dashboard_faults(body: dict[str, Any]) -> list[str]:
    """What in a dashboard is not in Grafana's schema, or has another type there."""
    lists = {**body, "annotations": {"list": []}}
    for annotation in body["annotations"]["list"]:
        # The schema knows the targets of Grafana's built-in source only.
        lists["annotations"]["list"].append({k: v for k, v in annotation.items() if k != "target"})
    return faults(Dashboard, lists)


def rule_group_faults(body: dict[str, Any]) -> list[str]:
    """What in a rule group is not in Grafana's schema, or has another type there."""
    plain = copy.deepcopy(body)
    for rule in plain["rules"]:
        for query in rule["data"]:
            for condition in query["model"].get("conditions", []):
                # Grafana's rule editor writes these; the schema of expressions lacks them.
                for name in ("type", "operator", "query", "reducer", "unloadEvaluator"):
                    condition.pop(name, None)
    return faults(RuleGroup, plain)


def faults(model: Any, body: dict[str, Any]) -> list[str]:
    """Fields of ``body`` that the model drops, changes, or types otherwise."""
    try:
        parsed = model.from_json(body)
    except (KeyError, TypeError, AttributeError) as error:
        return [f": cannot be read, {type(error).__name__} {error}"]
    written = json.loads(json.dumps(parsed, cls=JSONEncoder))
    return [*_lost(body, written, ""), *_mistyped(parsed, model, "")]


@functools.cache
def _hints(model: type) -> dict[str, Any]:
    return typing.get_type_hints(model)


def _lost(body: Any, written: Any, path: str) -> list[str]:
    if isinstance(body, dict) and isinstance(written, dict):
        found = []
        for key, value in body.items():
            # A model leaves out what is null, except inside of free objects.
            if key not in written and value is not None:
                found.append(f"{path}.{key}: unknown field")
            elif key in written:
                found += _lost(value, written[key], f"{path}.{key}")
        return found
    if isinstance(body, list) and isinstance(written, list) and len(body) == len(written):
        return [
            fault
            for number, (one, other) in enumerate(zip(body, written, strict=True))
            for fault in _lost(one, other, f"{path}[{number}]")
        ]
    return [] if body == written else [f"{path}: {body!r} became {written!r}"]


def _mistyped(value: Any, hint: Any, path: str) -> list[str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        tried = [_mistyped(value, one, path) for one in arguments]
        return min(tried, key=len)
    if origin is typing.Literal:
        return [] if value in arguments else [f"{path}: {value!r} is none of {arguments}"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{path}: {value!r} is not a list"]
        return [
            fault
            for number, one in enumerate(value)
            for fault in _mistyped(one, arguments[0], f"{path}[{number}]")
        ]
    if origin is dict:
        if not isinstance(value, dict):
            return [f"{path}: {value!r} is not an object"]
        return [f for k, v in value.items() for f in _mistyped(v, arguments[1], f"{path}.{k}")]
    if hasattr(value, "to_json") and (hint in (Any, object) or isinstance(value, hint)):
        return [
            fault
            for name, kind in _hints(type(value)).items()
            for fault in _mistyped(getattr(value, name), kind, f"{path}.{name}")
        ]
    if hint in (Any, object) or not isinstance(hint, type):
        return []
    if issubclass(hint, enum.Enum):
        allowed = [member.value for member in hint]
        return [] if value in allowed else [f"{path}: {value!r} is none of {allowed}"]
    if hasattr(hint, "from_json"):
        if isinstance(value, dict):  # a part that the model keeps as it came
            return [f"{path}{fault}" for fault in faults(hint, value)]
        return [f"{path}: {value!r} is not a {hint.__name__}"]
    if hint is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    elif hint is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    else:
        fits = isinstance(value, hint)
    return [] if fits else [f"{path}: {value!r} is not {hint.__name__}"]
