"""``python -m tests.chaos``: run faults, print a table fault x result and one JSON object."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.chaos.check import MEMORY_MIB, check
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.harness import SHORT, Bed, Size, worker_command
from tests.support.kafka_cluster import Cluster, cluster, missing
from tests.support.processes import free_ports

LIMIT_S = 30 * 60
_FAULT_LIMIT_S = 600


@dataclass(frozen=True)
class Result:
    """What came of a fault."""

    fault: str
    problems: list[str]
    detail: str = ""
    events: int = 0
    looks: int = 0
    peak_mib: float = 0.0
    recovery_s: float = 0.0
    took_s: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.problems


class Interrupted(Exception):
    """A fault takes longer than any may."""


@dataclass
class Clusters:
    """Kafka clusters by their number of nodes, started when first needed."""

    folder: Path
    stack: ExitStack
    ports: int

    def __post_init__(self) -> None:
        self._made: dict[int, Cluster] = {}

    def get(self, nodes: int) -> Cluster:
        if nodes not in self._made:
            port = self.ports + (2 if nodes > 1 else 0)
            made = cluster(self.folder / f"kafka-{nodes}", port, nodes)
            self._made[nodes] = self.stack.enter_context(made)
        return self._made[nodes]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the faults that were asked for; 0 when all passed, 1 when not, 3 without Kafka."""
    given = _parser().parse_args(arguments)
    if given.list:
        for fault in FAULTS:
            print(f"{fault.name:<16} {fault.what}")
        return 0
    chosen = [fault for fault in FAULTS if not given.only or fault.name in given.only]
    unknown = set(given.only or ()) - {fault.name for fault in FAULTS}
    if unknown:
        print(f"no such fault: {', '.join(sorted(unknown))}; see --list", file=sys.stderr)
        return 2
    reason = missing()
    if reason:
        print(f"chaos needs Apache Kafka: {reason}", file=sys.stderr)
        return 3
    results = _run(chosen, given)
    _print_table(results, sys.stderr if given.json else sys.stdout)
    if given.json:
        print(json.dumps(_report(results, given.seed)))
    return 0 if all(result.passed for result in results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of traffic and moments [default: 1]")
    parser.add_argument(
        "--only", action="append", metavar="FAULT", help="this one; may be repeated"
    )
    parser.add_argument("--list", action="store_true", help="name the faults")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--short", action="store_true", help="a tenth of the load and of the kills")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep logs and data here")
    parser.add_argument(
        "--worker", metavar="COMMAND", help="how to start a worker [default: driftline worker]"
    )
    return parser


def _run(chosen: list[Fault], given: argparse.Namespace) -> list[Result]:
    deadline = time.monotonic() + LIMIT_S
    results = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGALRM, _interrupt)
    with _folder(given.keep) as folder, ExitStack() as stack:
        ports = free_ports(10)
        clusters = Clusters(folder, stack, ports)
        for fault in chosen:
            left = deadline - time.monotonic()
            _say(f"{fault.name}: {fault.what} ...")
            if left < 30:
                result = Result(fault.name, [f"not run: {LIMIT_S // 60} minutes are over"])
            else:
                signal.alarm(int(min(left, _FAULT_LIMIT_S)))
                try:
                    result = _run_fault(fault, clusters, folder, given)
                finally:
                    signal.alarm(0)
            results.append(result)
            _say(f"{fault.name}: {_verdict(result)} in {result.took_s:.0f} s")
            for problem in result.problems:
                _say(f"    {problem}")
    return results


def _run_fault(fault: Fault, clusters: Clusters, folder: Path, given: argparse.Namespace) -> Result:
    began = time.monotonic()
    size = SHORT if given.short else Size()
    place = folder / fault.name
    place.mkdir(parents=True)
    try:
        bed = Bed(
            cluster=clusters.get(fault.nodes),
            folder=place,
            ports=clusters.ports + 8,
            # Of the name too, so that a fault is the same alone and among others.
            seed=random.Random(f"{given.seed}:{fault.name}").randrange(10**6),
            size=size,
            worker_command=worker_command(given.worker),
            shape=replace(fault.shape, agents=min(fault.shape.agents, size.agents)),
            disk_mib=fault.disk_mib,
            through_proxy=fault.through_proxy,
        )
        impossible = fault.impossible(bed)
        if impossible:
            return Result(fault.name, [f"cannot be had here: {impossible}"])
        try:
            return replace(_hurt(fault, bed), took_s=time.monotonic() - began)
        finally:
            bed.close()
            if not given.keep:
                shutil.rmtree(place, ignore_errors=True)
    except Exception as error:  # a fault that cannot be done has failed; the others go on
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        if not isinstance(error, (AssertionError, TimeoutError, RuntimeError, Interrupted)):
            traceback.print_exc()
        return Result(fault.name, [text], took_s=time.monotonic() - began)


def _hurt(fault: Fault, bed: Bed) -> Result:
    bed.open()
    detail = fault.do(bed)
    recovery = bed.settle()
    true, problems = check(bed)
    if not bed.watch.looks:
        problems.append("watch: neither Kafka nor the store ever answered")
    return Result(
        fault.name, problems, detail, true.accepted, bed.watch.looks, bed.watch.peak_mib, recovery
    )


def _interrupt(*_: object) -> None:
    raise Interrupted(f"took longer than {_FAULT_LIMIT_S} s, or the 30 minutes are over")


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="driftline-chaos-", ignore_cleanup_errors=True) as made:
        yield Path(made)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _verdict(result: Result) -> str:
    return "exact" if result.passed else "FAILED"


def _print_table(results: list[Result], file: Any) -> None:
    row = "{:<16} {:<7} {:>9} {:>10} {:>9} {:>6}  {}"
    print(row.format("fault", "result", "events", "back in s", "peak MiB", "s", ""), file=file)
    for r in results:
        print(
            row.format(
                r.fault, _verdict(r), r.events, f"{r.recovery_s:.1f}", f"{r.peak_mib:.0f}",
                f"{r.took_s:.0f}", r.detail if r.passed else r.problems[0],
            ),
            file=file,
        )  # fmt: skip
    passed, took = sum(r.passed for r in results), sum(r.took_s for r in results)
    print(f"{passed} of {len(results)} faults exact, {took:.0f} s", file=file)


def _report(results: list[Result], seed: int) -> dict[str, Any]:
    found = []
    for r in results:
        for metric, value, unit in (
            ("exact", float(r.passed), "bool"),
            ("recovery", round(r.recovery_s, 1), "s"),
            ("worker_memory_peak", round(r.peak_mib, 1), "MiB"),
            ("took", round(r.took_s, 1), "s"),
        ):
            high = MEMORY_MIB if metric == "worker_memory_peak" else None
            found.append(
                {"metric": f"{r.fault}.{metric}", "value": value, "unit": unit, "peer": None,
                 "low": None, "high": high, "n": r.events}
            )  # fmt: skip
    return {
        "bench": "chaos",
        "seed": seed,
        "machine": _machine(),
        "versions": _versions(),
        "results": found,
    }


def _machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in ("driftline", "aiokafka", "kafka-python", "faust-streaming", "chdb", "polars"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


if __name__ == "__main__":
    sys.exit(main())
