"""A backup restored elsewhere is the same, and what must not be restored is refused."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from infra import saving, wiring
from infra.embedded.clickhouse import start_clickhouse
from infra.embedded.process import stop
from infra.runtime_home import RuntimeHome
from infra.schema.migrate import migrate
from ingest.core.errors import UsageError
from processors.clickhouse import ClickHouseConfig
from tests.conftest import run_driftline
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


def test_a_runtime_comes_back_from_its_backup(tmp_path: Path) -> None:
    first, second, archive = tmp_path / "first", tmp_path / "second", tmp_path / "driftline.tar"
    with engine(first) as client:
        migrate(client, "driftline")
        now = datetime.now(UTC)
        rows = [[now - timedelta(minutes=n), str(n), "support", "tool_call"] for n in range(5_000)]
        client.insert("driftline.events", rows, column_names=["time", "event_id", "agent", "kind"])
        before = client.query(DIGEST).result_rows
    (first / "redaction.key").write_text("key")
    (first / "runtime.json").write_text("{}")

    lock = RuntimeHome(first).acquire()
    running = run_driftline("backup", str(archive), home=first)
    assert running.returncode == 2
    assert "already runs" in running.stderr
    os.close(lock)
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


def test_a_server_saves_itself(tmp_path: Path) -> None:
    done = run_driftline(
        "backup", "x.tar", home=tmp_path, environment={"DRIFTLINE_CLICKHOUSE_URL": "http://a:8123"}
    )
    assert done.returncode == 2
    assert "BACKUP DATABASE" in done.stderr
