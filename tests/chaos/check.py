"""Is everything there, once, and do the books say so?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.chaos import tables, truth
from tests.chaos.harness import PARTITIONS, Bed
from tests.chaos.log import read_log
from tests.chaos.truth import OTHER, Rows, Truth, differences
from tests.support.processes import until

MEMORY_MIB = 1024
# Collisions are found by a look over all ids, which rests for 30 times as long as it took: seconds
# where nothing else runs, minutes on a machine that is ten times overloaded.
_AUDIT_S = 240


def check(bed: Bed) -> tuple[Truth, list[str]]:
    """Compare everything that is stored with what Kafka holds.

    Returns
    -------
    Truth
        What the log comes to.
    list of str
        What is wrong; empty when all is well.
    """
    log = read_log(bed.cluster.bootstrap_servers, PARTITIONS)
    true = truth.truth(log, bed.traffic.poison)
    problems = [f"watch: {violation}" for violation in bed.watch.violations]
    lost = bed.lost(log)
    if lost or not bed.acknowledged:
        problems.append(f"kafka: {len(lost)} of {len(bed.acknowledged)} acknowledged are lost")
    if true.collisions:
        problems += _await_audit(bed, true)
    problems += _tables(bed, true)
    problems += _ledger(bed, true)
    problems += _books(bed, true)
    if bed.shape.agents <= 1_000:
        problems += _metrics(bed, true)
    if bed.watch.peak_mib > MEMORY_MIB:
        problems.append(f"memory: a worker took {bed.watch.peak_mib:.0f} MiB, above {MEMORY_MIB}")
    return true, problems


def _await_audit(bed: Bed, true: Truth) -> list[str]:
    found = lambda: bed.store.number(tables.COLLISIONS)  # noqa: E731
    try:
        until(lambda: found() >= true.collisions, _AUDIT_S, "collisions to be found", 1.0)
    except TimeoutError:
        return [f"collisions: {found()} found, {true.collisions} made"]
    bed.settle()
    return []


def _tables(bed: Bed, true: Truth) -> list[str]:
    store, events = bed.store, true.counted
    admitted = _admitted(bed)
    agents = {event["agent"] for event in true.counted}

    def fold(dimension: str, value: str) -> str:
        return value if not value or value in admitted.get(dimension, ()) else OTHER

    found: list[str] = []
    for name, sql, columns, expected in (
        ("events", tables.EVENTS, 3, true.stored),
        ("windows", tables.WINDOWS, 6, truth.windows(events, fold)),
        ("interactions", tables.INTERACTIONS, 1, truth.interactions(events)),
        ("sessions", tables.SESSIONS, 1, truth.sessions(events)),
        ("rollups", tables.ROLLUPS, 6, truth.rollups(events, fold)),
        ("evaluations", tables.EVALUATIONS, 4, truth.evaluations(events)),
    ):
        try:
            stored = store.table(sql, columns)
        except AssertionError as error:
            found.append(f"{name}: {error}")
            continue
        found += differences(name, stored, expected)
    if len(agents) <= bed.max_agents and not agents <= admitted["agent"]:
        found.append("dimension_values: names were refused although there is room")
    # Workers that meet a name at the same moment may each admit it.
    if len(admitted.get("agent", ())) > 1.1 * bed.max_agents:
        found.append(f"dimension_values: {len(admitted['agent'])} agents, bound {bed.max_agents}")
    double = store.number(tables.DOUBLE)
    return [*found, f"events: {double} are read twice"] if double else found


def _admitted(bed: Bed) -> dict[str, set[str]]:
    """Names admitted as labels, by dimension."""
    found: dict[str, set[str]] = {}
    for dimension, value in bed.store.ask(tables.ADMITTED):
        found.setdefault(dimension, set()).add(value)
    return found


def _ledger(bed: Bed, true: Truth) -> list[str]:
    found = differences("ledger", bed.store.table(tables.LEDGER, 2), true.ledger)
    letters = {tuple(key): row[0] for key, row in bed.store.table(tables.LETTERS, 3).items()}
    expected = {
        key: letters.get(key) if code is None else code for key, code in true.letters.items()
    }
    return found + differences("dead_letters", _rows(letters), _rows(expected))


def _rows(values: dict[Any, Any]) -> Rows:
    return {key: (value,) for key, value in values.items()}


def _books(bed: Bed, true: Truth) -> list[str]:
    code, books = bed.books()
    expected = {
        "balanced": True,
        "accepted": true.accepted,
        "stored": len(true.counted),
        "duplicates": true.duplicates,
        "collisions": true.collisions,
        "dead_lettered": len(true.letters),
    }
    found = [
        f"books: {name} {books[name]}, not {value}"
        for name, value in expected.items()
        if books[name] != value
    ]
    if code:
        found.append(f"books: driftline accounting ended with {code}")
    # By SQL alone: rows delivered, less the events that are there.
    delivered = bed.store.number("SELECT sum(rows) FROM ledger FINAL")
    present = bed.store.number("SELECT uniqExact(event_id, time, payload_hash) FROM events")
    if delivered - present != true.duplicates:
        found.append(f"duplicates: {delivered - present} by SQL, not {true.duplicates}")
    return found


def _metrics(bed: Bed, true: Truth) -> list[str]:
    """What ``driftline metrics`` says in total."""
    done = bed.driftline("metrics", "--json")
    if done.returncode:
        return [f"metrics: {done.stderr.strip()}"]
    entries = [e for e in json.loads(done.stdout) if e["scope"] == "all"]
    said: Counter[str] = Counter()
    for entry in entries:
        for unit in ("interactions", "sessions"):
            said[unit] += entry[unit]["n"]
        said["tool_calls"] += entry["tool_calls"]
        said["tool_errors"] += entry["tool_errors"]
        said["input_tokens"] += entry["input_tokens"] or 0
    expected = {
        "interactions": len(truth.interactions(true.counted)),
        "sessions": len(truth.sessions(true.counted)),
        **_totals(true.counted),
    }
    return [
        f"metrics: {name} {said[name]}, not {value}"
        for name, value in expected.items()
        if said[name] != value
    ]


def _totals(events: Iterable[dict[str, Any]]) -> dict[str, int]:
    tools = [e for e in events if e["kind"] in truth.TOOLS]
    return {
        "tool_calls": len(tools),
        "tool_errors": sum(e.get("status") == "error" for e in tools),
        "input_tokens": sum(e.get("input_tokens", 0) for e in events if e["kind"] != "interaction"),
    }
