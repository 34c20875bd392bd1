"""A backup restored elsewhere is the same, and what must not be restored is refused."""

from __future__ import annotations

import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from dashboards.accounting import account
from infra import saving, wiring
from infra.embedded.clickhouse import start_clickhouse
from infra.embedded.process import stop
from infra.runtime_home import RuntimeHome
from infra.schema.cluster import Cluster
from infra.schema.migrate import migrate
from ingest.core.errors import UsageError
from processors import audit
from processors.clickhouse import ClickHouseConfig, literal
from processors.derive import result_audit, sealing
from tests.conftest import ClickHouse, run_driftline
from tests.integration.pipeline_harness import Pipeline, check, collided
from tests.integration.pipeline_reference import Truth, traffic
from tests.support.common import free_port

PASSWORD = "password"
DIGEST = "SELECT count(), sum(cityHash64(*)) FROM driftline.events"


@contextmanager
def engine(home: Path) -> Iterator[Any]:
    """The engine of a home, as `driftline up` starts it, and a client of its database."""
    port = free_port()
    (home / "logs").mkdir(parents=True, exist_ok=True)
    process = start_clickhouse(
        home / "clickhouse", port, home / "logs" / "clickhouse.log", PASSWORD, PASSWORD
    )
    try:
        with wiring.client(
            ClickHouseConfig(f"http://127.0.0.1:{port}", "driftline", PASSWORD), "default"
        ) as client:
            yield client
    finally:
        stop(process)


def clickhouse_of(client: Any) -> ClickHouse:
    """The database driftline of the engine that a client speaks to."""
    return ClickHouse(int(client.url.rpartition(":")[2]), "driftline", password=PASSWORD)


def test_a_runtime_comes_back_from_its_backup(tmp_path: Path) -> None:
    first, second, archive = tmp_path / "first", tmp_path / "second", tmp_path / "driftline.tar"
    with engine(first) as client:
        migrate(client, "driftline")
        now = datetime.now(UTC)
        rows = [[now - timedelta(minutes=n), str(n), "support", "tool_call"] for n in range(5_000)]
        client.insert("driftline.events", rows, column_names=["time", "event_id", "agent", "kind"])
        before = client.query(DIGEST).result_rows
    (first / "redaction.key").write_text("key")

    lock = RuntimeHome(first).acquire()
    running = run_driftline("backup", str(archive), home=first)
    assert running.returncode == 2
    assert "already runs" in running.stderr
    os.close(lock)
    (first / "runtime.json").write_text("{}")
    saved = run_driftline("backup", str(archive), home=first)
    assert saved.returncode == 0, saved.stderr
    assert archive.stat().st_mode & 0o077 == 0
    assert run_driftline("backup", str(archive), home=first).returncode == 2  # it exists

    restored = run_driftline("restore", str(archive), home=second)
    assert restored.returncode == 0, restored.stderr
    assert run_driftline("restore", str(archive), home=second).returncode == 2  # there is data
    assert (second / "redaction.key").read_text() == "key"
    assert {path.name for path in second.iterdir()} == {
        "clickhouse",
        "redaction.key",
        "runtime.lock",
    }
    with engine(second) as client:
        assert migrate(client, "driftline") == []
        after = client.query(DIGEST).result_rows
    assert after == before
    assert after[0][0] == 5_000


def archive_of(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name.replace("__", "/").replace("_about", "-backup.json"))
            entry.size = len(content)
            tar.addfile(entry, BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"clickhouse__x": b"1"}, "is no backup of driftline"),
        ({"driftline_about": b'{"version": "9", "migrations": ["9999_x"], "taken": ""}'}, "9999_x"),
        (
            {"driftline_about": b'{"version": "1", "migrations": []}', "..__out": b"1"},
            "cannot restore",
        ),
    ],
)
def test_what_must_not_be_restored_is_refused(
    members: dict[str, bytes], reason: str, tmp_path: Path
) -> None:
    home = RuntimeHome(tmp_path / "home")
    archive = archive_of(tmp_path / "a.tar", **members)
    with pytest.raises(UsageError, match=reason):
        saving.restore(archive, home, ["0001_initial"])
    assert not home.data.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cluster", [Cluster(), Cluster("main"), Cluster("main", sharded=True)])
def test_a_server_saves_its_books_first(clickhouse: ClickHouse, cluster: Cluster) -> None:
    saved = saving.server_backup("driftline", "june", cluster)
    restored = saving.server_restore("driftline", "june", cluster)
    assert "ledger" in saved[0]
    assert "-books" in saved[0]
    with clickhouse.client() as client:
        for statement in saved + restored:
            assert client.query(f"SELECT formatQuery({literal(statement)})").result_rows


def test_what_a_server_refuses_is_said(clickhouse: ClickHouse, tmp_path: Path) -> None:
    server = {
        "DRIFTLINE_CLICKHOUSE_URL": clickhouse.url,
        "DRIFTLINE_CLICKHOUSE_PASSWORD": clickhouse.password,
        "DRIFTLINE_CLICKHOUSE_DATABASE": clickhouse.database,
    }
    done = run_driftline("backup", "june", home=tmp_path, environment=server)
    assert done.returncode == 2
    assert "BACKUP TABLE" in done.stderr
    done = run_driftline("backup", "a/../b", home=tmp_path, environment=server)
    assert done.returncode == 2
    assert "is no name" in done.stderr


def test_a_backup_under_load_and_what_kafka_has_since(tmp_path: Path) -> None:
    """The store is lost after it; restored and read on, it is as if nothing had happened."""
    events = collided(traffic(11, count=600))
    parts = [events[n::40] for n in range(40)]
    first, second, archive = tmp_path / "first", tmp_path / "second", tmp_path / "driftline.tar"
    with engine(first) as client:
        migrate(client, "driftline")
        working = Pipeline(clickhouse_of(client))
        delivered = threading.Event()

        def work() -> None:
            for number, part in enumerate(parts):
                working.deliver(part)
                if number % 3 == 0:
                    working.recompute()
                if number == 8:
                    delivered.set()

        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(work)
            assert delivered.wait(120)
            about = {"version": "1", "migrations": [], "taken": ""}
            saving.save_running(RuntimeHome(first), archive, about, client, "driftline")
            working_on = not done.done()
            done.result()
        assert working_on, "the backup was to be taken under load"
        assert not (first / "clickhouse" / "shadow").exists() or not any(
            (first / "clickhouse" / "shadow").glob("backup*")
        )
    shutil.rmtree(first)  # the store is lost, and Kafka is not

    saving.restore(archive, RuntimeHome(second), [])
    with engine(second) as client:
        assert migrate(client, "driftline") == []
        restored = Pipeline(clickhouse_of(client))
        known = sealing.ledger_end(restored.store, "log", 0)
        assert 9 <= known < len(parts)
        restored.offset = known
        for part in parts[known:]:
            restored.deliver(part)
        restored.recompute()
        audit.find_collisions(restored.results)
        audit.reconcile(restored.results)
        result_audit.repair(restored.results)
        check(restored, Truth(events))
        assert account(restored.store)["balanced"]
