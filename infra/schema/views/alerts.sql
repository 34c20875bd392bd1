-- Alerts are findings that stand for an incident, with what people decided about them.
CREATE OR REPLACE VIEW alerts AS
SELECT finding_id AS alert_key, kind, signal, environment, agent, agent_version, tool, cluster,
    severity, multiIf(status IN ('recovered', 'resolved'), 'resolved', 'firing') AS state,
    if(state = 'firing' AND acted.acknowledged > 0, 'acknowledged', status) AS status,
    acted.muted_until AS muted_until, state = 'firing' AND acted.muted_until > now64(3) AS muted,
    e_value AS score, title, evidence AS description, causes, users, sessions, cost_usd,
    began AS episode_start, found, ended, members
FROM (SELECT * FROM findings FINAL WHERE incident = '') AS f
LEFT JOIN
(
    SELECT subject, countIf(action IN ('ack', 'accept')) AS acknowledged,
        maxIf(until, action = 'mute') AS muted_until
    FROM finding_actions GROUP BY subject
) AS acted ON acted.subject = f.finding_id
