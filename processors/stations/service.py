"""The stations of a deployment, in the order in which they step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from processors.clickhouse import Store
from processors.derive.result_store import ResultStore
from processors.stations.base import Station
from processors.stations.clusters import Clusters, ClustersConfig
from processors.stations.detection import Detection, DetectionConfig
from processors.stations.incidents import Incidents, IncidentsConfig
from processors.stations.runner import StationRunner, Stations, Told
from processors.stations.storage import ClickHouseStations
from processors.stations.versions import Versions, VersionsConfig


def all_stations(config: DetectionConfig) -> list[Station[Any]]:
    """Every station; adding one is adding it here."""
    clusters = ClustersConfig(warm_up=config.warm_up, retire_days=config.retire_days)
    versions = VersionsConfig(retire_days=config.retire_days)
    return [Detection(config), Versions(versions), Clusters(clusters), incidents(config)]


def incidents(config: DetectionConfig) -> Incidents:
    """The station of the fleet, with what agents may be told as."""
    severities = {name: agent.severity for name, agent in config.agents.items()}
    return Incidents(IncidentsConfig(severities=severities))


def station_runner(
    store: Store,
    results: ResultStore,
    log_id: str,
    config: DetectionConfig,
    buckets: Callable[[], Sequence[str]],
    tell: Told,
) -> StationRunner:
    """The service of a worker; see `processors.stations.runner.StationRunner`."""
    stations = Stations(ClickHouseStations(store, log_id, results), all_stations(config))
    return StationRunner(stations, buckets, tell)
