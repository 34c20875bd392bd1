"""How a whole runtime is: its parts run, and each part that judges itself says that it is ready."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from infra.runtime_home import Component, State
from ingest.core.health import probes
from ingest.core.health.verdict import Reason, StationHealth, Verdict

_TIMEOUT_S: Final = 1.0
_OF_FULL_DISK: Final = ("loop_stuck", "stalled", "station_stalled")
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
    stations: list[StationHealth] = []
    for part in list(state.components):
        found, part_healthy, of_part = _of(part)
        reasons += found
        healthy &= part_healthy
        stations += of_part
    if any(reason.code == "disk_full" for reason in reasons):
        reasons = [reason for reason in reasons if reason.code not in _OF_FULL_DISK]
    return Verdict(not reasons, healthy, tuple(reasons), stations=tuple(_together(stations)))


def _together(stations: list[StationHealth]) -> Iterator[StationHealth]:
    """Stations of several workers: what each holds added up, the worst of how they stand."""
    for name in dict.fromkeys(one.station for one in stations):
        parts = [one for one in stations if one.station == name]
        yield StationHealth(
            name,
            max(one.lag_s for one in parts),
            max(one.stalled_s for one in parts),
            sum(one.buckets for one in parts),
            sum(one.streams for one in parts),
            next((one.error for one in parts if one.error), ""),
        )


def _of(part: Component) -> tuple[list[Reason], bool, list[StationHealth]]:
    if part.state not in ("running", "external"):
        text = f"{part.name} is {part.state}" + (f": {part.detail}" if part.detail else "")
        return [Reason("part_down", text, 0.0)], part.state != "stopped", []
    if part.health is None:
        return [], True, []
    answered = ask(part.health)
    if answered is None:
        return [Reason("part_silent", f"{part.name} does not answer {part.health}", 0.0)], True, []
    code, told = answered
    stations = [StationHealth(**one) for one in told.get("stations", ())]
    if code == 200:
        return [], True, stations
    reasons = told.get("reasons") or [{"code": "part_unready", "text": _text(told)}]
    return (
        [
            Reason(
                reason["code"],
                f"{part.name}: {reason['text']}",
                reason.get("for_s", 0.0),
                reason.get("topic"),
                reason.get("partition"),
                reason.get("lag"),
            )
            for reason in reasons
        ],
        told.get("status") != "unhealthy",
        stations,
    )


def _text(told: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in told.items()) or "not ready"


def told_by(address: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Why a part is not ready, in words, and how its stations stand; nothing when it is away."""
    _, told = (ask(address) if address else None) or (0, {})
    reasons = [str(reason["text"]) for reason in told.get("reasons", ())]
    return reasons, list(told.get("stations", ()))


def ask(address: str) -> tuple[int, dict[str, Any]] | None:
    """What a part answers to ``/readyz``, or None when it does not within a second."""
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=_TIMEOUT_S) as answer:  # noqa: S310
            return answer.status, _object(answer.read())
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
