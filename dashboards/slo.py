"""Service level objectives: read from a file in OpenSLO's form, and what rules make of them.

A file holds one YAML document per objective; what driftline does not know in it is refused::

    apiVersion: openslo/v1
    kind: SLO
    metadata:
      name: support-success
      labels: {environment: production}
    spec:
      service: support        # the agent; left out: each agent
      timeWindow: [{duration: 30d, isRolling: true}]
      objectives: [{target: 0.95}]

The indicator is the share of interactions that succeeded, of those whose success is known.

References
----------
B. Beyer et al.: The Site Reliability Workbook, chapter 5 (windows and factors of burn rates).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dashboards.queries import Rows
from ingest.core.errors import UsageError

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

BURN_WINDOWS: Final[dict[str, tuple[tuple[int, int, float], ...]]] = {
    "page": ((3_600, 300, 0.02), (21_600, 1_800, 0.05)),
    "notice": ((86_400, 7_200, 0.10), (259_200, 21_600, 0.10)),
}
"""By severity: long window and short window in s, and the share of the budget that is used up."""

LEAST_N: Final = 50
"""Interactions that the long window must hold: fewer say little about a rate."""


@dataclass(frozen=True, slots=True)
class Slo:
    """Objective: of the interactions with known success, this share succeeds.

    Parameters
    ----------
    name
        Name of the objective.
    target
        Share that should succeed, in (0, 1).
    days
        Over how many days.
    agent, environment
        Whose; empty means each one for itself.
    """

    name: str
    target: float
    days: int = 30
    agent: str = ""
    environment: str = ""


DEFAULT: Final = (Slo("success", 0.95),)
"""Shown on the overview where no file says otherwise; no rule alerts on it."""


def read(path: Path) -> tuple[Slo, ...]:
    """Objectives of a file.

    Raises
    ------
    UsageError
        The file cannot be read, or holds something else than objectives of this kind.
    """
    import yaml  # type: ignore[import-untyped]

    try:
        documents = list(yaml.safe_load_all(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read objectives from {path}: {error}") from error
    found = tuple(_slo(document, path) for document in documents if document is not None)
    if not found:
        raise UsageError(f"{path} holds no objective")
    if len({slo.name for slo in found}) < len(found):
        raise UsageError(f"{path} names two objectives alike")
    return found


def _slo(document: Any, path: Path) -> Slo:
    try:
        return _parsed(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path}: not an objective that driftline knows ({error}); see `driftline slo --help`"
        ) from error


def _parsed(document: Any) -> Slo:
    if (document["apiVersion"], document["kind"]) != ("openslo/v1", "SLO"):
        raise ValueError("apiVersion must be openslo/v1 and kind SLO")
    metadata, spec = document["metadata"], document["spec"]
    unknown = spec.keys() - {
        "service",
        "timeWindow",
        "objectives",
        "description",
        "budgetingMethod",
    }
    if unknown:
        raise ValueError(f"spec has {', '.join(sorted(unknown))}")
    (objective,) = spec["objectives"]
    target = float(objective["target"])
    if not 0 < target < 1:
        raise ValueError("target must lie between 0 and 1")
    if not _NAME.fullmatch(metadata["name"]):
        raise ValueError("metadata.name must be of a-z, 0-9 and -")
    (window,) = spec.get("timeWindow", [{"duration": "30d"}])
    days = re.fullmatch(r"([1-9]\d?)d", window["duration"])
    if not days:
        raise ValueError("duration must be 1d to 99d")
    labels = metadata.get("labels", {})
    service, environment = spec.get("service", ""), labels.get("environment", "")
    return Slo(metadata["name"], target, int(days[1]), str(service), str(environment))


def attainment_rows(slos: Sequence[Slo]) -> Rows:
    """Rows for the statement ``report.attainment``."""
    return [(s.name, s.environment, s.agent, s.target, s.days) for s in slos]


def burn_rows(slos: Sequence[Slo], severity: str) -> Rows:
    """Rows for the statement ``rules.burn``: each objective in each pair of windows.

    Examples
    --------
    >>> [round(row[6], 1) for row in burn_rows([Slo("s", 0.99)], "page")]
    [14.4, 6.0]
    """
    return [
        (
            s.name,
            s.environment,
            s.agent,
            s.target,
            long,
            short,
            factor(s.days, long, share),
            LEAST_N,
        )
        for s in slos
        for long, short, share in BURN_WINDOWS[severity]
    ]


def factor(days: int, long_s: int, share: float) -> float:
    """Burn rate that uses up ``share`` of the budget of ``days`` within the long window."""
    return share * days * 86_400 / long_s
