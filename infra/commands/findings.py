"""findings, clusters, compare, watching: what changed, since when, why, and what to make of it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from infra.commands import open_store
from infra.console import Json, emit_json, print_table, say
from ingest.core.errors import NotFound, UsageError

Agent = Annotated[str | None, typer.Option(help="Only this agent.")]
Environment = Annotated[str | None, typer.Option(help="Only this environment.")]
Since = Annotated[str | None, typer.Option(metavar="AGE", help="Only later ones: 90s, 12h, 7d.")]
FindingId = Annotated[str, typer.Argument(help="Id of a finding, or how it begins.")]
ClusterId = Annotated[str, typer.Argument(help="Id of a cluster, or how it begins.")]
Note = Annotated[str, typer.Option(help="Why, for others.")]

_FINDINGS = """
SELECT finding_id, kind, signal, severity,
    multiIf(f.status = 'recovered', 'recovered',
        acted.muted_until > now64(3) OR grouped.muted_until > now64(3), 'muted',
        acted.acknowledged > 0 OR f.cluster != '' AND grouped.acked >= f.found, 'acknowledged',
        toString(f.status)) AS status,
    environment, agent, agent_version, attribute, value, tool, cluster, began, found, ended,
    baseline, observed, low, high, unit, n, e_value, title, causes, examples, members, incident,
    previous, users, sessions, cost_usd, evidence
FROM (SELECT * FROM findings FINAL) AS f
LEFT JOIN
(
    SELECT subject, countIf(action IN ('ack', 'accept')) AS acknowledged,
        maxIf(until, action = 'mute') AS muted_until
    FROM finding_actions GROUP BY subject
) AS acted ON acted.subject = f.finding_id
LEFT JOIN
(
    SELECT subject, maxIf(at, action = 'ack') AS acked, maxIf(until, action = 'mute') AS muted_until
    FROM finding_actions GROUP BY subject
) AS grouped ON grouped.subject = f.cluster
WHERE {where}
ORDER BY found DESC, finding_id
"""

_CLUSTERS = """
SELECT c.environment AS environment, c.agent AS agent, c.cluster AS cluster, c.name AS name,
    multiIf(acted.resolved >= c.last_seen, 'resolved', acted.muted_until > now64(3), 'muted',
        acted.acked > greatest(c.first_seen, back.found)
            AND c.status IN ('new', 'open', 'regressed'), 'acknowledged',
        toString(c.status)) AS status,
    size, if(opportunities > 0, size / opportunities, NULL) AS rate, opportunities,
    first_seen, last_seen, episode, agent_versions AS versions, reason, tool, template, examples,
    merged_into, parents,
    if(hit.known = 0, NULL, hit.users) AS users, if(hit.known = 0, NULL, hit.sessions) AS sessions,
    hit.cost_usd AS cost_usd, hit.reasons AS reasons, hit.tools AS tools
FROM (SELECT * FROM clusters FINAL) AS c
LEFT JOIN
(
    SELECT m.cluster AS of, count() AS known, uniqExactIf(r.user_id, r.user_id != '') AS users,
        uniqExact(r.session_id) AS sessions, sum(r.cost_usd) AS cost_usd,
        arraySort(groupUniqArray(10)(toString(r.failure_reason))) AS reasons,
        arraySort(groupUniqArrayIf(10)(toString(r.failure_tool), r.failure_tool != '')) AS tools
    FROM (SELECT * FROM cluster_members FINAL WHERE cluster != '') AS m
    INNER JOIN interactions AS r ON r.interaction_id = m.interaction_id
    GROUP BY of
) AS hit ON hit.of = c.cluster
LEFT JOIN
(
    SELECT subject, maxIf(at, action = 'resolve') AS resolved, maxIf(at, action = 'ack') AS acked,
        maxIf(until, action = 'mute') AS muted_until
    FROM finding_actions GROUP BY subject
) AS acted ON acted.subject = c.cluster
LEFT JOIN
(
    SELECT cluster, max(found) AS found FROM findings WHERE signal = 'cluster_regressed'
    GROUP BY cluster
) AS back ON back.cluster = c.cluster
WHERE {where}
ORDER BY status IN ('merged', 'resolved', 'muted'), coalesce(users, 0) DESC, size DESC, cluster
"""

_LINEAGE = """
SELECT at, environment, agent, what, cluster, source FROM cluster_lineage FINAL
WHERE {where} ORDER BY at, cluster, source
"""

findings_app = typer.Typer(
    help="What changed: open, acknowledged, regressed and recovered findings.\n\n"
    "Examples: driftline findings list --since 24h\n"
    "driftline findings show 3f2a\n"
    "driftline findings mute 3f2a --for 12h",
    invoke_without_command=True,
)
clusters_app = typer.Typer(
    help="Kinds of failure with an identity that lasts.\n\n"
    "Examples: driftline clusters list --agent support\n"
    "driftline clusters show 6c2b3c493e22\n"
    "driftline clusters resolve 6c2b3c493e22",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(findings_app, name="findings")
    app.add_typer(clusters_app, name="clusters")
    app.command()(compare)
    app.command()(watching)


# -- findings --------------------------------------------------------------------------------------


@findings_app.callback()
def findings(
    context: typer.Context,
    since: Since = None,
    agent: Agent = None,
    environment: Environment = None,
    as_json: Json = False,
) -> None:
    """List findings, newest first; without a further command, as `list` does."""
    if context.invoked_subcommand is None:
        list_findings(since, agent, environment, as_json=as_json)


@findings_app.command("list")
def list_findings(
    since: Since = None,
    agent: Agent = None,
    environment: Environment = None,
    members: Annotated[
        bool, typer.Option("--members", help="Also those that another finding stands for.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List findings, newest first, one per incident.

    Example: driftline findings list --since 7d --agent support --json
    """
    where, given = _where(agent, environment, "incident = ''" if not members else "1")
    if since is not None:
        where += " AND f.found >= {since:DateTime64(3)}"
        given["since"] = _ago(since)
    rows = _findings(where, given)
    if as_json:
        emit_json(rows)
        return
    print_table(
        ("id", "found", "status", "severity", "what", "cause", "users"),
        [
            (r["finding_id"], _clock(r["found"]), r["status"], r["severity"], r["title"],
             cause_text(r["causes"]), r["users"])
            for r in rows
        ],
    )  # fmt: skip
    if not rows:
        say("no findings")


