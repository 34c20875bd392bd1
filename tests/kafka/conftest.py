"""Kafka clusters for the whole session, and per test topics and tables of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ClickHouse
from tests.kafka.harness import Bed
from tests.kafka.secure import PASSWORD, USER, Certificates, secure_settings
from tests.support.common import REQUIRED, free_port
from tests.support.kafka_cluster import Cluster, cluster, missing


@pytest.fixture(scope="session")
def _kafka_possible() -> None:
    reason = missing()
    if reason is None:
        return
    if REQUIRED or os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def single(
    _kafka_possible: None, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """One node with a plain listener and, at `tests.kafka.secure.PORT`, one with TLS and login."""
    port = free_port(4)
    with cluster(
        tmp_path_factory.mktemp("kafka") / "single",
        port,
        settings=secure_settings(port, certificates),
        format_arguments=("--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"),
    ) as found:
        yield found


@pytest.fixture(scope="session")
def three(_kafka_possible: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes, three copies of everything, two of which must agree."""
    with cluster(tmp_path_factory.mktemp("kafka") / "three", free_port(6), nodes=3) as found:
        yield found


@pytest.fixture
def bed(request: pytest.FixtureRequest, clickhouse: ClickHouse, tmp_path: Path) -> Iterator[Bed]:
    """A pipeline without workers, on one node unless the test names the fixture `three`."""
    nodes = "three" if "three" in request.fixturenames else "single"
    kafka: Cluster = request.getfixturevalue(nodes)
    made = Bed(kafka, clickhouse, tmp_path)
    made.make_topics()
    yield made
    made.close()
    kafka.delete_topics()
