"""Is ClickHouse as driftline needs it: version, rights, settings that keep numbers exact, space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from infra.doctor import Complaint

OLDEST: Final = (25, 8)
"""The oldest long-term release whose functions the statements use."""

NEEDED_RIGHTS: Final = ("SELECT", "INSERT", "CREATE TABLE", "CREATE VIEW", "ALTER", "DROP TABLE")
_GIB: Final = 1 << 30
_FREE_SHARE: Final = 0.10
_FREE_BYTES: Final = 5 * _GIB
_PARTS: Final = 1_000
"""Active parts of a partition from which ClickHouse delays inserts, unless it is set otherwise."""
_SKEW_S: Final = 5.0
_FUTURE_S: Final = 60.0
_SYSTEM_LOG_BYTES: Final = 10 * _GIB


_BOUNDED: Final = (
    "read", "group_by", "sort", "result", "set", "join", "transfer", "distinct", "timeout",
)  # fmt: skip


class Rule(NamedTuple):
    """What a setting must be for our numbers to be right; ``ours`` when statements set it."""

    wanted: tuple[str, ...]
    ours: bool
    why: str


SETTINGS: Final = {
    # Set with every insert, which a profile may forbid.
    "async_insert": Rule(("0",), True, "it acknowledges rows that are not stored yet"),
    "insert_deduplicate": Rule(("0",), True, "a block that repeats another's hash is dropped"),
    "max_partitions_per_insert_block": Rule(("0",), True, "a block may hold events of many days"),
    "optimize_on_insert": Rule(("0",), True, "inserts would cost twice the CPU"),
    # Not set by us; their defaults are what the statements were written for.
    "join_use_nulls": Rule(("0",), False, "joins then answer null where we expect empty"),
    "transform_null_in": Rule(("0",), False, "IN then finds nulls"),
    "aggregate_functions_null_for_empty": Rule(("0",), False, "sums of nothing become null"),
    "prefer_column_name_to_alias": Rule(("0",), False, "names then mean other columns"),
    "union_default_mode": Rule(("", "ALL"), False, "UNION would drop equal rows"),
    "final": Rule(("0",), False, "every read would merge, also where a query counts copies"),
    # What breaks off silently answers a part as if it were the whole.
    **{
        name: Rule(("throw",), False, "a statement would end early and say nothing")
        for name in (
            *(f"{what}_overflow_mode" for what in _BOUNDED),
            "read_overflow_mode_leaf",
            "timeout_overflow_mode_leaf",
        )
    },
}


class Setting(NamedTuple):
    """A setting as this user has it; ``fixed`` when a statement may not change it."""

    value: str
    fixed: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was found.

    Parameters
    ----------
    error
        Why it could not be asked, else empty.
    version
        Major and minor.
    lacking
        Rights that this user lacks on the database.
    settings
        Those of `SETTINGS` and of the limits, by name.
    pending
        Migrations that were not applied yet; None when there is no database.
    unknown
        Migrations of a newer driftline.
    disks
        Free and total bytes by name.
    parts
        Most active parts of one partition, by table.
    detached
        Broken parts that were set aside, by table.
    stuck
        Mutations that fail, by table, with the reason.
    readonly_replicas
        Tables whose replica takes no writes.
    system_logs
        Bytes of the server's logs about itself, by table.
    skew_s
        Its clock minus ours.
    future_s
        How far the newest stored event lies in the future; 0 when it does not.
    unpriced
        Models that had tokens in the last day and no cost, with their calls.
    """

    error: str = ""
    version: tuple[int, int] = OLDEST
    lacking: tuple[str, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=dict)
    pending: tuple[str, ...] | None = ()
    unknown: tuple[str, ...] = ()
    disks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    parts: Mapping[str, int] = field(default_factory=dict)
    detached: Mapping[str, int] = field(default_factory=dict)
    stuck: Mapping[str, str] = field(default_factory=dict)
    readonly_replicas: tuple[str, ...] = ()
    system_logs: Mapping[str, int] = field(default_factory=dict)
    skew_s: float = 0.0
    future_s: float = 0.0
    unpriced: Mapping[str, int] = field(default_factory=dict)


def judge(facts: Snapshot) -> Iterator[Complaint]:
    """Complaints about a server and the database."""
    if facts.error:
        yield _complaint("unreachable", facts.error, "see that ClickHouse runs and is reached here")
        return
    if facts.version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        yield _complaint(
            "version",
            f"ClickHouse {'.'.join(map(str, facts.version))} is older than {oldest}",
            f"upgrade it to {oldest} or newer",
        )
    if facts.lacking:
        yield _complaint(
            "rights",
            f"this user may not {', '.join(facts.lacking)} in the database",
            f"GRANT {', '.join(facts.lacking)} ON its tables",
        )
    yield from _of_settings(facts.settings)
    yield from _of_schema(facts)
    yield from _of_space(facts)
    yield from _of_clocks(facts)
    if facts.unpriced:
        models = ", ".join(sorted(facts.unpriced)[:5])
        yield Complaint(
            "prices",
            "unpriced",
            f"{sum(facts.unpriced.values())} calls of the last day have no cost: {models}",
            "put these models into the file of prices.file; their agents have no cost until then",
            "advice",
        )


