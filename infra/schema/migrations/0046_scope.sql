-- What bound tokens may speak of, so that joins honour it (docs/decisions/0016-token-scope.md).
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS scope LowCardinality(String) DEFAULT '' COMMENT 'what the token is bound to that sent it, as ENVIRONMENT/AGENT,AGENT; empty: trusted with every id' AFTER target
--------
ALTER TABLE evaluations
    ADD COLUMN IF NOT EXISTS scope LowCardinality(String) DEFAULT '' COMMENT 'what the token is bound to that sent it; empty: it may speak of everything' AFTER agent
--------
ALTER TABLE interaction_results
    ADD COLUMN IF NOT EXISTS scope LowCardinality(String) DEFAULT '' COMMENT 'scope of its events, empty when they are trusted' AFTER trace_id
--------
ALTER TABLE session_results
    ADD COLUMN IF NOT EXISTS scope LowCardinality(String) DEFAULT '' COMMENT 'scope of its interactions, empty when they are trusted' AFTER session_id
--------
-- Evaluations by bound tokens of interactions and sessions that their scopes do not admit: they
-- count for nothing. Of what is not stored (yet) nobody knows. Where a session and an interaction of
-- other scopes have one name, it is that of the first, as among interactions.
CREATE VIEW IF NOT EXISTS foreign_evaluations AS
WITH (s, e, a) -> (has(['', toString(e)], substringIndex(toString(s), '/', 1)) AND (position(s, '/') = 0
    OR has(splitByChar(',', substring(toString(s), position(s, '/') + 1)), toString(a)))) AS admits
SELECT b.target AS target, b.kind AS kind, b.name AS name, b.user_id AS user_id, b.time AS time,
    b.event_id AS event_id, b.payload_hash AS payload_hash, b.scope AS scope
FROM
(
    SELECT target, kind, name, user_id, time, event_id, payload_hash, scope
    FROM evaluations FINAL WHERE scope != ''
) AS b
INNER JOIN
(
    SELECT interaction_id AS id, scope, environment, agent FROM interaction_results FINAL
    WHERE live AND interaction_id IN (SELECT target FROM evaluations WHERE scope != '')
        AND cell IN
        (
            SELECT cell FROM interaction_index WHERE interaction_id IN
            (
                SELECT arrayJoin([target, substringIndex(target, '/', 1), splitByString('@scope:', target)[1]])
                FROM evaluations WHERE scope != ''
            )
        )
    UNION ALL
    SELECT session_id AS id, scope, environment, agent FROM session_results FINAL
    WHERE live AND session_id IN (SELECT target FROM evaluations WHERE scope != '')
        AND cell IN
        (
            SELECT cell FROM session_index WHERE session_id IN
                (SELECT arrayJoin([target, splitByString('@scope:', target)[1]]) FROM evaluations WHERE scope != '')
        )
) AS k ON k.id = b.target
GROUP BY ALL
HAVING argMin(admits(b.scope, k.environment, k.agent) AS ok, (k.scope, 1 - ok)) = 0
--------
ALTER TABLE foreign_evaluations
    COMMENT COLUMN target 'interaction_id or session_id that it names',
    COMMENT COLUMN kind 'feedback, score or outcome',
    COMMENT COLUMN name 'evaluator, or kind of feedback',
    COMMENT COLUMN user_id 'who judged, empty for a program',
    COMMENT COLUMN time 'when it was given, UTC',
    COMMENT COLUMN event_id 'id of the event, given by its sender',
    COMMENT COLUMN payload_hash 'hash of the event''s content',
    COMMENT COLUMN scope 'what the token is bound to that sent it'
--------
CREATE OR REPLACE VIEW current_evaluations AS
SELECT target, kind, name, user_id,
    argMax(e.value, (e.value IS NOT NULL, e.time, e.event_id)) AS value,
    argMax(e.reason, (e.value IS NOT NULL, e.time, e.event_id)) AS reason,
    argMax(e.time, (e.value IS NOT NULL, e.time, e.event_id)) AS time
FROM
(
    SELECT target, kind, name, user_id, time, event_id, value, reason
    FROM evaluations FINAL
    WHERE (event_id, time, payload_hash) NOT IN
        (SELECT event_id, time, payload_hash FROM collisions)
        AND (scope = '' OR (event_id, time, payload_hash) NOT IN
        (SELECT event_id, time, payload_hash FROM foreign_evaluations))
) AS e
GROUP BY target, kind, name, user_id
--------
ALTER TABLE current_evaluations
    COMMENT COLUMN target 'interaction_id or session_id that is judged',
    COMMENT COLUMN kind 'feedback, score or outcome',
    COMMENT COLUMN name 'name of the tool, evaluator or kind of feedback',
    COMMENT COLUMN user_id 'who judged, empty for a program',
    COMMENT COLUMN value 'number given, null when only words were',
    COMMENT COLUMN reason 'code of the reason, such as no_refund',
    COMMENT COLUMN time 'when the one that counts was given, UTC'
