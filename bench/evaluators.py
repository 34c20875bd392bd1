"""Evaluators: what a pipeline loses to judges beside it whose model endpoint means harm.

The same backlog and the same live traffic, with an evaluating process and without, in turns. Its
endpoint is a fake that hangs, drips, limits, refuses and answers nonsense in turn; it runs in the
process that measures, as the sender does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Final

import numpy as np

from bench import freshness
from bench.load import Load
from bench.report import report, result
from bench.throughput import PACKAGES, SEED, Bed, cpu_seconds, driftline, nothing
from infra.embedded.process import stop
from ingest.core.errors import Unavailable
from processors.clickhouse import Store
from tests.support import judges

_HARMS: Final = (
    "good", "slow", "limited", "malformed", "truncated", "refusal", "steering", "other_model",
    "drip", "error", "contradiction", "two", "hung", "bad",
)  # fmt: skip
_FILE: Final = """
evaluators:
- name: helped
  kind: chat
  endpoint: {url}
  model: judge-1
  rubric: Did the agent help?
  rate: {rate}
  timeout_s: 2
  attempts: 2
  concurrency: 4
  price: {{input: 1.0, output: 4.0}}
  budget: {{calls_per_minute: 60, usd_per_day: 5, when_spent: skip}}
"""
_RATE: Final = 0.02
_STATES: Final = "SELECT state, count() AS n FROM decisions GROUP BY state"


def run(
    quick: bool, seed: int = SEED, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure throughput and freshness with and without an evaluator, in turns.

    Parameters
    ----------
    quick
        One turn of each instead of three, and live traffic of 30 s instead of 60.
    seed
        Of the load.
    say
        Told what is being measured.

    Raises
    ------
    Unavailable
        When the evaluator judged nothing: what was measured would say nothing.
    """
    # Event time at about the rate reached, or all of it would lie in one cell.
    load = Load(events=1_000_000, rate=25_000.0, seed=seed)
    seconds = 30.0 if quick else 60.0
    rates: dict[bool, list[float]] = {False: [], True: []}
    ages: dict[bool, list[float]] = {False: [], True: []}
    judging = _Judging()
    for turn in range(1 if quick else 3):
        # Whoever is first in one turn is second in the next.
        for judged in (False, True) if turn % 2 == 0 else (True, False):
            beside = judging.beside if judged else nothing
            name = "with" if judged else "without"
            say(f"turn {turn + 1}: a backlog {name} an evaluator ...")
            found = {r["metric"]: r["value"] for r in driftline(load, beside=beside)}
            rates[judged].append(found["throughput"])
            say(f"turn {turn + 1}: {freshness.RATE:,} events/s {name} an evaluator ...")
            live = {
                r["metric"]: r["value"] for r in freshness.measure(seconds, seed + turn, beside)
            }
            ages[judged].append(live["freshness_p50"])
            say(f"  {found['throughput']:,.0f} events/s; {live['freshness_p50']:.2f} s behind")
    if not judging.states["done"]:
        raise Unavailable(f"the evaluator judged nothing: {dict(judging.states)}")
    return report(
        "evaluators", seed, PACKAGES,
        [
            *(
                result(f"{metric}_{'with' if judged else 'without'}", float(np.median(values)),
                       unit, n=len(values))
                for metric, unit, both in
                (("throughput", "events/s", rates), ("freshness_p50", "s", ages))
                for judged, values in both.items()
            ),
            result("throughput_ratio", _ratio(rates), "x"),
            result("freshness_ratio", _ratio(ages), "x"),
            result("calls", judging.calls, "calls"),
            result("evaluator_cpu", judging.spent, "CPU-s"),
            *(result(f"decisions_{state}", n, "targets")
              for state, n in sorted(judging.states.items())),
        ],
    )  # fmt: skip


def _ratio(both: dict[bool, list[float]]) -> float:
    return float(np.median(both[True]) / np.median(both[False]))


class _Judging:
    """An evaluating process beside a bed, and what it did in all of them."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.calls = 0
        self.spent = 0.0

    @contextmanager
    def beside(self, bed: Bed) -> Iterator[None]:
        turns = count()

        def named(_: str) -> tuple[str, str]:
            number = next(turns)
            return str(number), _HARMS[number % len(_HARMS)]

        with judges.endpoint(named=named) as endpoint:
            file = bed.folder / "evaluators.yaml"
            file.write_text(_FILE.format(url=endpoint.url, rate=_RATE))
            settings = {"DRIFTLINE_EVALUATORS_FILE": str(file), "DRIFTLINE_KAFKA_PARTITIONS": "1"}
            process = bed.start("evaluator", settings)
            bed.processes.remove(process)
            try:
                freshness.wait_for(lambda: "Worker ready" in _log(bed), "the evaluator")
                yield
                self.spent += cpu_seconds([process])
            finally:
                stop(process)
            states = Store(bed.clickhouse).query(_STATES)
            self.states.update(dict(states.iter_rows()))
            self.calls += endpoint.asked.total()


def _log(bed: Bed) -> str:
    return (bed.folder / "evaluator.log").read_text(errors="replace")