@findings_app.command("show")
def show_finding(finding: FindingId, as_json: Json = False) -> None:
    """Show one finding with its causes, failures, examples and members. Exit 1 without it.

    Example: driftline findings show 3f2a9c0d1e5b7a64
    """
    row = _one(_findings("startsWith(finding_id, {id:String})", {"id": finding}), finding)
    if as_json:
        emit_json(row)
        return
    say(row["title"])
    print_table(("", "value"), [(k, v) for k, v in row.items() if not isinstance(v, list)])
    print_table(
        ("cause", "value", "lift", "95 % interval", "share of those hit"),
        [
            (c["attribute"], c["value"], f"{c['lift']:.3g}", f"{c['low']:.3g}-{c['high']:.3g}",
             f"{c['share']:.0%}")
            for c in row["causes"]
        ],
    )  # fmt: skip
    for name in ("examples", "members"):
        if row[name]:
            say(f"{name}: {', '.join(row[name])}")


@findings_app.command("ack")
def ack(finding: FindingId, note: Note = "", as_json: Json = False) -> None:
    """Say that somebody looks after a finding.

    Example: driftline findings ack 3f2a9c0d1e5b7a64 --note "rolled back v15"
    """
    _decide_finding(finding, "ack", note, None, as_json)


@findings_app.command("accept")
def accept(finding: FindingId, note: Note = "", as_json: Json = False) -> None:
    """Take the new level of a finding's streams for normal: it ends, and they learn anew.

    A version is judged no more by the measure of the finding.

    Example: driftline findings accept 3f2a9c0d1e5b7a64
    """
    _decide_finding(finding, "accept", note, None, as_json)


