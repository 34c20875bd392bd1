"""Rule groups: Grafana evaluates them every minute against stored state, and notifies.

The detectors write what they know to ``alert_events``; the rule only reads it, so Grafana restarts,
replays and slow evaluations cannot lose or double an alert. A query returns one row per alert
instance: string columns are its labels and the single number is compared with the threshold.

If the store is away, the rule on detectors keeps its last state instead of firing or resolving
everything. That would hide an outage, so the deadman rule is published with it and fires both when
a component is quiet and when nothing can be read at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.boards import overview
from dashboards.boards.incidents import EVIDENCE_PANEL_ID, FIRING, LATEST_STATE
from dashboards.query import DATASOURCE_UID, PLUGIN, TABLE, Json, target

FOLDER_UID: Final = "driftline"
INTERVAL_SECONDS: Final = 60
QUIET_SECONDS: Final = 300

COMPONENTS: Final = ("processors",)
"""Components that are expected to give signs of life; a part of them may run elsewhere or not."""

LABELS: Final[dict[str, str]] = {"source": "driftline", "team": "agents"}
"""On every rule, for routing."""

_EXPRESSION: Final[Json] = {"type": "__expr__", "uid": "__expr__"}
_ORG: Final = 1

_DETECTOR_RUNBOOK: Final = """\
1. Open the dashboard; the finding says since when, how much, and on how many interactions it rests.
2. Failure groups show what fails; compare the share before and after, and read the latest example.
3. Did the agent's version, its model, a tool or its prompt change at that time? If so, roll back.
4. If the new level is right, nothing is to be done: the alert ends when the detector has settled.
To silence it meanwhile, silence the alert by its label alert_key; do not pause the rule."""

_DEADMAN_RUNBOOK: Final = """\
1. Is the component running? Look at its log, then restart it: nothing is lost or counted twice.
2. Several components at once, or DatasourceError: ClickHouse or the network between is away.
3. It runs but is quiet: look at the pipeline dashboard for waiting records and full disks.
Until it is back, no news from the agents is not good news."""


def rule_groups(components: Sequence[str] = COMPONENTS) -> list[Json]:
    """Bodies for ``PUT /api/v1/provisioning/folder/driftline/rule-groups/<title>``.

    Parameters
    ----------
    components
        Names under which heartbeats are expected, see `deadman`.
    """
    return [
        _group("detectors", [detectors()]),
        _group("deadman", [deadman(components)]),
    ]


def detectors() -> Json:
    """One instance per alert of the detectors, firing while its value is above 0.

    Resolved alerts stay with value 0, so that they resolve by evaluation and not by vanishing. An
    alert that fired and then went silent for three heartbeats counts as 0 too.
    """
    return _rule(
        "driftline-detector",
        "Agent detector alert",
        "detectors",
        f"""
        SELECT alert_key, kind, agent, severity,
            if({FIRING}, greatest(score, 1e-9), 0.0) AS value
        FROM ({LATEST_STATE})
        """,
        lookback=172_800,
        above=0,
        keep_firing_for="5m",
        on_no_data="OK",
        on_error="KeepLast",
        panel_id=EVIDENCE_PANEL_ID,
        summary="{{ $labels.kind }} on {{ $labels.agent }} ({{ $labels.severity }})",
        description="e-value {{ $values.A.Value }}; details: alert_key={{ $labels.alert_key }}",
        runbook=_DETECTOR_RUNBOOK,
    )


def deadman(components: Sequence[str] = COMPONENTS) -> Json:
    """One instance per component, with the seconds since its last sign of life.

    Parameters
    ----------
    components
        Expected names. The query starts from them: a component whose last heartbeat has left the
        time range would otherwise vanish, and with it its alert.
    """
    if not components:
        raise ValueError("a deadman rule needs at least one component")
    names = ", ".join("'" + c.replace("\\", "\\\\").replace("'", "\\'") + "'" for c in components)
    return _rule(
        "driftline-deadman",
        "Component without a sign of life",
        "deadman",
        f"""
        SELECT expected.component AS component,
            if(beats.component = '', 86400.0,
                toFloat64(dateDiff('second', beats.last_ts, now64(3)))) AS age_s
        FROM (SELECT arrayJoin([{names}]) AS component) AS expected
        LEFT JOIN
        (
            SELECT toString(component) AS component, max(ts) AS last_ts
            FROM heartbeats WHERE $__timeFilter(ts) GROUP BY component
        ) AS beats ON expected.component = beats.component
        """,
        lookback=3_600,
        above=QUIET_SECONDS,
        keep_firing_for="0s",
        on_no_data="Alerting",
        on_error="Alerting",
        panel_id=None,
        summary="driftline's {{ $labels.component }} gives no sign of life",
        description="last one {{ $values.A.Value }} s ago (86400: none within the last hour)",
        runbook=_DEADMAN_RUNBOOK,
    )


def _group(title: str, rules: list[Json]) -> Json:
    return {
        "title": title,
        "folderUid": FOLDER_UID,
        "interval": INTERVAL_SECONDS,
        "rules": rules,
    }


def _rule(
    uid: str,
    title: str,
    group: str,
    sql: str,
    *,
    lookback: int,
    above: float,
    keep_firing_for: str,
    on_no_data: str,
    on_error: str,
    panel_id: int | None,
    summary: str,
    description: str,
    runbook: str,
) -> Json:
    annotations = {
        "summary": summary,
        "description": description,
        "runbook": runbook,
        "__dashboardUid__": overview.UID,
    }
    if panel_id is not None:
        annotations["__panelId__"] = str(panel_id)
    return {
        "uid": uid,
        "title": title,
        "orgID": _ORG,
        "folderUID": FOLDER_UID,
        "ruleGroup": group,
        "condition": "C",
        "for": "0s",
        "keep_firing_for": keep_firing_for,
        "missingSeriesEvalsToResolve": 3,
        "noDataState": on_no_data,
        "execErrState": on_error,
        "isPaused": False,
        "labels": dict(LABELS),
        "annotations": annotations,
        "data": [_query(sql, lookback), _threshold(above)],
    }


def _query(sql: str, lookback: int) -> Json:
    datasource = {"type": PLUGIN, "uid": DATASOURCE_UID}
    return {
        "refId": "A",
        "queryType": "",
        "datasourceUid": DATASOURCE_UID,
        "relativeTimeRange": {"from": lookback, "to": 0},
        "model": {
            **target(sql, TABLE, "A", datasource),
            "intervalMs": 1000,
            "maxDataPoints": 43200,
        },
    }


def _threshold(above: float) -> Json:
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
            "conditions": [
                {
                    "type": "query",
                    "evaluator": {"type": "gt", "params": [above]},
                    "operator": {"type": "and"},
                    "query": {"params": ["C"]},
                    "reducer": {"type": "last", "params": []},
                }
            ],
            "intervalMs": 1000,
            "maxDataPoints": 43200,
        },
    }
