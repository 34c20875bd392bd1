-- Alerts are findings that stand for an incident, with what people decided about them.
CREATE OR REPLACE VIEW alerts AS
SELECT f.finding_id AS alert_key, f.kind AS kind, f.signal AS signal, f.environment AS environment,
    f.agent AS agent, f.agent_version AS agent_version, f.tool AS tool, f.cluster AS cluster,
    f.severity AS severity, if(f.status = 'recovered', 'resolved', 'firing') AS state,
    multiIf(f.status = 'recovered', 'recovered', acted.acknowledged > 0
            OR f.cluster != '' AND grouped.acked >= f.found, 'acknowledged',
        toString(f.status)) AS status,
    nullIf(greatest(coalesce(acted.muted_until, toDateTime64(0, 3, 'UTC')),
        coalesce(grouped.muted_until, toDateTime64(0, 3, 'UTC'))),
        toDateTime64(0, 3, 'UTC')) AS muted_until,
    f.status != 'recovered' AND coalesce(acted.muted_until > now64(3)
        OR grouped.muted_until > now64(3), 0) AS muted,
    f.e_value AS score, f.title AS title, f.evidence AS description, f.causes AS causes,
    f.users AS users, f.sessions AS sessions, f.cost_usd AS cost_usd,
    f.began AS episode_start, f.found AS found, f.ended AS ended, f.members AS members
FROM (SELECT * FROM findings FINAL WHERE incident = '') AS f
LEFT JOIN
(
    SELECT subject, countIf(action IN ('ack', 'accept')) AS acknowledged,
        maxIf(until, action = 'mute') AS muted_until
    FROM finding_actions GROUP BY subject
) AS acted ON acted.subject = f.finding_id
LEFT JOIN
(
    SELECT subject, maxIf(at, action = 'ack') AS acked, maxIf(until, action = 'mute') AS muted_until
    FROM finding_actions WHERE subject != '' GROUP BY subject
) AS grouped ON grouped.subject = f.cluster
--------
ALTER TABLE alerts
    COMMENT COLUMN alert_key 'finding that stands for the incident',
    COMMENT COLUMN kind 'kind of finding',
    COMMENT COLUMN signal 'what is watched',
    COMMENT COLUMN environment 'deployment environment',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN agent_version 'version, where the finding is about one',
    COMMENT COLUMN tool 'tool, where it is about one',
    COMMENT COLUMN cluster 'failure cluster, where it is about one',
    COMMENT COLUMN severity 'page or notice',
    COMMENT COLUMN state 'firing or resolved',
    COMMENT COLUMN status 'open, acknowledged, regressed or recovered',
    COMMENT COLUMN muted_until 'until when nothing is sent',
    COMMENT COLUMN muted '1 while nothing is sent',
    COMMENT COLUMN score 'e-value: factor by which the data speak against no change',
    COMMENT COLUMN title 'what happened, in one line',
    COMMENT COLUMN description 'JSON: what fails most',
    COMMENT COLUMN causes 'JSON: attribute, value, lift with interval, share',
    COMMENT COLUMN users 'users hit since it began',
    COMMENT COLUMN sessions 'sessions hit since it began',
    COMMENT COLUMN cost_usd 'cost of the interactions hit',
    COMMENT COLUMN episode_start 'estimated start, event time',
    COMMENT COLUMN found 'when it was decided, event time',
    COMMENT COLUMN ended 'when it was over, event time',
    COMMENT COLUMN members 'findings of the same incident'