@findings_app.command("mute")
def mute(
    finding: FindingId,
    length: Annotated[str, typer.Option("--for", help="How long: 30m, 12h, 7d.")] = "24h",
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Send nothing about a finding for a while.

    Example: driftline findings mute 3f2a9c0d1e5b7a64 --for 12h
    """
    _decide_finding(finding, "mute", note, length, as_json)


@findings_app.command("simulate")
def simulate(
    signal: Annotated[
        str | None, typer.Option(help="Only findings of this signal; `driftline watching` lists.")
    ] = None,
    since: Annotated[str, typer.Option(metavar="AGE", help="How far back: 12h, 30d.")] = "30d",
    agent: Agent = None,
    pages_per_week: Annotated[
        float | None, typer.Option(help="Try this budget of false pages.", min=0.001)
    ] = None,
    min_effect: Annotated[
        float | None, typer.Option(help="Try this smallest change of the failure rate.", min=0.0)
    ] = None,
    warm_up: Annotated[
        float | None, typer.Option(help="Try a baseline of so many interactions.", min=10.0)
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what detection would have found in the past, with other settings. Writes nothing.

    Detection restarts at the beginning, so the first interactions only make its baselines.

    Examples: driftline findings simulate --signal failure --since 30d
              driftline findings simulate --since 7d --pages-per-week 0.2 --json
    """
    from dataclasses import replace

    from infra.settings import load
    from infra.settings.detection import detection_config
    from processors.signals import BY_NAME
    from processors.stations.rehearsal import rehearse, told

    if signal is not None and signal not in BY_NAME:
        raise UsageError(f"there is no signal {signal}; signals: {', '.join(sorted(BY_NAME))}")
    tried: dict[str, Any] = {
        "pages_per_week": pages_per_week,
        "min_effect": min_effect,
        "warm_up": warm_up,
    }
    config = detection_config(load().detection)
    config = replace(config, **{k: v for k, v in tried.items() if v is not None})
    found = [
        {**row, "causes": json.loads(row["causes"] or "[]")}
        for row in rehearse(open_store(), config, _ago(since), datetime.now(UTC))
    ]
    shown = told(found, signal, agent)
    if as_json:
        emit_json(shown)
        return
    print_table(
        ("found", "began", "severity", "signal", "what", "lasted"),
        [
            (_clock(r["found"]), _clock(r["began"]), r["severity"], r["signal"], r["title"],
             r["ended"] and str(r["ended"] - r["began"]))
            for r in shown
        ],
    )  # fmt: skip
    pages = sum(row["severity"] == "page" for row in shown)
    say(f"{pages} would have paged, {len(shown) - pages} would have been notices")


def _decide_finding(
    finding: str, action: str, note: str, length: str | None, as_json: bool
) -> None:
    row = _one(_findings("startsWith(finding_id, {id:String})", {"id": finding}), finding)
    _decide(row["finding_id"], action, note, length, as_json)


# -- clusters --------------------------------------------------------------------------------------


@clusters_app.command("list")
def list_clusters(
    agent: Agent = None, environment: Environment = None, as_json: Json = False
) -> None:
    """List clusters, those that hit most users first.

    Example: driftline clusters list --agent support --json
    """
    rows = _clusters(*_where(agent, environment, "1"))
    if as_json:
        emit_json(rows)
        return
    print_table(
        ("cluster", "agent", "name", "status", "failures", "users", "cost $", "last seen"),
        [
            (r["cluster"], r["agent"], r["name"], r["status"], r["size"], r["users"],
             r["cost_usd"] and f"{r['cost_usd']:.4g}", _clock(r["last_seen"]))
            for r in rows
        ],
    )  # fmt: skip
    if not rows:
        say("no clusters: none of the failures repeats yet")


@clusters_app.command("show")
def show_cluster(cluster: ClusterId, as_json: Json = False) -> None:
    """Show one cluster. Exit 1 without it.

    Example: driftline clusters show 6c2b3c493e22 --json
    """
    row = _one(_clusters("startsWith(c.cluster, {id:String})", {"id": cluster}), cluster)
    if as_json:
        emit_json(row)
        return
    print_table(("", row["name"]), [(k, v) for k, v in row.items() if v not in ("", [], None)])


def _cluster_command(action: str, what: str) -> None:
    def command(cluster: ClusterId, note: Note = "", as_json: Json = False) -> None:
        row = _one(_clusters("startsWith(c.cluster, {id:String})", {"id": cluster}), cluster)
        length = "7d" if action == "mute" else None
        _decide(row["cluster"], action, note, length, as_json)

    command.__doc__ = f"{what}\n\nExample: driftline clusters {action} 6c2b3c493e22"
    clusters_app.command(action)(command)


_cluster_command("ack", "Say that somebody looks after a cluster.")
_cluster_command("resolve", "Say that a cluster is fixed; it regresses when it returns.")
_cluster_command("mute", "Send nothing about a cluster for a week.")


@clusters_app.command("lineage")
def lineage(agent: Agent = None, environment: Environment = None, as_json: Json = False) -> None:
    """List what became of clusters: born, split, merged.

    Example: driftline clusters lineage --agent support
    """
    where, given = _where(agent, environment, "1")
    rows = list(open_store().query(_LINEAGE.format(where=where), given).iter_rows(named=True))
    if as_json:
        emit_json(rows)
        return
    columns = ("at", "environment", "agent", "what", "cluster", "source")
    print_table(columns, [tuple(row[c] for c in columns) for row in rows])


# -- versions and streams --------------------------------------------------------------------------


def compare(
    agent: Annotated[str, typer.Option(help="Whose versions.")],
    baseline: Annotated[str, typer.Option(help="The version to compare with.")],
    candidate: Annotated[str, typer.Option(help="The version in question.")],
    environment: Annotated[str, typer.Option(help="Where.")] = "production",
    since: Since = None,
    tasks: Annotated[
        str, typer.Option(metavar="ATTRIBUTE", help="Pair sessions by what it says of the task.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Compare two versions on the hours in which both had traffic. Exit 1 when one is worse.

    Exit 4 when no interaction of the agent bears a version, or the environment.

    Verdicts stay valid however often one looks. Hours of incidents that are not about a version
    are left out. With --tasks, as for a benchmark that was replayed, sessions of both versions on
    the same task are compared instead, whenever they ran.

    Examples: driftline compare --agent support --baseline v14 --candidate v15
              driftline compare --agent retail --baseline a --candidate b --tasks tau2.task_id
    """
    from processors.compare import compare_tasks, compare_versions

    start = None if since is None else _ago(since)
    of = (open_store(), environment, agent, baseline, candidate)
    found = compare_tasks(*of, tasks, start) if tasks else compare_versions(*of, start)
    if as_json:
        emit_json(found["measures"])
    else:
        print_table(
            ("measure", "verdict", "effect", "interval", "unit", "n", "needed"),
            [
                (m["measure"], m["verdict"], _number(m["effect"]),
                 f"{_number(m['low'])} to {_number(m['high'])}", m["unit"],
                 f"{m['n']['baseline']} / {m['n']['candidate']}", m["needed"])
                for m in found["measures"]
            ],
        )  # fmt: skip
        say(
            f"{found['tasks']} tasks that both did" if tasks
            else f"{found['hours']} hours with traffic of both;"
            f" {found['excluded']} left out because of incidents"
        )  # fmt: skip
    if any(m["verdict"] == "worse" for m in found["measures"]):
        raise typer.Exit(1)


def watching(as_json: Json = False) -> None:
    """List the streams that detection follows: warm-up, last value, and what it skipped as late.

    Example: driftline watching --json
    """
    from infra.settings import load
    from infra.settings.detection import detection_config
    from infra.settings.results import results_config
    from processors.watching import watch

    settings = load()
    judged, detection = results_config(settings.results), detection_config(settings.detection)
    found = watch(open_store(reader=False), judged, detection)
    if as_json:
        emit_json(found)
        return
    print_table(
        ("signal", "environment", "agent", "of", "state", "baseline", "last value"),
        [
            (s["signal"], s["environment"], s["agent"], s["value"],
             "changed" if s["changed"] else "watched" if s["warm"] else f"{s['progress']:.0%}",
             _number(s["baseline"]), s["last_value"])
            for s in found["streams"]
        ],
    )  # fmt: skip
    print_table(
        ("station", "sealed until", "buckets", "streams", "interactions"),
        [tuple(s[k] for k in ("station", "position", "buckets", "streams", "interactions"))
         for s in found["stations"]],
    )  # fmt: skip
    late = found["late"]
    say(f"{late} interaction{'s' if late != 1 else ''} came late and were skipped by detection")


# -- how -------------------------------------------------------------------------------------------


def cause_text(causes: list[dict[str, Any]]) -> str | None:
    """The first cause in one phrase."""
    return f"{causes[0]['attribute']} {causes[0]['value']}" if causes else None


def _where(agent: str | None, environment: str | None, first: str) -> tuple[str, dict[str, Any]]:
    parts, given = [first], {}
    for name, value in (("agent", agent), ("environment", environment)):
        if value is not None:
            parts.append(f"{name} = {{{name}:String}}")
            given[name] = value
    return " AND ".join(parts), given


def _findings(where: str, given: dict[str, Any]) -> list[dict[str, Any]]:
    rows = open_store().query(_FINDINGS.format(where=where), given).iter_rows(named=True)
    return [
        row | {name: json.loads(row[name] or "[]") for name in ("causes", "evidence")}
        for row in rows
    ]


def _clusters(where: str, given: dict[str, Any]) -> list[dict[str, Any]]:
    where = where.replace("agent =", "c.agent =").replace("environment =", "c.environment =")
    return list(open_store().query(_CLUSTERS.format(where=where), given).iter_rows(named=True))


def _one(rows: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    if not rows:
        raise NotFound(f"there is no {wanted}; `driftline findings` and `clusters list` list ids")
    if len(rows) > 1:
        raise UsageError(f"{wanted} begins {len(rows)} ids; write more of it")
    return rows[0]


def _decide(subject: str, action: str, note: str, length: str | None, as_json: bool) -> None:
    import polars as pl

    now = datetime.now(UTC)
    until = None if length is None else now + (now - _ago(length))
    row = {"subject": subject, "action": action, "at": now, "until": until, "note": note}
    schema = {"at": pl.Datetime("ms", "UTC"), "until": pl.Datetime("ms", "UTC")}
    open_store(reader=False).insert("finding_actions", pl.DataFrame([row], schema_overrides=schema))
    if as_json:
        emit_json(row)
    else:
        say(f"{subject}: {action}" + (f" until {until:%Y-%m-%d %H:%M} UTC" if until else ""))


def _ago(age: str) -> datetime:
    from infra.commands.report import seconds

    return datetime.fromtimestamp(time.time(), UTC) - timedelta(seconds=seconds(age))


def _clock(at: datetime | None) -> str | None:
    return None if at is None else at.strftime("%Y-%m-%d %H:%M:%S")


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"
