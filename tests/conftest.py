"""Fixtures that several packages share: a real engine, a real broker, a whole runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from infra.embedded.broker import start_broker
from infra.embedded.clickhouse import start_clickhouse
from infra.embedded.process import stop
from infra.runtime_home import RuntimeHome, State
from infra.schema.migrate import migrate
from infra.topics import Topic, create_topics, log_id
from ingest.core.kafka import KafkaConfig
from tests.support.common import free_port

# How long an example takes says how busy the machine is.
settings.register_profile("any_load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_load")

PASSWORD = "test-password"
READER_PASSWORD = "reader-password"
LONGEST_FIRST = (
    "test_stations_end_to_end.py", "test_pipeline_crash.py", "test_chaos_short.py",
    "test_runtime.py", "test_deadletters.py", "test_door.py", "test_pipeline_sql.py",
    "test_pipeline_audit.py", "test_pipeline_files.py", "test_pipeline_garbage.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Processes share the files: one of minutes that came last would run alone."""
    rank = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(autouse=True)
def _clean_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's own shell reaches a test."""
    for name in list(os.environ):
        if name.startswith("DRIFTLINE_") and name not in (
            "DRIFTLINE_DATA",
            "DRIFTLINE_REQUIRE_SERVICES",
        ):
            monkeypatch.delenv(name)


@dataclass(frozen=True)
class ClickHouse:
    """A database of its own on the embedded server of the test session."""

    port: int
    database: str
    user: str = "driftline"
    password: str = PASSWORD
    reader_password: str = READER_PASSWORD

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, user: str = "driftline") -> Any:
        """Return a new clickhouse-connect client."""
        import clickhouse_connect

        return clickhouse_connect.get_client(
            host="127.0.0.1",
            port=self.port,
            username=user,
            password=READER_PASSWORD if user == "reader" else PASSWORD,
            database=self.database,
            autogenerate_session_id=False,
        )


@dataclass(frozen=True)
class Broker:
    """The embedded broker of the test session."""

    port: int

    @property
    def kafka(self) -> KafkaConfig:
        return KafkaConfig(bootstrap_servers=f"127.0.0.1:{self.port}")

    def topic(self, partitions: int = 4) -> str:
        """Create a topic of a new name and return it."""
        name = f"test.{uuid.uuid4().hex}"
        create_topics(self.kafka, [Topic(name, partitions)])
        return name

    def log_id(self, topic: str) -> str:
        return log_id(self.kafka, topic)


@dataclass(frozen=True)
class Runtime:
    """A running ``driftline up``."""

    home: Path
    port_base: int

    def driftline(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command against this runtime."""
        return run_driftline(*arguments, home=self.home, port_base=self.port_base, **options)

    def status(self) -> dict[str, Any]:
        """What runs and where, without half a second of `driftline status`."""
        state = RuntimeHome(self.home).running() or State(pid=0)
        return {**asdict(state), "healthy": state.healthy}

    def client(self, user: str = "driftline") -> Any:
        """Return a new clickhouse-connect client."""
        import clickhouse_connect

        secrets = json.loads((self.home / "credentials.json").read_text())
        return clickhouse_connect.get_client(
            dsn=self.status()["addresses"]["clickhouse"],
            username=user,
            password=secrets["reader_password" if user == "reader" else "password"],
            database="driftline",
            autogenerate_session_id=False,
        )

    @property
    def kafka(self) -> KafkaConfig:
        return KafkaConfig(bootstrap_servers=self.status()["addresses"]["kafka"])


def run_driftline(
    *arguments: str, home: Path, port_base: int | None = None, timeout: float = 600, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, with a home of its own."""
    environment = {**os.environ, "DRIFTLINE_HOME": str(home), **options.pop("environment", {})}
    if port_base is not None:
        environment["DRIFTLINE_PORT_BASE"] = str(port_base)
    return subprocess.run(
        [sys.executable, "-m", "infra.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )


@pytest.fixture(scope="session")
def _clickhouse_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("clickhouse")
    port = free_port()
    process = start_clickhouse(
        folder / "data", port, folder / "clickhouse.log", PASSWORD, READER_PASSWORD
    )
    yield port
    stop(process)


TEMPLATE = "migrated_once"


@pytest.fixture(scope="session")
def _migrated(_clickhouse_port: int) -> tuple[list[str], list[str]]:
    """Statements that make what a migrated database holds, and the tables that are not empty."""
    with ClickHouse(_clickhouse_port, "default").client() as client:
        migrate(client, TEMPLATE)
        made = client.query(
            "SELECT create_table_query, name, total_rows FROM system.tables"
            f" WHERE database = '{TEMPLATE}' ORDER BY metadata_modification_time, name"
        ).result_rows
    return [create for create, _, _ in made], [name for _, name, rows in made if rows]


@pytest.fixture
def clickhouse(
    _clickhouse_port: int, _migrated: tuple[list[str], list[str]]
) -> Iterator[ClickHouse]:
    """A database of a random name on a real engine, migrated: copied, which is much faster."""
    database = ClickHouse(_clickhouse_port, f"test_{uuid.uuid4().hex[:12]}")
    creates, filled = _migrated
    own = database.database
    with ClickHouse(_clickhouse_port, "default").client() as client:
        client.command(f"CREATE DATABASE {own}")
        for create in creates:
            client.command(create.replace(f"{TEMPLATE}.", f"{own}."))
        for name in filled:
            client.command(f"INSERT INTO {own}.{name} SELECT * FROM {TEMPLATE}.{name}")
        yield database
        client.command(f"DROP DATABASE {database.database} SYNC")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real broker; topics get unique names with ``broker.topic()``."""
    port = free_port()
    process = start_broker(port, tmp_path_factory.mktemp("broker") / "broker.log")
    yield Broker(port)
    stop(process)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """``driftline up --detach`` with a home and ports of its own."""
    running = Runtime(tmp_path_factory.mktemp("runtime") / "home", free_port(16))
    started = running.driftline("up", "--detach")
    if started.returncode:
        pytest.fail(f"driftline up: {started.stderr}")
    yield running
    running.driftline("down")
