"""Panels about the monitor itself, and the dashboard `driftline-pipeline` made of them."""

from __future__ import annotations

from typing import Final

from dashboards import panels
from dashboards.query import Json

UID: Final = "driftline-pipeline"


def build() -> Json:
    """Dashboard for whoever runs driftline."""
    return panels.dashboard(
        UID,
        "Driftline pipeline",
        "Is every line that reached Kafka accounted for, and is everything alive and in time?",
        [
            ("Now", [lines_now(), dead_now(), late_now(), waiting_now(), quiet_now(), position()]),
            ("The books", [throughput(), dead_letters(), books(), dead_letter_details()]),
            ("Time", [late_over_time(), watermarks()]),
            ("Signs of life", [heartbeats(), heartbeats_over_time()]),
        ],
        variables=[],
        time_from="now-1h",
    )


def lines_now() -> Json:
    """One number: lines taken from Kafka."""
    return panels.stat(
        101,
        "Lines",
        "Lines taken from Kafka in the time range, good or not.",
        "SELECT sum(lines) AS lines FROM ledger FINAL WHERE $__timeFilter(ingested)",
        "short",
        panels.PLAIN_STEPS,
    )


def dead_now() -> Json:
    """One number: share of lines that did not become events."""
    return panels.stat(
        102,
        "Dead-lettered",
        "Share of the lines that are not valid events. A worker stops above 20 % of 1,000 lines.",
        """
        SELECT sum(dead_lettered) / nullIf(sum(lines), 0) AS share
        FROM ledger FINAL WHERE $__timeFilter(ingested)
        """,
        "percentunit",
        ((None, "green"), (0.001, "orange"), (0.05, "red")),
        decimals=2,
    )


def late_now() -> Json:
    """One number: share of events that came after their window was sealed."""
    return panels.stat(
        103,
        "Late",
        "Share of the events that came after their window was sealed. They still count: stored "
        "windows are corrected.",
        """
        SELECT sum(late) / nullIf(sum(rows), 0) AS share
        FROM ledger FINAL WHERE $__timeFilter(ingested)
        """,
        "percentunit",
        ((None, "green"), (0.01, "orange"), (0.1, "red")),
        decimals=2,
    )


def waiting_now() -> Json:
    """One number: records not yet read."""
    return panels.stat(
        104,
        "Waiting records",
        "Records in Kafka that no worker has taken yet, over all partitions.",
        f"SELECT sumOrNull(lag) AS records FROM watermarks FINAL WHERE {_REPORTED}",
        "short",
        ((None, "green"), (1_000, "orange"), (10_000, "red")),
    )


def quiet_now() -> Json:
    """One number: age of the oldest sign of life."""
    return panels.stat(
        105,
        "Quietest component",
        "Seconds since the component that has been quiet longest gave a sign of life.",
        """
        SELECT max(age) AS age
        FROM
        (
            SELECT dateDiff('second', max(ts), now64(3)) AS age
            FROM heartbeats WHERE $__timeFilter(ts) GROUP BY component
        )
        HAVING count() > 0
        """,
        "s",
        _QUIET_STEPS,
    )


def position() -> Json:
    """One number: how far the slowest detector is behind."""
    return panels.stat(
        106,
        "Slowest detector",
        "How far event time has come in the detector stream that is furthest behind, measured "
        "against the newest of them.",
        """
        SELECT dateDiff('second', min(position), max(position)) AS behind
        FROM detector_state FINAL WHERE position <= $__toTime
        HAVING count() > 0
        """,
        "s",
        ((None, "green"), (60, "orange"), (600, "red")),
    )


def throughput() -> Json:
    """Rows per second into the store."""
    return panels.timeseries(
        80,
        "Rows per second",
        "Lines taken from Kafka and events stored, per second. The difference is dead letters.",
        """
        SELECT $__timeInterval(ingested) AS time, sum(lines) / $__interval_s AS lines,
            sum(rows) / $__interval_s AS stored
        FROM ledger FINAL WHERE $__timeFilter(ingested)
        GROUP BY time ORDER BY time
        """,
        "rowsps",
        low=0,
    )


def dead_letters() -> Json:
    """Dead letters by code over time."""
    return panels.timeseries(
        81,
        "Dead letters per minute by code",
        "Lines that did not become events, by the reason.",
        """
        SELECT $__timeInterval(ingested) AS time, code, count() * 60 / $__interval_s AS lines
        FROM dead_letters FINAL WHERE $__timeFilter(ingested)
        GROUP BY time, code ORDER BY time, code
        """,
        "short",
        name="${__field.labels.code}",
        low=0,
        stacked=True,
    )


