"""The sizing rule: its sums are what it says, and more load never needs less."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from infra import keeping, sizing
from infra.cli import app
from processors.keeping import expired

TEN_THOUSAND = sizing.Load(10_000, peak=1, bytes_per_event=300)


def values(load: sizing.Load) -> dict[str, float]:
    return {line.quantity: line.value for line in sizing.plan(load)}


def test_a_plan_by_hand() -> None:
    found = values(sizing.Load(20_000, peak=3, bytes_per_event=1_000, replicas=2))
    # 60,000 events/s at 41.5 CPU-s per million are 2.49 cores, at half use 4.98.
    assert found["workers"] == 5
    assert found["partitions"] == 10
    # 60,000 at 44.4 are 2.66, at half use 5.33, and 1.2 and 1.
    assert found["ClickHouse cores"] == 8
    # 60,000 / 20,000 / 0.5
    assert found["gateways"] == 6
    # 1.728e9 a day: 7 of them at 1,000 B, two copies; 30 at a quarter.
    assert found["Kafka disk"] == pytest.approx(24_192)
    assert found["events on disk"] == pytest.approx(25_920)
    assert found["results on disk"] == pytest.approx(1.728e9 * 400 * 31 * 2 / 1e9)


def test_the_measured_cost_is_met_at_both_sizes_that_were_measured() -> None:
    worker, _ = sizing._cpu(TEN_THOUSAND, "worker")
    engine, _ = sizing._cpu(TEN_THOUSAND, "clickhouse")
    assert worker + engine == pytest.approx(55.45, abs=0.2)
    large = sizing.Load(1, bytes_per_event=2_000)
    together = sizing._cpu(large, "worker")[0] + sizing._cpu(large, "clickhouse")[0]
    assert together == pytest.approx(129.4, abs=0.6)


@given(
    st.floats(1, 1e6), st.floats(1, 20), st.floats(100, 20_000), st.floats(1, 400),
    st.sampled_from(["events_per_second", "peak", "bytes_per_event", "retention_days"]),
)  # fmt: skip
def test_more_never_needs_less(
    rate: float, peak: float, size: float, days: float, grown: str
) -> None:
    import dataclasses

    load = sizing.Load(rate, peak, size, days)
    more = dataclasses.replace(load, **{grown: getattr(load, grown) * 2})
    before, after = values(load), values(more)
    del before["lagThreshold"], after["lagThreshold"]  # what a worker does, not what is needed
    assert all(after[name] >= value for name, value in before.items())


def test_every_sum_names_its_figures() -> None:
    assert all(figure.measured and figure.unit for figure in sizing.MEASURED.values())
    for line in sizing.plan(TEN_THOUSAND):
        assert re.search(r"\d", line.sum), line


def test_the_command_shows_sums_and_sources() -> None:
    done = CliRunner().invoke(app, ["plan", "--events-per-second", "5000", "--json"])
    told: dict[str, Any] = json.loads(done.stdout)
    assert {line["quantity"] for line in told["plan"]} >= {"workers", "partitions", "Kafka disk"}
    assert told["measured"]["worker_cpu"]["measured"]
    shown = CliRunner().invoke(app, ["plan", "--events-per-second", "5000"])
    assert "5,000 events/s x 3" in re.sub(r"\s+", " ", shown.stdout)


def test_the_chart_scales_as_the_plan_says() -> None:
    chart = Path(__file__).parents[3] / "infra/deploy/chart/driftline/values.yaml"
    defaults = chart.read_text()
    rate = float(re.search(r"eventsPerSecond: (\d+)", defaults).group(1))  # type: ignore[union-attr]
    # As helm renders it, which `make test-deploy` holds against the chart.
    golden = (Path(__file__).parents[3] / "tests/deploy/golden/everything.yaml").read_text()
    per_record = float(re.search(r"eventsPerRecord: (\d+)", defaults).group(1))  # type: ignore[union-attr]
    drain = float(re.search(r"drainSeconds: (\d+)", defaults).group(1))  # type: ignore[union-attr]
    rendered = set(map(int, re.findall(r"lagThreshold: '(\d+)'", golden)))
    assert rendered == {sizing.lag_threshold(rate, drain, per_record)}
    # One worker of 1 KB events, a core well used.
    worker, _ = sizing._cpu(sizing.Load(1), "worker")
    assert rate <= 1e6 / worker


def test_growth_and_days_left() -> None:
    days = [(f"202603{day:02d}", 10, 1_000_000) for day in range(1, 9)]
    today = date(2026, 3, 9)
    events = keeping.table_of("events", days, today)
    assert events.bytes_per_day == pytest.approx(1_000_000)
    assert events.oldest == date(2026, 3, 1)
    ledger = keeping.table_of("ledger", [("tuple()", 5, 100)], today)
    assert ledger.bytes_per_day is None
    assert ledger.oldest is None
    full = keeping.Storage((events, ledger), free_bytes=3_000_000, total_bytes=100_000_000)
    assert full.days_left == pytest.approx(3)
    assert len(full.warnings) == 2
    assert keeping.Storage((ledger,), 50, 100).days_left is None
    assert keeping.Storage((events,), 10**9, 2 * 10**9).warnings == []


@given(st.integers(1, 400), st.integers(0, 800))
def test_a_partition_expires_only_as_a_whole(keep: int, age: int) -> None:
    from datetime import timedelta

    today = date(2026, 11, 28)
    day = today - timedelta(days=age)
    assert bool(expired([f"{day:%Y%m%d}"], keep, today)) == (age > keep)
    if expired([f"{day:%Y%m}"], keep, today):
        assert age > keep  # whatever of it is kept keeps the month
