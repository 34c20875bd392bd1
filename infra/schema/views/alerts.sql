-- Alerts are findings that stand for an incident, with what people decided about them.
CREATE OR REPLACE VIEW alerts AS
SELECT f.finding_id AS alert_key, f.kind AS kind, f.signal AS signal, f.environment AS environment,
    f.agent AS agent, f.agent_version AS agent_version, f.tool AS tool, f.cluster AS cluster,
    f.severity AS severity, if(f.status = 'recovered', 'resolved', 'firing') AS state,
    multiIf(f.status = 'recovered', 'recovered', acted.acknowledged > 0, 'acknowledged',
        toString(f.status)) AS status,
    acted.muted_until AS muted_until,
    f.status != 'recovered' AND coalesce(acted.muted_until > now64(3), 0) AS muted,
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