def watermarks() -> Json:
    """Event time and backlog of every partition."""
    return panels.table(
        82,
        "Partitions",
        "How far event time has come in each partition, how long ago that is, how many records "
        "wait, and when the worker last said so. While old data is replayed, behind is large and "
        "means nothing. Marks of what to compute again (dirty) have no event time.",
        f"""
        SELECT topic, partition, nullIf(watermark, toDateTime64(0, 9, 'UTC')) AS event_time,
            dateDiff('second', event_time, now64(9)) AS behind, lag AS waiting,
            dateDiff('second', updated, now64(3)) AS reported_ago, log_id
        FROM watermarks FINAL WHERE {_REPORTED}
        ORDER BY topic, log_id, partition
        """,
        {"behind": "s", "reported_ago": "s", "waiting": "short"},
        width=14,
        steps={"reported_ago": ((None, "green"), (60, "orange"), (300, "red"))},
    )


def heartbeats() -> Json:
    """Every component with its latest sign of life."""
    return panels.table(
        83,
        "Components",
        "When each component last gave a sign of life. After 300 s without one Grafana alerts.",
        """
        SELECT component, instance, max(ts) AS last_seen,
            dateDiff('second', last_seen, now64(3)) AS age, argMax(detail, ts) AS detail
        FROM heartbeats WHERE $__timeFilter(ts)
        GROUP BY component, instance
        ORDER BY component, age
        """,
        {"age": "s"},
        width=10,
        steps={"age": _QUIET_STEPS},
    )


def heartbeats_over_time() -> Json:
    """Signs of life per minute."""
    return panels.timeseries(
        84,
        "Signs of life per minute",
        "Heartbeats of each component. A gap is an outage of the component or of the store.",
        """
        SELECT $__timeInterval(ts) AS time, component, count() * 60 / $__interval_s AS beats
        FROM heartbeats WHERE $__timeFilter(ts)
        GROUP BY time, component ORDER BY time, component
        """,
        "short",
        name="${__field.labels.component}",
        low=0,
        interval="1m",
        width=14,
    )


def books() -> Json:
    """Do the books balance, partition by partition."""
    return panels.table(
        85,
        "Books by partition",
        "Each line is either stored or dead-lettered, and no record is missing between the first "
        "and the last of the time range: unaccounted and missing must be 0.",
        """
        SELECT topic, partition, count() AS records, sum(lines) AS lines, sum(rows) AS stored,
            sum(dead_lettered) AS dead, sum(late) AS late,
            toInt64(lines) - toInt64(stored) - toInt64(dead) AS unaccounted,
            toInt64(max(offset)) - toInt64(min(offset)) + 1 - toInt64(records) AS missing,
            min(offset) AS first_offset, max(offset) AS last_offset, log_id
        FROM ledger FINAL WHERE $__timeFilter(ingested)
        GROUP BY log_id, topic, partition
        ORDER BY topic, log_id, partition
        """,
        {},
        steps={
            "unaccounted": ((None, "red"), (0, "green"), (1, "red")),
            "missing": ((None, "red"), (0, "green"), (1, "red")),
        },
    )


def dead_letter_details() -> Json:
    """Latest dead letters with their coordinates."""
    return panels.table(
        86,
        "Latest dead letters",
        "Where each line stands in Kafka and why it is not an event. Its content is not kept.",
        """
        SELECT ingested, code, detail, topic, partition, offset, line, bytes, sha256
        FROM dead_letters FINAL WHERE $__timeFilter(ingested)
        ORDER BY ingested DESC, topic, partition, offset, line LIMIT 100
        """,
        {"bytes": "bytes"},
        widths={"detail": 380},
    )


def late_over_time() -> Json:
    """Late events per minute."""
    return panels.timeseries(
        87,
        "Late events per minute",
        "Events that came after their window was sealed, by topic.",
        """
        SELECT $__timeInterval(ingested) AS time, topic, sum(late) * 60 / $__interval_s AS late
        FROM ledger FINAL WHERE $__timeFilter(ingested)
        GROUP BY time, topic ORDER BY time, topic
        """,
        "short",
        name="${__field.labels.topic}",
        low=0,
        width=10,
    )


_REPORTED: Final = "updated >= $__fromTime AND updated <= $__toTime + INTERVAL 1 MINUTE"
"""A partition's row is replaced all the time; the newest may be a moment younger than the range."""

_QUIET_STEPS: Final[panels.Steps] = ((None, "green"), (60, "orange"), (300, "red"))
