"""What `infra.doctor.clickhouse` judges, asked of a server."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from infra.doctor.clickhouse import NEEDED_RIGHTS, SETTINGS, Setting, Snapshot
from ingest.core.errors import Unavailable

if TYPE_CHECKING:
    from processors.clickhouse import ClickHouseConfig

_LIMITS: Final = ("readonly", "max_execution_time", "max_memory_usage")

_PARTS: Final = """
SELECT table, toUInt64(max(n)) FROM
(SELECT table, partition, count() AS n FROM system.parts
 WHERE database = {db:String} AND active GROUP BY table, partition) GROUP BY table
"""
_DETACHED: Final = """
SELECT table, count() FROM system.detached_parts
WHERE database = {db:String} AND reason IN ('broken', 'broken-on-start', 'unexpected', 'noquorum')
GROUP BY table
"""
_STUCK: Final = """
SELECT table, any(latest_fail_reason) FROM system.mutations
WHERE database = {db:String} AND NOT is_done AND latest_fail_reason != '' GROUP BY table
"""
_READONLY: Final = "SELECT table FROM system.replicas WHERE database = {db:String} AND is_readonly"
_LOGS: Final = """
SELECT table, sum(bytes_on_disk) FROM system.parts
WHERE database = 'system' AND active AND table LIKE '%\\_log%' GROUP BY table
"""
_FUTURE: Final = """
SELECT greatest(0, toUnixTimestamp64Milli(toDateTime64(max(time), 3, 'UTC'))
    - toUnixTimestamp64Milli(now64(3, 'UTC'))) / 1000
FROM {db:Identifier}.events WHERE time > now() - INTERVAL 1 HOUR
"""
_UNPRICED: Final = """
SELECT toString(model), count() FROM {db:Identifier}.events
WHERE time > now() - INTERVAL 1 DAY AND kind = 'llm_call' AND model != '' AND cost_usd IS NULL
    AND (input_tokens > 0 OR output_tokens > 0)
GROUP BY model ORDER BY count() DESC LIMIT 20
"""


def look(config: ClickHouseConfig, migrations: Iterable[str]) -> Snapshot:
    """Ask a server about itself and about the database.

    Parameters
    ----------
    config
        Address and user.
    migrations
        Names of those of this version.
    """
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from infra import wiring

    try:
        with wiring.client(config, database="default") as client:
            return _facts(client, config.database, list(migrations))
    except Unavailable as error:
        return Snapshot(error=str(error))
    except ClickHouseError as error:
        return Snapshot(error=f"ClickHouse at {config.url}: {wiring.reason(error)}")


def _facts(client: Any, database: str, migrations: list[str]) -> Snapshot:
    before = time.time()
    version, clock = _rows(client, "SELECT version(), toUnixTimestamp64Milli(now64(3))")[0]
    skew = clock / 1000 - (before + time.time()) / 2
    db = {"db": database}
    exists = bool(_rows(client, "SELECT 1 FROM system.databases WHERE name = {db:String}", db))
    names = [n for (n,) in _of_table(client, database, "schema_migrations")] if exists else []
    applied = {name for name in names if not name.startswith("view ")}
    has_events = "0001_initial" in applied
    return Snapshot(
        version=(int(version.split(".")[0]), int(version.split(".")[1])),
        lacking=_lacking(client, database) if exists else (),
        settings=_settings(client),
        pending=tuple(name for name in migrations if name not in applied) if exists else None,
        unknown=tuple(sorted(applied - set(migrations))),
        disks={n: (f, t) for n, f, t in _rows(client, _DISKS)},
        parts=_pairs(client, _PARTS, db),
        detached=_pairs(client, _DETACHED, db),
        stuck=_pairs(client, _STUCK, db),
        readonly_replicas=tuple(row[0] for row in _rows(client, _READONLY, db)),
        system_logs=_pairs(client, _LOGS),
        skew_s=skew,
        future_s=float(_rows(client, _FUTURE, db)[0][0]) if has_events else 0.0,
        unpriced=_pairs(client, _UNPRICED, db) if has_events else {},
    )


_DISKS: Final = "SELECT name, free_space, total_space FROM system.disks WHERE total_space > 0"


def _settings(client: Any) -> dict[str, Setting]:
    names = [*SETTINGS, *_LIMITS]
    rows = _rows(
        client,
        "SELECT name, value, readonly FROM system.settings WHERE has({names:Array(String)}, name)",
        {"names": names},
    )
    return {name: Setting(str(value), bool(fixed)) for name, value, fixed in rows}


def _lacking(client: Any, database: str) -> tuple[str, ...]:
    """Rights that CHECK GRANT denies; none where the server has no users, as the embedded one."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    lacking = []
    for right in NEEDED_RIGHTS:
        try:
            granted = _rows(client, f"CHECK GRANT {right} ON {database}.*")
        except ClickHouseError:
            return ()
        if granted and not granted[0][0]:
            lacking.append(right)
    return tuple(lacking)


def _of_table(client: Any, database: str, table: str) -> list[Any]:
    known = _rows(
        client,
        "SELECT 1 FROM system.tables WHERE database = {db:String} AND name = {t:String}",
        {"db": database, "t": table},
    )
    return _rows(client, f"SELECT DISTINCT name FROM {database}.{table}") if known else []  # noqa: S608


def _pairs(client: Any, query: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return dict(_rows(client, query, parameters))


def _rows(client: Any, query: str, parameters: Mapping[str, Any] | None = None) -> list[Any]:
    return list(client.query(query, parameters=parameters).result_rows)
