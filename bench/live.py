"""Live: what steady traffic costs beside a backlog, how far behind windows are, the cost of rest.

CPU is that of all processes. A backlog is stored first and computed once; of live traffic every
cell is computed while it fills. How far behind the windows are is asked once a second: they hold k
events, and the event after these was sent so long ago.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.freshness import produce
from bench.load import Load, records
from bench.report import report, result
from bench.throughput import PACKAGES, SEED, bed, cpu_seconds, driftline, memory_mb
from infra.embedded.process import port_is_free, stop
from infra.runtime_home import RuntimeHome, State
from ingest.core.errors import Unavailable
from processors.clickhouse import Store

RATE: Final = 5_000
_PORTS: Final = 30  # of a runtime with one worker
_SETTLE_S: Final = 15.0  # what is sent before is not judged: the worker warms up
_QUIET_S: Final = 75.0  # after which fetches wait as long as they ever do
_PATIENCE_S: Final = 120.0
_PARTS: Final = ("broker", "engine", "worker")


def run(
    quick: bool, seed: int = SEED, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure an idle runtime, a backlog, and 5,000 events per second.

    Parameters
    ----------
    quick
        Live traffic of 30 s instead of 20 minutes, idle for 30 s instead of 60.
    seed
        Of the load.
    say
        Told what is being measured.
    """
    say(f"an idle runtime, from {_QUIET_S:.0f} s after its start on ...")
    idle = _idle(30.0 if quick else 60.0)
    before = _backlog(seed, say)
    seconds = 30.0 if quick else 1_200.0
    say(f"sending {RATE:,} events/s for {_SETTLE_S + seconds:.0f} s ...")
    live = _live(seconds, seed)
    backlog = (before + _backlog(seed, say)) / 2
    return report(
        "live",
        seed,
        PACKAGES,
        [
            result("idle_cores", idle, "cores"),
            result("backlog_cpu_seconds_per_million", backlog, "CPU-s", n=2),
            *live,
            result("cpu_ratio_to_backlog", live[0]["value"] / backlog, "x"),
        ],
    )


def _backlog(seed: int, say: Callable[[str], None]) -> float:
    """CPU-s per million events. Before and after live traffic, for machines change their speed."""
    say("a backlog ...")
    found = driftline(Load(events=1_000_000, seed=seed))
    return float(next(r["value"] for r in found if r["metric"] == "cpu_seconds_per_million"))


def _live(seconds: float, seed: int) -> list[dict[str, Any]]:
    end = _SETTLE_S + seconds
    with bed() as found:
        store = Store(found.clickhouse)
        found.start()
        wait(lambda: store.query("SELECT count() AS n FROM watermarks FINAL")["n"][0] >= 4)
        begun = time.time() + end * RATE / 200_000  # about as long as it takes to make them
        load = Load(
            events=int(end * RATE), rate=RATE, agents=28, lines_per_record=100, seed=seed,
            end_ns=int((begun + end) * 1e9),
        )  # fmt: skip
        values = list(records(load))
        begun = max(begun, time.time())
        producer = threading.Thread(target=produce, args=(found.kafka, values, begun, load))
        producer.start()
        time.sleep(max(0.0, begun + _SETTLE_S - time.time()))
        before, since = [cpu_seconds([p]) for p in found.processes], time.time()
        memory: list[list[int]] = []
        behind: list[float] = []
        while producer.is_alive():
            time.sleep(1.0)
            asked = time.time()
            behind.append(asked - begun - _computed(store) / RATE)
            memory.append([memory_mb(p.pid) for p in found.processes])
        took = time.time() - since
        cores = [
            (cpu_seconds([p]) - start) / took
            for p, start in zip(found.processes, before, strict=True)
        ]
    n = int(took * RATE)
    return [
        result("live_cpu_seconds_per_million", sum(cores) / RATE * 1e6, "CPU-s", n=n),
        result("live_cores", sum(cores), "cores"),
        *(result(f"{part}_cores", used, "cores") for part, used in zip(_PARTS, cores, strict=True)),
        *(
            result(f"windows_behind_{name}", float(np.quantile(behind, q)), "s", n=len(behind))
            for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
        ),
        *_memory(np.array(memory, dtype=np.float64), took),
    ]


def _memory(sampled: npt.NDArray[np.float64], took: float) -> list[dict[str, Any]]:
    """Per part the median of the last quarter, MiB, and what it is above the second quarter.

    In the first quarter caches fill; shape of ``sampled`` (n_samples, 3).
    """
    second, last = (quarter for n, quarter in enumerate(np.array_split(sampled, 4)) if n in (1, 3))
    return [
        made
        for part, before, after in zip(
            _PARTS,
            np.median(second, axis=0),
            np.median(last, axis=0),
            strict=True,
        )
        for made in (
            result(f"{part}_memory", float(after), "MiB", n=len(last)),
            result(f"{part}_memory_grown", float(after - before), "MiB", n=int(took)),
        )
    ]


def _computed(store: Store) -> int:
    found = store.query(
        "SELECT sum(events) AS n FROM windows FINAL WHERE width_s = 10 AND scope = 'all'"
    )
    return int(found["n"][0] or 0)


def _idle(seconds: float) -> float:
    """Processors that all processes of a runtime take which has nothing to do."""
    with runtime() as (home, _):
        time.sleep(_QUIET_S)
        state = home.running()
        if state is None:
            raise Unavailable("the runtime has ended")
        pids = pids_of(state)
        spent, begun = cpu_seconds(pids), time.monotonic()
        time.sleep(seconds)
        return (cpu_seconds(pids) - spent) / (time.monotonic() - begun)


@contextmanager
def runtime() -> Iterator[tuple[RuntimeHome, State]]:
    """``driftline up`` in a folder of its own, once it is ready."""
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
        home = RuntimeHome(Path(folder) / "home")
        command = [sys.executable, "-m", "infra.cli", "up", "--home", str(home.path)]
        process = subprocess.Popen(
            [*command, "--port-base", str(free_base())], stdout=subprocess.DEVNULL
        )
        try:
            wait(lambda: (state := home.running()) is not None and state.ready)
            yield home, home.running() or State(process.pid)
        finally:
            stop(process)


def pids_of(state: State) -> list[int]:
    """All processes of a runtime."""
    return [state.pid, *(part.pid for part in state.components if part.pid)]


def free_base() -> int:
    """First of so many ports in a row that nobody uses."""
    for base in range(21_000, 60_000, _PORTS):
        if all(port_is_free(base + port) for port in range(_PORTS)):
            return base
    raise Unavailable("no ports are free")


def wait(ready: Callable[[], bool], within_s: float = _PATIENCE_S) -> None:
    """Return once something is so.

    Raises
    ------
    Unavailable
        It is not within the time.
    """
    patience = time.monotonic() + within_s
    while not ready():
        if time.monotonic() > patience:
            raise Unavailable(f"not ready within {within_s:.0f} s")
        time.sleep(0.2)
