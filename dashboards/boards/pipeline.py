"""The dashboard `driftline-pipeline`: the monitor itself."""

from __future__ import annotations

from typing import Final

from dashboards import panels
from dashboards.boards import links
from dashboards.query import Json

_QUIET_STEPS: Final[panels.Steps] = ((None, "green"), (60, "orange"), (300, "red"))
_BEHIND_STEPS: Final[panels.Steps] = ((None, "green"), (120, "orange"), (900, "red"))
_ZERO: Final[panels.Steps] = ((None, "red"), (0, "green"), (1, "red"))


def build() -> Json:
    """Dashboard for the person who runs driftline."""
    return panels.dashboard(
        links.PIPELINE,
        "Driftline pipeline",
        "Is every line that reached Kafka accounted for, and is everything alive and in time?",
        [
            ("Now", now()),
            ("The books", [throughput(), dead_letters(), books(), dead_letter_details()]),
            ("Time", [late_over_time(), partitions(), stations()]),
            ("Who sends", [senders()]),
            ("Signs of life", [heartbeats(), heartbeats_over_time(), tables()]),
        ],
        variables=[],
        time_from="now-1h",
    )


def now() -> list[Json]:
    """Seven numbers on the state of the pipeline."""
    return [
        panels.stat(
            101,
            "Lines",
            "Lines taken from Kafka in the time range, good or not.",
            "pipeline.lines_now",
            "short",
            panels.PLAIN_STEPS,
            width=3,
        ),
        panels.stat(
            102,
            "Dead-lettered",
            "Share of the lines that are not valid events, of how many. A worker stops above 20 % "
            "of 1,000 lines.",
            "pipeline.dead_now",
            "percentunit",
            ((None, "green"), (0.001, "orange"), (0.05, "red")),
            decimals=2,
            units={"n": "short"},
        ),
        panels.stat(
            103,
            "Late",
            "Share of the events that came after their window was sealed, of how many. They still "
            "count: stored results are corrected.",
            "pipeline.late_now",
            "percentunit",
            ((None, "green"), (0.01, "orange"), (0.1, "red")),
            decimals=2,
            units={"n": "short"},
        ),
        panels.stat(
            104,
            "Waiting records",
            "Records in Kafka that no worker has taken yet, over all partitions.",
            "pipeline.waiting_now",
            "short",
            ((None, "green"), (1_000, "orange"), (10_000, "red")),
            width=3,
        ),
        panels.stat(
            105,
            "Quietest component",
            "Seconds since the component that has been quiet longest gave a sign of life.",
            "pipeline.quiet_now",
            "s",
            _QUIET_STEPS,
            width=3,
        ),
        panels.stat(
            106,
            "Slowest station",
            "How far the station that is furthest behind has yet to read, measured against the "
            "newest event that is stored.",
            "pipeline.slowest_station",
            "s",
            _BEHIND_STEPS,
            width=3,
        ),
        panels.stat(
            107,
            "Newest result",
            "Age of the newest minute with an interaction. While nothing is sent it grows and "
            "means nothing.",
            "pipeline.newest_result",
            "s",
            ((None, "green"), (300, "orange"), (1_800, "red")),
            width=4,
        ),
    ]


def throughput() -> Json:
    """Rows per second into the store."""
    return panels.timeseries(
        80,
        "Rows per second",
        "Lines taken from Kafka and events stored, per second. The difference is dead letters.",
        "pipeline.throughput",
        "rowsps",
        low=0,
    )


def dead_letters() -> Json:
    """Dead letters by code over time."""
    return panels.timeseries(
        81,
        "Dead letters per minute by code",
        "Lines that did not become events, by the reason.",
        "pipeline.dead_letters",
        "short",
        name="${__field.labels.code}",
        low=0,
        stacked=True,
    )


def partitions() -> Json:
    """Event time and backlog of every partition."""
    return panels.table(
        82,
        "Partitions",
        "How far event time has come in each partition, how long ago that is, how many records "
        "wait, and when the worker last said so. While old data is replayed, behind is large and "
        "means nothing. Marks of what to compute again (dirty) have no event time.",
        "pipeline.partitions",
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
        "pipeline.components",
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
        "pipeline.beats",
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
        "pipeline.books",
        {},
        steps={"unaccounted": _ZERO, "missing": _ZERO},
    )


def dead_letter_details() -> Json:
    """Latest dead letters with their coordinates."""
    return panels.table(
        86,
        "Latest dead letters",
        "Where each line stands in Kafka and why it is not an event. Its content is not kept.",
        "pipeline.dead_letter_details",
        {"bytes": "bytes"},
        widths={"detail": 380},
    )


def late_over_time() -> Json:
    """Late events per minute."""
    return panels.timeseries(
        87,
        "Late events per minute",
        "Events that came after their window was sealed, by topic.",
        "pipeline.late_over_time",
        "short",
        name="${__field.labels.topic}",
        low=0,
        width=10,
    )


def stations() -> Json:
    """Every station with how far it has read."""
    return panels.table(
        89,
        "Stations",
        "How far each station has read in event time, and how far that is behind the newest event.",
        "pipeline.stations",
        {"behind": "s"},
        width=12,
        steps={"behind": _BEHIND_STEPS},
    )


def tables() -> Json:
    """Every table with its size."""
    return panels.table(
        94,
        "Tables",
        "Rows, bytes and parts of each table on disk, and when it was last written.",
        "pipeline.tables",
        {"bytes": "bytes", "rows": "short"},
        width=24,
    )


def senders() -> Json:
    """Who sends what, and what of it is understood."""
    return panels.table(
        95,
        "Senders",
        "Spans by service, instrumentation and dialect: an empty dialect is not understood and "
        "counts as work of the service. Model calls without tokens or cost, and runs without a "
        "session, leave gaps elsewhere; `driftline senders` says what to do about each.",
        "pipeline.senders",
        {},
        steps={"untold_tokens": ((None, "green"), (1, "orange"))},
    )
