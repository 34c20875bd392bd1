"""What every benchmark prints: one object, and the same as a table."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def result(
    metric: str,
    value: float | None,
    unit: str,
    *,
    peer: str | None = None,
    low: float | None = None,
    high: float | None = None,
    n: int | None = None,
) -> dict[str, Any]:
    """One figure; ``peer`` is None for driftline itself, ``low`` and ``high`` an interval."""
    return {
        "metric": metric, "value": value, "unit": unit, "peer": peer,
        "low": low, "high": high, "n": n,
    }  # fmt: skip


def report(
    bench: str, seed: int, packages: Iterable[str], results: list[dict[str, Any]]
) -> dict[str, Any]:
    """The object that a benchmark prints with ``--json``."""
    return {
        "bench": bench,
        "seed": seed,
        "machine": {
            "cpus": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {name: _version(name) for name in packages},
        "results": results,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
