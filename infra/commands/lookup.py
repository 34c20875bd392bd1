"""tables, interaction, session, slo: what is stored, one conversation, what was promised."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands import open_store
from infra.console import Json, emit, emit_json, print_table, say
from ingest.core.errors import NotFound, UsageError

if TYPE_CHECKING:
    from dashboards.lookup import Lookup
    from processors.clickhouse import Store

Row = dict[str, Any]

_TABLES = """
SELECT table, name, type, comment, position FROM system.columns
WHERE database = currentDatabase() ORDER BY table, position
"""
_VIEWS = """
SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View' ORDER BY name
"""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(tables)
    app.command()(interaction)
    app.command()(session)
    app.command(name="slo")(slo_command)


def tables(
    name: Annotated[str | None, typer.Argument(help="Only this table or view, with types.")] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The views as a reference, as in docs/sql.md.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List tables and views with what their columns mean; views first, they need no FINAL.

    Examples: driftline tables
              driftline tables interactions
              driftline tables --json
    """
    described = describe(open_store())
    if name is not None:
        described = [table for table in described if table["name"] == name]
        if not described:
            raise UsageError(f"there is no table or view {name}; `driftline tables` lists them")
    if as_json:
        emit_json(described)
    elif markdown:
        emit(reference(described))
    elif name is not None:
        (table,) = described
        columns = [(c["name"], c["type"], c["comment"]) for c in table["columns"]]
        print_table(("column", "type", "meaning"), columns)
    else:
        print_table(
            ("name", "kind", "columns"),
            [
                (
                    t["name"],
                    "view" if t["view"] else "table",
                    ", ".join(c["name"] for c in t["columns"]),
                )
                for t in described
            ],
        )


def describe(store: Store) -> list[Row]:
    """Every view and table with its columns, views first."""
    views = set(store.query(_VIEWS)["name"])
    found: dict[str, list[Row]] = {}
    for row in store.query(_TABLES).iter_rows(named=True):
        column = {key: row[key] for key in ("name", "type", "comment")}
        found.setdefault(row["table"], []).append(column)
    return [
        {"name": table, "view": table in views, "columns": found[table]}
        for table in sorted(found, key=lambda table: (table not in views, table))
    ]


def reference(described: Iterable[Row]) -> str:
    """Views and what their columns mean, as Markdown."""
    parts = []
    for table in described:
        if table["view"]:
            rows = [
                f"| `{c['name']}` | {c['type'].replace('|', '/')} | {c['comment']} |"
                for c in table["columns"]
            ]
            parts.append(
                "\n".join(
                    (
                        f"### {table['name']}\n",
                        "| column | type | meaning |",
                        "|---|---|---|",
                        *rows,
                    )
                )
            )
    return "\n\n".join(parts)


def interaction(
    name: Annotated[str, typer.Argument(metavar="ID", help="interaction_id, or a trace id.")],
    as_json: Json = False,
) -> None:
    """Show everything known of an interaction, in order. Exit 1 when it is not stored.

    Examples: driftline interaction 4bf92f3577b34da6a3ce929d0e0e4736
              driftline interaction ID --json
    """
    found = _lookup().interaction(name)
    if found is None:
        raise NotFound(f"no interaction {name} is stored")
    _show(found, as_json)
    if not as_json:
        session_id = found["interactions"][0]["session_id"]
        say(f"the whole conversation: driftline session {session_id}")


def session(
    name: Annotated[str, typer.Argument(metavar="ID", help="session_id.")],
    as_json: Json = False,
) -> None:
    """Show a conversation with its interactions and everything in them. Exit 1 when not stored.

    Examples: driftline session s-17
              driftline session s-17 --json
    """
    found = _lookup().session(name)
    if found is None:
        raise NotFound(f"no session {name} is stored")
    _show(found, as_json)


