-- each: {"view": "feedback", "kinds": "kind = 'feedback'", "what": "What users said: one row per user, target and name", "is": "'feedback'", "named": "'kind of feedback, such as thumbs'", "words": "'words of the user, redacted; all that were given'", "by": "'who gave it'"}
-- each: {"view": "scores", "kinds": "kind IN ('score', 'outcome')", "what": "What evaluators and outcomes say: one row per target and name", "is": "'score or outcome'", "named": "'evaluator, or what the outcome is of'", "words": "'explanation, redacted'", "by": "'who judged, empty for a program'"}
-- {what}, the latest that gives a number. A bound token speaks of what its scope admits.
-- Environment, agent, version and session are those of the target, wherever it was sent from.
CREATE OR REPLACE VIEW {view} AS
WITH (s, e, a) -> (has(['', toString(e)], substringIndex(toString(s), '/', 1)) AND (position(s, '/') = 0
    OR has(splitByChar(',', substring(toString(s), position(s, '/') + 1)), toString(a)))) AS admits
SELECT e.time AS time,
    multiIf(of = 'interaction', i.environment, of = 'session', s.environment, e.environment) AS environment,
    multiIf(of = 'interaction', i.agent, of = 'session', s.agent, e.agent) AS agent,
    multiIf(of = 'interaction', i.agent_version, of = 'session', s.agent_version, '') AS agent_version,
    e.kind AS kind, e.name AS name, e.value AS value, e.reason AS reason, e.comment AS comment,
    e.user_id AS user_id, e.target AS target, of AS target_kind,
    if(of = 'interaction', i.interaction_id, '') AS interaction_id,
    if(of = 'interaction', i.session_id, s.session_id) AS session_id
FROM
(
    SELECT target, kind, name, user_id, scope,
        argMax((v.value, v.reason, v.time, v.environment, v.agent),
            (v.value IS NOT NULL, v.time, v.event_id)) AS latest,
        latest.1 AS value, latest.2 AS reason, latest.3 AS time, latest.4 AS environment, latest.5 AS agent,
        arrayStringConcat(arrayFilter(c -> c != '', groupArray(c.comment)), '\n') AS comment
    FROM
    (
        SELECT target, kind, name, user_id, scope, value, reason, time, event_id, environment, agent
        FROM evaluations FINAL
        WHERE {kinds} AND (event_id, time, payload_hash) NOT IN
            (SELECT event_id, time, payload_hash FROM collisions)
        ORDER BY time
    ) AS v
    LEFT JOIN
    (
        SELECT event_id, scope, any(content) AS comment FROM events
        WHERE {kinds} GROUP BY event_id, scope
    ) AS c ON c.event_id = v.event_id AND c.scope = v.scope
    GROUP BY target, kind, name, user_id, scope
) AS e
LEFT JOIN
(
    SELECT interaction_id, session_id, environment, agent, agent_version, scope
    FROM interaction_results FINAL WHERE live
) AS i ON i.interaction_id = e.target
LEFT JOIN
(
    SELECT session_id, environment, agent, agent_version, scope FROM session_results FINAL WHERE live
) AS s ON s.session_id = e.target
ARRAY JOIN multiIf(i.interaction_id = '' AND s.session_id = '', ['unknown'], arrayFilter(x -> x != '', [
    if(i.interaction_id != '' AND admits(e.scope, i.environment, i.agent), 'interaction', ''),
    -- an interaction that is its own session is no session, but one of another scope is something else
    if(s.session_id != '' AND admits(e.scope, s.environment, s.agent)
        AND (i.interaction_id = '' OR i.scope != s.scope), 'session', '')])) AS of
--------
ALTER TABLE {view}
    COMMENT COLUMN time 'when the one that counts was given, UTC',
    COMMENT COLUMN environment 'of the target',
    COMMENT COLUMN agent 'of the target',
    COMMENT COLUMN agent_version 'of the target',
    COMMENT COLUMN kind {is},
    COMMENT COLUMN name {named},
    COMMENT COLUMN value 'number given, null when only words were',
    COMMENT COLUMN reason 'code of the reason, such as no_refund',
    COMMENT COLUMN comment {words},
    COMMENT COLUMN user_id {by},
    COMMENT COLUMN target 'interaction_id or session_id that is judged',
    COMMENT COLUMN target_kind 'interaction, session, or unknown: no such target is stored',
    COMMENT COLUMN interaction_id 'the interaction it judges, empty when it judges a session',
    COMMENT COLUMN session_id 'conversation that it judges or that its interaction belongs to'
