"""A database of an earlier version, with data and under load, ends exact; there is no way back."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import polars as pl
import pytest

from dashboards.accounting import account
from infra.schema.migrate import dry_run, migrate, shipped
from ingest.core.errors import UsageError
from ingest.core.events import Event
from processors import audit
from processors.derive import dirty_marks, result_audit
from processors.write import rows
from tests.conftest import ClickHouse
from tests.integration.pipeline_harness import Pipeline, check, collided
from tests.integration.pipeline_reference import Truth, traffic

EARLIER = ("0007_refused_names", "0011_notify")
"""Last migration of versions that are in use: before results were stored, and 0.1.0."""


@pytest.fixture
def earlier(
    request: pytest.FixtureRequest, _clickhouse_port: int
) -> Iterator[tuple[ClickHouse, dict[str, list[str]]]]:
    """A database as that version made it, and its columns."""
    made = ClickHouse(_clickhouse_port, f"test_{uuid.uuid4().hex[:12]}")
    known = [m for m in shipped() if m.name <= request.param]
    with ClickHouse(_clickhouse_port, "default").client() as client:
        assert migrate(client, made.database, known) == [m.name for m in known]
        found = client.query(
            "SELECT table, groupArray(name) FROM system.columns"
            " WHERE database = {db:String} GROUP BY table",
            parameters={"db": made.database},
        )
        yield made, dict(found.result_rows)
        client.command(f"DROP DATABASE {made.database} SYNC")


class OldWorker(Pipeline):
    """Stores what a worker of the earlier version stores, into the columns that it knows."""

    columns: dict[str, list[str]]

    def write(self, stored: pl.DataFrame) -> None:
        """Store rows of ``events`` and what goes with them."""
        for table, frame in (("events", stored), ("evaluations", rows.evaluation_rows(stored))):
            known = [c for c in frame.columns if c in self.columns[table]]
            self.store.insert(table, frame.select(known))
        self.names.admit(stored)
        self.dirty.append(dirty_marks.dirty_cells(stored))


def deliver(worker: Pipeline, events: list[Event]) -> None:
    for at in range(0, len(events), 50):
        worker.deliver(events[at : at + 50])


@pytest.mark.parametrize("earlier", EARLIER, indirect=True)
def test_upgrade_under_load_with_workers_of_both_versions(
    earlier: tuple[ClickHouse, dict[str, list[str]]],
) -> None:
    clickhouse, columns = earlier
    events = collided(traffic(13, count=500))
    third = len(events) // 3
    old, new = OldWorker(clickhouse), Pipeline(clickhouse)
    old.columns = columns
    deliver(old, events[:third])

    with clickhouse.client() as client:
        steps = dry_run(client, clickhouse.database)
        reads = [step.cost for step in steps if step.cost.startswith("reads")]
        assert bool(reads) == ("interaction_results" not in columns)
        assert {step.migration for step in steps} >= {"0043_erasures", "view interactions"}
        stored = client.query("SELECT sum(cityHash64(event_id, payload_hash)) FROM events")
        migrate(client, clickhouse.database)
        assert dry_run(client, clickhouse.database) == []
        same = client.query("SELECT sum(cityHash64(event_id, payload_hash)) FROM events")
        assert same.result_rows == stored.result_rows

    # For a while both work, on partitions that move between them.
    new.offset = old.offset
    deliver(new, events[third : 2 * third])
    old.offset = new.offset
    deliver(old, events[2 * third :])
    new.offset = old.offset
    new.dirty += old.dirty[third // 50 + 1 :]
    new.recompute()
    audit.find_collisions(new.results)
    # What the old version never computed, the audit of the new one does.
    assert audit.reconcile(new.results) > 0
    result_audit.repair(new.results)
    check(new, Truth(events))
    assert account(new.store)["balanced"]
    assert audit.reconcile(new.results) == 0


def test_an_older_version_refuses_a_newer_schema(clickhouse: ClickHouse) -> None:
    older = [m for m in shipped() if m.name <= "0011_notify"]
    with clickhouse.client() as client, pytest.raises(UsageError, match="no way back"):
        migrate(client, clickhouse.database, older)
