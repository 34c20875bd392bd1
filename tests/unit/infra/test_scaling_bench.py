"""The scaling bench says what it measured while it measures: a whole run takes a quarter hour."""

import pytest

from bench import scaling
from bench.report import result


@pytest.mark.parametrize(("quick", "runs"), [(True, 10), (False, 19)])
def test_every_value_is_said_before_the_next_is_measured(monkeypatch, quick, runs):
    said, measured = [], []

    def driftline(load):
        for earlier in measured:
            assert sum(f": {earlier:,.2f} CPU-s" in line for line in said) == 1
        measured.append(1_000.0 + len(measured))
        assert said[-1].startswith(f"{len(measured)} of {runs}, ")
        assert f"{load.events:,} events" in said[-1]
        return [
            result("throughput", 7.0, "events/s"),
            result("cpu_seconds_per_million", measured[-1], "CPU-s"),
            result("worker_memory_peak", 9.0, "MiB"),
        ]

    monkeypatch.setattr(scaling, "driftline", driftline)
    told = scaling.run(quick, say=said.append)
    assert len(measured) == runs
    assert f"{measured[-1]:,.2f} CPU-s" in said[-2]
    assert len(told["results"]) == 4 * 10
