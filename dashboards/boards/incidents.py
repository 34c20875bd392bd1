"""Panels about what goes wrong: failure groups, findings of the detectors, alerts."""

from __future__ import annotations

from typing import Final

from dashboards import panels
from dashboards.boards.judged import ENDED_HERE
from dashboards.query import SELECTED, SELECTED_AGENT, Json, annotation

EVIDENCE_PANEL_ID: Final = 72
"""The panel on which alert rules mark their states."""

STALE_MINUTES: Final = 15
"""Three heartbeats: an alert that says nothing for so long no longer counts as firing."""

LATEST_STATE: Final = """
    SELECT alert_key, argMax(kind, ts) AS kind, argMax(agent, ts) AS agent,
        argMax(severity, ts) AS severity, argMax(status, ts) AS status,
        argMax(score, ts) AS score, argMax(title, ts) AS title,
        argMax(episode_start, ts) AS episode_start, max(ts) AS last_seen
    FROM alert_events FINAL
    WHERE $__timeFilter(ts)
    GROUP BY alert_key
"""
"""One row per alert: what its latest event says."""

FIRING: Final = f"status = 'firing' AND last_seen > now64(3) - INTERVAL {STALE_MINUTES} MINUTE"


def firing_now() -> Json:
    """One number: alerts that fire."""
    return panels.stat(
        6,
        "Firing alerts",
        "Alerts whose latest event says firing and is not older than three heartbeats.",
        f"SELECT countIf({FIRING}) AS firing FROM ({LATEST_STATE}) WHERE {SELECTED_AGENT}",
        "short",
        ((None, "green"), (1, "red")),
    )


def failure_groups() -> Json:
    """Failed interactions, grouped by fingerprint."""
    return panels.table(
        60,
        "Failure groups",
        "Failed interactions of the time range that share reason, tool and message; what varies in "
        "a message (numbers, ids, dates) is masked. First and last seen within the time range.",
        f"""
        SELECT fingerprint, any(failure_reason) AS reason, any(failure_tool) AS tool,
            any(failure_template) AS template, count() AS failures,
            failures / sum(failures) OVER () AS share,
            uniqExact(session_id) AS sessions,
            arrayStringConcat(arraySort(groupUniqArray(5)(toString(agent))), ', ') AS agents,
            min(end) AS first_seen, max(end) AS last_seen,
            argMax(interaction_id, (end, interaction_id)) AS latest_example
        FROM interactions WHERE {ENDED_HERE} AND status = 'error' AND fingerprint != ''
        GROUP BY fingerprint
        ORDER BY failures DESC, fingerprint LIMIT 100
        """,
        {"share": "percentunit"},
        height=9,
        widths={"template": 380},
    )


def failures_over_time() -> Json:
    """Failed interactions by reason over time."""
    return panels.timeseries(
        61,
        "Failures per minute by reason",
        "Failed interactions per minute, by the reason of their failure.",
        f"""
        SELECT $__timeInterval(end) AS time, failure_reason AS reason,
            count() * 60 / $__interval_s AS failures
        FROM interactions WHERE {ENDED_HERE} AND status = 'error'
        GROUP BY time, reason ORDER BY time, reason
        """,
        "short",
        name="${__field.labels.reason}",
        low=0,
        stacked=True,
        interval="1m",
    )


def findings() -> Json:
    """List what the detectors found, open or closed."""
    return panels.table(
        70,
        "Findings",
        "Changes that a detector is sure about and that were open at some moment of the time "
        "range: before and after, on how many interactions it rests, and the e-value, the factor "
        "by which the data speak against 'nothing changed'.",
        f"""
        SELECT found, began, ended, severity, status, kind, environment, agent, agent_version,
            title, baseline, observed, n, e_value, finding_id
        FROM findings FINAL
        WHERE found <= $__toTime AND (ended IS NULL OR ended >= $__fromTime) AND {SELECTED}
        ORDER BY found DESC, finding_id LIMIT 100
        """,
        {"e_value": "sci"},
        widths={"title": 320},
    )


def evidence() -> Json:
    """Evidence behind the alerts over time."""
    return panels.timeseries(
        EVIDENCE_PANEL_ID,
        "Detector e-value by alert",
        "The factor by which the data speak against 'nothing changed', as reported with each "
        "event of an alert; it starts when the alert fires.",
        f"""
        SELECT $__timeInterval(ts) AS time, alert_key, max(score) AS e_value
        FROM alert_events FINAL
        WHERE $__timeFilter(ts) AND {SELECTED_AGENT}
        GROUP BY time, alert_key ORDER BY time, alert_key
        """,
        "sci",
        name="${__field.labels.alert_key}",
        logarithmic=True,
        points=True,
        width=8,
    )


def alert_states() -> Json:
    """Every alert of the time range with its state."""
    return panels.table(
        71,
        "Alerts",
        "State of every alert with an event in the time range. Silent: it fired, and then neither "
        "a heartbeat nor an end arrived, so the detectors may be down.",
        f"""
        SELECT multiIf({FIRING}, 'firing', status = 'firing', 'silent', 'resolved') AS state,
            severity, kind, agent, title, episode_start AS since, last_seen, score, alert_key
        FROM ({LATEST_STATE})
        WHERE {SELECTED_AGENT}
        ORDER BY state = 'resolved', severity DESC, since DESC LIMIT 100
        """,
        {"score": "sci"},
        width=16,
        widths={"title": 280},
    )


def grafana_alerts() -> Json:
    """Grafana's own view of the published rules."""
    return panels.alert_list(
        73,
        "Grafana alerts",
        "What the published rules make of it: the same alerts, and the components that went quiet.",
        '{source="driftline"}',
    )


def alert_annotations() -> Json:
    """Alerts as ranges over every time series; an open end while firing."""
    return annotation(
        "Agent alerts",
        "red",
        f"""
        SELECT min(ts) AS time, if(argMax(status, ts) = 'resolved', max(ts), NULL) AS timeEnd,
            argMax(title, ts) AS title, argMax(description, ts) AS text,
            concat(argMax(kind, ts), ',', argMax(agent, ts), ',', toString(argMax(severity, ts)))
                AS tags
        FROM alert_events FINAL
        WHERE $__timeFilter(ts) AND {SELECTED_AGENT}
        GROUP BY alert_key, episode_start
        ORDER BY time
        """,
    )