def _of_settings(settings: Mapping[str, Setting]) -> Iterator[Complaint]:
    for name, rule in SETTINGS.items():
        found = settings.get(name)
        if found is None or found.value in rule.wanted or (rule.ours and not found.fixed):
            continue
        wanted = rule.wanted[0] or "''"
        verb = "is fixed at" if found.fixed else "is"
        yield _complaint(
            f"setting_{name}",
            f"the setting {name} {verb} {found.value!r}: {rule.why}",
            f"set {name} = {wanted} in this user's profile, or let statements set it",
        )
    readonly = settings.get("readonly")
    if readonly is not None and readonly.value != "0":
        yield _complaint("readonly", "this user can only read", "set readonly = 0 in its profile")
    for name, least, unit in (
        ("max_execution_time", 120, "s"),
        ("max_memory_usage", _GIB, "bytes"),
    ):
        found = settings.get(name)
        if found is not None and 0 < float(found.value) < least:
            yield _complaint(
                f"setting_{name}",
                f"{name} is {found.value}: larger statements of the audit would be refused",
                f"set {name} to 0 (no bound), or to {least} {unit} and more",
            )


def _of_schema(facts: Snapshot) -> Iterator[Complaint]:
    if facts.pending is None:
        yield _complaint("no_database", "there are no tables yet", "run `driftline migrate`")
    elif facts.pending:
        yield _complaint(
            "pending_migrations",
            f"not applied yet: {', '.join(facts.pending)}",
            "run `driftline migrate` before workers of this version",
        )
    if facts.unknown:
        yield _complaint(
            "newer_schema",
            f"made by a newer driftline: {', '.join(facts.unknown)}",
            "use that version here too; there is no way back",
        )


def _of_space(facts: Snapshot) -> Iterator[Complaint]:
    for disk, (free, total) in facts.disks.items():
        if free < min(_FREE_BYTES, _FREE_SHARE * total):
            yield _complaint(
                "disk",
                f"disk {disk} has {free / _GIB:.1f} of {total / _GIB:.1f} GiB left",
                "add space or shorten retention: `driftline storage` says what takes it. A full"
                " disk stops inserts; Kafka then still has the events",
            )
    for table, parts in facts.parts.items():
        if parts >= _PARTS:
            yield _complaint(
                "parts",
                f"a partition of {table} has {parts} parts",
                "merges do not keep up: give ClickHouse more CPU or disk, or send larger blocks"
                " (processing.batch_mb, processing.linger_s)",
            )
    for table, parts in facts.detached.items():
        yield _complaint(
            "broken_parts",
            f"{parts} broken parts of {table} were set aside",
            "look at system.detached_parts, then replay the topic, or restore a backup",
        )
    for table, why in facts.stuck.items():
        yield _complaint(
            "mutation", f"a mutation of {table} fails: {why}", "mend its cause, or KILL MUTATION"
        )
    for table in facts.readonly_replicas:
        yield _complaint(
            "readonly_replica",
            f"the replica of {table} takes no writes",
            "look at Keeper, then SYSTEM RESTORE REPLICA if its metadata is lost",
        )
    for table, size in facts.system_logs.items():
        if size > _SYSTEM_LOG_BYTES:
            yield _complaint(
                "system_log",
                f"system.{table} takes {size / _GIB:.0f} GiB",
                "give it a TTL, as infra/deploy/clickhouse/config.xml does",
                advice=True,
            )


def _of_clocks(facts: Snapshot) -> Iterator[Complaint]:
    if abs(facts.skew_s) > _SKEW_S:
        ahead = "ahead of" if facts.skew_s > 0 else "behind"
        yield Complaint(
            "clocks",
            "clickhouse_skew",
            f"ClickHouse's clock is {abs(facts.skew_s):.0f} s {ahead} ours",
            "let both follow NTP: freshness, alerts and retention compare the two",
        )
    if facts.future_s > _FUTURE_S:
        yield Complaint(
            "clocks",
            "future_events",
            f"an event of the last hour lies {facts.future_s:.0f} s in the future",
            "find the sender whose clock is ahead (SELECT agent, max(time) FROM events GROUP BY"
            " agent): event time waits for the clock",
        )


def _complaint(code: str, what: str, do: str, *, advice: bool = False) -> Complaint:
    return Complaint("clickhouse", code, what, do, "advice" if advice else "fault")
