"""How a whole runtime is: its parts run, and each part that judges itself says that it is ready."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from functools import partial
from typing import Any, Final

from infra.runtime_home import Component, State
from ingest.core.health import probes
from ingest.core.health.verdict import Reason, Verdict

_TIMEOUT_S: Final = 1.0
_OF_FULL_DISK: Final = ("loop_stuck", "stalled")
"""What workers report while the engine refuses their inserts because the disk is full."""


def serve(port: int, state: State) -> None:
    """Answer probes for the runtime whose state this is, for as long as the process lives.

    Raises
    ------
    UsageError
        The port is in use.
    """
    probes.serve(port, "up", partial(verdict, state))


def verdict(state: State) -> Verdict:
    """Ask every part. The runtime is unhealthy when a part is down for good or says it is."""
    reasons = [] if state.ready else [Reason("starting", "not everything has come up yet", 0.0)]
    healthy = True
    for part in list(state.components):
        found, part_healthy = _of(part)
        reasons += found
        healthy &= part_healthy
    if any(reason.code == "disk_full" for reason in reasons):
        reasons = [reason for reason in reasons if reason.code not in _OF_FULL_DISK]
    return Verdict(not reasons, healthy, tuple(reasons))


def _of(part: Component) -> tuple[list[Reason], bool]:
    if part.state not in ("running", "external"):
        text = f"{part.name} is {part.state}" + (f": {part.detail}" if part.detail else "")
        return [Reason("part_down", text, 0.0)], part.state != "stopped"
    if part.health is None:
        return [], True
    answered = ask(part.health)
    if answered is None:
        return [Reason("part_silent", f"{part.name} does not answer {part.health}", 0.0)], True
    code, told = answered
    if code == 200:
        return [], True
    reasons = told.get("reasons") or [{"code": "part_unready", "text": _text(told)}]
    return [
        Reason(
            reason["code"],
            f"{part.name}: {reason['text']}",
            reason.get("for_s", 0.0),
            reason.get("topic"),
            reason.get("partition"),
            reason.get("lag"),
        )
        for reason in reasons
    ], told.get("status") != "unhealthy"


def _text(told: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in told.items()) or "not ready"


def reasons_of(address: str) -> list[str]:
    """What a part gives as reasons not to be ready, in words; none when it is ready or away."""
    _, told = ask(address) or (0, {})
    return [str(reason["text"]) for reason in told.get("reasons", ())]


def ask(address: str) -> tuple[int, dict[str, Any]] | None:
    """What a part answers to ``/readyz``, or None when it does not within a second."""
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=_TIMEOUT_S) as answer:  # noqa: S310
            return answer.status, {}
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, _object(refusal.read())
    except OSError:
        return None


def _object(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