def slo_command(
    file: Annotated[Path, typer.Argument(help="Objectives in OpenSLO's form (YAML).")],
    as_json: Json = False,
) -> None:
    """Show what is kept of service level objectives. Exit 1 when an error budget is used up.

    A document of the file names the objective (metadata.name), the agent (spec.service; each agent
    when left out), the days (spec.timeWindow) and the target: the share of the interactions with
    known success that succeed. `driftline publish --slo FILE` has Grafana watch the budgets.

    Example: driftline slo objectives.yaml --json
    """
    from dashboards import queries, slo

    objectives = slo.read(file)
    query = queries.render(
        "report.attainment",
        {"to": int(time.time())},
        rows={"objectives": slo.attainment_rows(objectives)},
    )
    rows = list(open_store().query(query.sql, query.parameters).iter_rows(named=True))
    if as_json:
        emit_json(rows)
    else:
        print_table(
            (
                "objective", "environment", "agent", "target", "days", "n", "attained",
                "budget left", "burn 1 h", "burn 6 h",
            ),
            [
                (
                    r["slo"], r["environment"], r["agent"], f"{r['objective']:.2%}", r["days"],
                    r["n"], f"{r['attainment']:.2%}", f"{r['budget_left']:.0%}",
                    *(None if burn is None else f"{burn:.1f}"
                      for burn in (r["burn_hour"], r["burn_six_hours"])),
                )
                for r in rows
            ],
        )  # fmt: skip
        if not rows:
            say("no interaction with known success falls under an objective")
    if any(row["budget_left"] < 0 for row in rows):
        raise typer.Exit(1)


def _show(found: Row, as_json: bool) -> None:
    # On a terminal and for programs in order of completion, which is `time`.
    found["events"].sort(key=lambda event: event["time"])
    if as_json:
        for event in found["events"]:
            event["attributes"] = json.loads(event["attributes"] or "{}")
        emit_json(found)
        return
    _print_turns(found["interactions"])
    _print_events(found["events"])
    _print_evaluations(found["evaluations"])


def _print_turns(turns: list[Row]) -> None:
    for turn in turns:
        outcome = {1: "succeeded", 0: "failed", None: "success unknown"}[turn["success"]]
        why = ": ".join(
            filter(None, (turn["failure_reason"], turn["failure_tool"], turn["failure_template"]))
        )
        head = f"{turn['interaction_id']}  {turn['agent']} {turn['agent_version']}".rstrip()
        print_table(
            ("what", "value"),
            [
                ("state", f"{turn['state']}, {outcome}" + (f" ({why})" if why else "")),
                ("environment", turn["environment"]),
                ("session, user", f"{turn['session_id']}, {turn['user_id'] or 'unknown'}"),
                (
                    "start, ms",
                    f"{_clock(turn['start'])}, {turn['duration_ms'] or 0:,.0f}",
                ),
                ("tokens in, out", (turn["input_tokens"], turn["output_tokens"])),
                ("cost $", turn["cost_usd"]),
                ("satisfaction", turn["satisfaction"]),
                ("request", turn["request"]),
                ("answer", turn["answer"]),
            ],
            title=head,
        )


def _print_events(events: list[Row]) -> None:
    print_table(
        ("time", "agent", "kind", "name or model", "status", "ms", "text"),
        [
            (
                e["time"][11:23], e["agent"], e["kind"], e["name"] or e["model"],
                e["error_type"] or e["status"], e["duration_ms"],
                e["content"] or e["error_message"] or e["tool_result"] or e["tool_arguments"],
            )
            for e in events
        ],
        title="events",
    )  # fmt: skip


def _print_evaluations(rows: list[Row]) -> None:
    if rows:
        print_table(
            ("time", "kind", "name", "by", "value", "reason", "of"),
            [
                (
                    _clock(r["time"]), r["kind"], r["name"], r["user_id"],
                    r["value"], r["reason"], r["target"],
                )
                for r in rows
            ],
            title="feedback, scores and outcomes",
        )  # fmt: skip


def _clock(moment: str) -> str:
    return moment[:19].replace("T", " ")


def _lookup() -> Lookup:
    from dashboards.lookup import Lookup

    return Lookup(open_store())
