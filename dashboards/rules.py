"""Alert rules: Grafana evaluates them every minute against stored state, and notifies.

One list of `Rule` is the source of both forms: the body of Grafana's provisioning API and the
provisioning file. The first statement of a rule returns one row per alert instance: string columns
are its labels and the single number is compared with the threshold. Further statements give
numbers for the text of the notification; Grafana matches them by their labels.

If the store is away, rules on findings keep their last state instead of firing or resolving
everything. That would hide an outage, so the deadman rule is published with them and fires both
when a component is quiet and when nothing can be read at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from dashboards import slo
from dashboards.boards import links
from dashboards.boards.incidents import FINDINGS_PANEL_ID
from dashboards.queries import Rows, render
from dashboards.query import DATASOURCE_UID, PLUGIN, TABLE, Json, raw_target

FOLDER_UID: Final = "driftline"
INTERVAL_SECONDS: Final = 60
QUIET_SECONDS: Final = 300

COMPONENTS: Final = ("processors",)
"""Components that are expected to give signs of life; a part of them may run elsewhere or not."""

LABELS: Final[dict[str, str]] = {"source": "driftline", "team": "agents"}
"""On every rule, for routing."""

SEVERITIES: Final[dict[str, Rows]] = {
    "page": [("page",), ("critical",)],
    "notice": [("notice",), ("warning",), ("info",)],
}
"""Which severities of findings a rule stands for."""

_EXPRESSION: Final[Json] = {"type": "__expr__", "uid": "__expr__"}
_ORG: Final = 1

_FINDING_STEPS: Final = """\
1. Open the panel; the finding says since when, how much, and on how many interactions it rests.
2. The failure groups show what fails; compare before and since, and read an example.
3. Did the agent's version, its model, a tool or its prompt change at that time? If so, roll back.
4. If the new level is right, accept it: `driftline findings accept ID`."""

_BURN_STEPS: Final = """\
1. Open the agent's dashboard: which version, tool or reason fails more than before?
2. Is there a finding for it? Then it says since when and what is behind it.
3. Is the objective too strict for this agent? Change the file of objectives and publish again."""

_DEADMAN_STEPS: Final = """\
1. Is the component running? Look at its log, then restart it: nothing is lost or counted twice.
2. Several components at once, or DatasourceError: ClickHouse or the network between is away.
3. `senders of ...`: the gateway, the receiver or everything that sends to them is away.
Until it is back, no news from the agents is not good news."""

_QUIET_STEPS: Final = """\
1. Does the agent still run, and do its users reach it?
2. Does it still send? `driftline doctor` and the senders' own logs say what is refused.
3. If it was stopped on purpose, silence the alert for its agent; it ends by itself within a day."""

_PIPELINE_STEPS: Final = """\
1. Dead letters: `driftline deadletters list` says what is wrong with the lines and whose they are.
2. Records waiting or stations behind: is a worker down, or is there too much traffic for them?
3. Records missing in the books: `driftline accounting` says which; keep Kafka's log until then."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert rule; see Grafana's documentation for the states.

    Parameters
    ----------
    uid, title, group
        Its names; the uid is stable.
    statements
        Names of statements; the first is compared with ``above``, the others are numbers for the
        text under the last part of their names.
    lookback_s
        Time range of the statements, s.
    above
        The instance fires when its number is above.
    summary, description, steps
        Texts; templates of Grafana.
    board, panel_id
        Where it is shown.
    pending, keep_firing
        How long it must last to fire, and how long it keeps firing.
    no_data, error
        States when nothing, or an error, comes back.
    unload
        Below which it stops firing; at ``above`` when not given.
    labels
        Further fixed labels.
    tables
        Tables that the statements need.
    """

    uid: str
    title: str
    group: str
    statements: tuple[str, ...]
    lookback_s: int
    above: float
    summary: str
    description: str
    steps: str
    board: str
    panel_id: int | None = None
    pending: str = "0s"
    keep_firing: str = "5m"
    no_data: Literal["OK", "Alerting"] = "OK"
    error: Literal["KeepLast", "Alerting"] = "KeepLast"
    unload: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Rows] = field(default_factory=dict)

    def rows(self) -> dict[str, Rows]:
        """Tables for `dashboards.queries.render`."""
        return dict(self.tables)


def _finding_rule(severity: str) -> Rule:
    return Rule(
        uid=f"driftline-finding-{severity}",
        title=f"Agent finding ({severity})",
        group="findings",
        statements=tuple(
            f"rules.{name}" for name in ("findings", "baseline", "observed", "n", "e_value")
        ),
        lookback_s=172_800,
        above=0,
        summary="{{ $labels.agent }} ({{ $labels.environment }}): {{ $labels.kind }} since"
        " {{ $labels.since }}; {{ $labels.cause }}",
        description='From {{ printf "%.3g" $values.baseline.Value }} to'
        ' {{ printf "%.3g" $values.observed.Value }} on {{ printf "%.0f" $values.n.Value }}'
        ' interactions; the data are {{ printf "%.0e" $values.e_value.Value }} times likelier than'
        " if nothing had changed. First cause: {{ $labels.cause }}. Finding"
        " {{ $labels.finding_id }}: `driftline findings show {{ $labels.finding_id }}`.",
        steps=_FINDING_STEPS,
        board=links.INCIDENTS,
        panel_id=FINDINGS_PANEL_ID,
        labels={"severity": severity},
        tables={"severities": SEVERITIES[severity]},
    )


def _burn_rule(severity: str, slos: Sequence[slo.Slo]) -> Rule:
    windows = slo.BURN_WINDOWS[severity]
    return Rule(
        uid=f"driftline-slo-{severity}",
        title=f"Error budget burns too fast ({severity})",
        group="slo-burn",
        statements=("rules.burn",),
        lookback_s=max(long for long, _, _ in windows) + 60,
        above=1,
        unload=0.9,
        summary="{{ $labels.agent }} ({{ $labels.environment }}) uses up the error budget of"
        " {{ $labels.slo }}",
        description='{{ printf "%.1f" $values.A.Value }} times the burn rate at which this alert'
        " begins, over a long and a short window.",
        steps=_BURN_STEPS,
        board=links.AGENT,
        panel_id=11,
        pending="1m",
        labels={"severity": severity},
        tables={"objectives": slo.burn_rows(slos, severity)},
    )


def _deadman(components: Sequence[str]) -> Rule:
    if not components:
        raise ValueError("a deadman rule needs at least one component")
    return Rule(
        uid="driftline-deadman",
        title="Component without a sign of life",
        group="deadman",
        statements=("rules.deadman",),
        lookback_s=21_600,
        above=QUIET_SECONDS,
        summary="driftline: no sign of life of {{ $labels.component }}",
        description='Last one {{ printf "%.0f" $values.A.Value }} s ago (86400: none within'
        " six hours).",
        steps=_DEADMAN_STEPS,
        board=links.PIPELINE,
        panel_id=84,
        keep_firing="0s",
        no_data="Alerting",
        error="Alerting",
        labels={"severity": "page"},
        tables={"components": [(name,) for name in components]},
    )


_QUIET_AGENT: Final = Rule(
    uid="driftline-quiet-agent",
    title="Agent gone quiet",
    group="deadman",
    statements=("rules.quiet_agents",),
    lookback_s=86_400,
    above=0.9,
    unload=0.5,
    summary="{{ $labels.agent }} ({{ $labels.environment }}) has gone quiet",
    description="{{ humanizePercentage $values.A.Value }} of the interactions it usually has in"
    " half an hour are missing.",
    steps=_QUIET_STEPS,
    board=links.OVERVIEW,
    panel_id=13,
    pending="5m",
    labels={"severity": "notice"},
)

_PIPELINE: Final = Rule(
    uid="driftline-pipeline",
    title="Pipeline not healthy",
    group="pipeline",
    statements=("rules.pipeline",),
    lookback_s=86_400,
    above=1,
    unload=0.8,
    summary="driftline: {{ $labels.sign }}",
    description='{{ printf "%.1f" $values.A.Value }} times what is tolerable.',
    steps=_PIPELINE_STEPS,
    board=links.PIPELINE,
    panel_id=80,
    pending="10m",
    labels={"severity": "notice"},
)


def all_rules(
    components: Sequence[str] = COMPONENTS, slos: Sequence[slo.Slo] = ()
) -> tuple[Rule, ...]:
    """Every rule, in order of their groups; those on error budgets only with objectives.

    Parameters
    ----------
    components
        Names under which heartbeats are expected. One that never spoke fires, too.
    slos
        Objectives, see `dashboards.slo.read`.
    """
    burning = tuple(_burn_rule(severity, slos) for severity in slo.BURN_WINDOWS) if slos else ()
    findings = tuple(_finding_rule(severity) for severity in SEVERITIES)
    return (*findings, *burning, _deadman(components), _QUIET_AGENT, _PIPELINE)


def rule_groups(
    components: Sequence[str] = COMPONENTS, slos: Sequence[slo.Slo] = (), runbook: str = ""
) -> list[Json]:
    """Bodies for ``PUT /api/v1/provisioning/folder/driftline/rule-groups/<title>``.

    Parameters
    ----------
    components, slos
        As in `all_rules`.
    runbook
        Address of a page with a section per rule, named by its uid; left out when empty. The steps
        themselves are always in the annotation ``runbook``.
    """
    found = all_rules(components, slos)
    return [
        {
            "title": group,
            "folderUid": FOLDER_UID,
            "interval": INTERVAL_SECONDS,
            "rules": [body(rule, runbook) for rule in found if rule.group == group],
        }
        for group in dict.fromkeys(rule.group for rule in found)
    ]


def provisioning_file(
    components: Sequence[str] = COMPONENTS, slos: Sequence[slo.Slo] = (), runbook: str = ""
) -> Json:
    """Give the same groups as a file for Grafana's folder ``provisioning/alerting``.

    Two fields have other names there than over HTTP. Grafana replaces ``$`` in labels and titles of
    such files, which have none, and leaves queries and annotations as they are.
    """
    groups = [
        {
            "orgId": _ORG,
            "name": group["title"],
            "folder": "Driftline",
            "interval": f"{INTERVAL_SECONDS}s",
            "rules": [
                {_IN_FILES.get(k, k): v for k, v in rule.items() if k not in _PLACE}
                for rule in group["rules"]
            ],
        }
        for group in rule_groups(components, slos, runbook)
    ]
    return {"apiVersion": 1, "groups": groups}


_PLACE: Final = ("orgID", "folderUID", "ruleGroup")  # the file says it once per group
_IN_FILES: Final = {
    "keep_firing_for": "keepFiringFor",
    "missingSeriesEvalsToResolve": "missing_series_evals_to_resolve",
}


def body(rule: Rule, runbook: str = "") -> Json:
    """One rule as the provisioning API takes it."""
    annotations = {
        "summary": rule.summary,
        "description": rule.description,
        "runbook": rule.steps,
        "__dashboardUid__": rule.board,
    }
    if rule.panel_id is not None:
        annotations["__panelId__"] = str(rule.panel_id)
    if runbook:
        annotations["runbook_url"] = f"{runbook}#{rule.uid}"
    first, *others = rule.statements
    return {
        "uid": rule.uid,
        "title": rule.title,
        "orgID": _ORG,
        "folderUID": FOLDER_UID,
        "ruleGroup": rule.group,
        "condition": "C",
        "for": rule.pending,
        "keep_firing_for": rule.keep_firing,
        "missingSeriesEvalsToResolve": 3,
        "noDataState": rule.no_data,
        "execErrState": rule.error,
        "isPaused": False,
        "labels": {**LABELS, **rule.labels},
        "annotations": annotations,
        "data": [
            _query("A", first, rule),
            *(_query(name.split(".")[1], name, rule) for name in others),
            _threshold(rule),
        ],
    }


def _query(ref_id: str, statement: str, rule: Rule) -> Json:
    datasource = {"type": PLUGIN, "uid": DATASOURCE_UID}
    sql = render(statement, rows=rule.rows(), rule=True).sql
    return {
        "refId": ref_id,
        "queryType": "",
        "datasourceUid": DATASOURCE_UID,
        "relativeTimeRange": {"from": rule.lookback_s, "to": 0},
        "model": {
            **raw_target(sql, TABLE, ref_id, datasource),
            "intervalMs": 1000,
            "maxDataPoints": 43200,
        },
    }


def _threshold(rule: Rule) -> Json:
    condition: Json = {
        "type": "query",
        "evaluator": {"type": "gt", "params": [rule.above]},
        "operator": {"type": "and"},
        "query": {"params": ["C"]},
        "reducer": {"type": "last", "params": []},
    }
    if rule.unload is not None:
        condition["unloadEvaluator"] = {"type": "lt", "params": [rule.unload]}
    return {
        "refId": "C",
        "queryType": "",
        "datasourceUid": "__expr__",
        "relativeTimeRange": {"from": 0, "to": 0},
        "model": {
            "refId": "C",
            "datasource": dict(_EXPRESSION),
            "type": "threshold",
            "expression": "A",
            "conditions": [condition],
            "intervalMs": 1000,
            "maxDataPoints": 43200,
        },
    }
