-- Agents as their users meet them: success, traffic, latency, satisfaction. From rollups.

-- name: environments
SELECT DISTINCT environment FROM rollups FINAL
WHERE width_s = 86400 AND unit = 'interactions' AND n > 0
    AND start >= {from:time} - INTERVAL 1 DAY AND start <= {to:time}
ORDER BY environment

-- name: agents
SELECT DISTINCT agent FROM rollups FINAL
WHERE width_s = 86400 AND unit = 'interactions' AND n > 0
    AND start >= {from:time} - INTERVAL 1 DAY AND start <= {to:time} AND {environment:labels}
ORDER BY agent

-- name: versions
SELECT DISTINCT agent_version FROM rollups FINAL
WHERE width_s = 86400 AND unit = 'interactions' AND n > 0 AND agent_version != ''
    AND start >= {from:time} - INTERVAL 1 DAY AND start <= {to:time}
    AND {environment:labels} AND {agent:labels}
ORDER BY agent_version

-- name: success_now
WITH {range:sql}, {wilson:sql}
SELECT succeeded / nullIf(known, 0) AS success, wilson_low(succeeded, known) AS low,
    wilson_high(succeeded, known) AS high, known AS n
FROM
(
    SELECT sum(r.succeeded) AS succeeded, sum(r.success_known) AS known FROM rollups AS r FINAL
    WHERE {in_range:sql} AND unit = 'interactions' AND {chosen:sql}
)

-- name: interactions_now
WITH {range:sql}
SELECT sum(n) AS interactions, sum(open) AS open, sum(unfinished) AS unfinished
FROM rollups FINAL
WHERE {in_range:sql} AND unit = 'interactions' AND {chosen:sql}

-- name: latency_now
WITH {range:sql}, {quantile:sql}
SELECT quantile_ms(0.5, histogram) AS p50, quantile_ms(0.95, histogram) AS p95, n
FROM
(
    SELECT {histogram:sql}, sum(duration_n) AS n
    FROM rollups FINAL
    WHERE {in_range:sql} AND unit = 'interactions' AND {chosen:sql}
)

-- name: satisfaction_now
WITH {range:sql}, {wilson:sql}
SELECT total / nullIf(rated, 0) AS satisfaction, wilson_low(total, rated) AS low,
    wilson_high(total, rated) AS high, rated AS n
FROM
(
    SELECT sum(satisfaction) AS total, sum(satisfaction_n) AS rated FROM rollups FINAL
    WHERE {in_range:sql} AND unit = 'interactions' AND {chosen:sql}
)

-- name: success_by_version
WITH {range:sql}, {wilson:sql}, {quantile:sql}
SELECT environment, agent, agent_version, interactions, open, known,
    succeeded / nullIf(known, 0) AS success, wilson_low(succeeded, known) AS low,
    wilson_high(succeeded, known) AS high,
    duration / nullIf(timed, 0) AS mean_duration, quantile_ms(0.95, histogram) AS p95,
    cost / nullIf(priced, 0) AS mean_cost, priced
FROM
(
    SELECT environment, agent, agent_version, sum(n) AS interactions, sum(r.open) AS open,
        sum(r.success_known) AS known, sum(r.succeeded) AS succeeded,
        sum(r.duration_ms) AS duration, sum(duration_n) AS timed,
        {histogram:sql},
        sum(r.cost_usd) AS cost, sum(cost_n) AS priced
    FROM rollups AS r FINAL
    WHERE {in_range:sql} AND unit = 'interactions' AND {chosen:sql}
    GROUP BY environment, agent, agent_version
)
WHERE interactions > 0
ORDER BY low ASC NULLS LAST, agent, agent_version, environment LIMIT 500

-- name: sessions_by_version
WITH {range:sql}, {wilson:sql}
SELECT environment, agent, agent_version, sessions, known,
    succeeded / nullIf(known, 0) AS success, wilson_low(succeeded, known) AS low,
    wilson_high(succeeded, known) AS high,
    rating / nullIf(rated, 0) AS satisfaction, rated, rated / sessions AS coverage,
    cost / nullIf(priced, 0) AS mean_cost, priced
FROM
(
    SELECT environment, agent, agent_version, sum(n) AS sessions, sum(r.success_known) AS known,
        sum(r.succeeded) AS succeeded, sum(satisfaction) AS rating, sum(satisfaction_n) AS rated,
        sum(r.cost_usd) AS cost, sum(cost_n) AS priced
    FROM rollups AS r FINAL
    WHERE {in_range:sql} AND unit = 'sessions' AND {chosen:sql}
    GROUP BY environment, agent, agent_version
)
WHERE sessions > 0
ORDER BY low ASC NULLS LAST, agent, agent_version, environment LIMIT 500

-- Against the period of the same length before; surely worse are those whose intervals are apart.
-- name: changes
WITH {wilson:sql}
SELECT environment, agent,
    now.succeeded / nullIf(now.known, 0) AS success, wilson_low(now.succeeded, now.known) AS low,
    wilson_high(now.succeeded, now.known) AS high, now.known AS n,
    before.succeeded / nullIf(before.known, 0) AS success_before, before.known AS n_before,
    success - success_before AS change,
    multiIf(change IS NULL, 'unknown',
        high < wilson_low(before.succeeded, before.known), 'worse',
        low > wilson_high(before.succeeded, before.known), 'better', 'undecided') AS verdict,
    now.mean_duration / nullIf(before.mean_duration, 0) - 1 AS slower,
    now.mean_cost / nullIf(before.mean_cost, 0) - 1 AS dearer,
    toFloat64(now.interactions) / nullIf(before.interactions, 0) - 1 AS more_traffic
FROM
(
    WITH {range:sql}
    SELECT environment, agent, sum(n) AS interactions, sum(r.succeeded) AS succeeded,
        sum(r.success_known) AS known, sum(r.duration_ms) / nullIf(sum(duration_n), 0) AS mean_duration,
        sum(r.cost_usd) / nullIf(sum(cost_n), 0) AS mean_cost
    FROM rollups AS r FINAL
    WHERE {in_range:sql} AND unit = 'interactions' AND {chosen:sql}
    GROUP BY environment, agent HAVING interactions > 0
) AS now
LEFT JOIN
(
    WITH {range_before:sql}
    SELECT environment, agent, toNullable(sum(n)) AS interactions, sum(r.succeeded) AS succeeded,
        sum(r.success_known) AS known, sum(r.duration_ms) / nullIf(sum(duration_n), 0) AS mean_duration,
        sum(r.cost_usd) / nullIf(sum(cost_n), 0) AS mean_cost
    FROM rollups AS r FINAL
    WHERE {in_range:sql} AND unit = 'interactions' AND {chosen:sql}
    GROUP BY environment, agent
) AS before USING (environment, agent)
ORDER BY verdict = 'worse' DESC, change ASC NULLS LAST, agent, environment LIMIT 100

-- name: success_over_time
WITH {series:sql}, {wilson:sql}
SELECT time, succeeded / nullIf(known, 0) AS success, wilson_low(succeeded, known) AS low,
    wilson_high(succeeded, known) AS high
FROM
(
    SELECT {time:sql}, sum(r.succeeded) AS succeeded, sum(r.success_known) AS known
    FROM rollups AS r FINAL
    WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql}
    GROUP BY time
)
ORDER BY time

-- name: success_by_agent_over_time
WITH {series:sql}
SELECT {time:sql}, agent, sum(succeeded) / nullIf(sum(success_known), 0) AS success
FROM rollups FINAL
WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql} AND {busiest:sql}
GROUP BY time, agent ORDER BY time, agent

-- name: success_by_version_over_time
WITH {series:sql}
SELECT {time:sql}, if(agent_version = '', 'unknown', toString(agent_version)) AS version,
    sum(succeeded) / nullIf(sum(success_known), 0) AS success
FROM rollups FINAL
WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql}
GROUP BY time, version ORDER BY time, version

-- name: traffic
WITH {series:sql}
SELECT {time:sql}, agent, sum(n) * 60 / any(bucket) AS interactions
FROM rollups FINAL
WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql} AND {busiest:sql}
GROUP BY time, agent ORDER BY time, agent

-- name: latency
WITH {series:sql}, {quantile:sql}
SELECT time, quantile_ms(0.5, histogram) AS p50, quantile_ms(0.95, histogram) AS p95,
    quantile_ms(0.99, histogram) AS p99
FROM
(
    SELECT {time:sql}, {histogram:sql}
    FROM rollups FINAL
    WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql}
    GROUP BY time
)
ORDER BY time

-- name: latency_by_agent
WITH {series:sql}, {quantile:sql}
SELECT time, agent, quantile_ms(0.95, histogram) AS p95
FROM
(
    SELECT {time:sql}, agent, {histogram:sql}
    FROM rollups FINAL
    WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql} AND {busiest:sql}
    GROUP BY time, agent
)
ORDER BY time, agent

-- name: first_token
WITH {series:sql}, {quantile:sql}
SELECT time, quantile_ms(0.5, histogram) AS p50, quantile_ms(0.95, histogram) AS p95
FROM
(
    SELECT {time:sql}, {first_token_histogram:sql}
    FROM rollups FINAL
    WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql}
    GROUP BY time
)
ORDER BY time

-- name: reasons_over_time
WITH {series:sql}
SELECT time, reason, sum(failures) * 60 / any(bucket) AS failures
FROM
(
    SELECT {time:sql}, arrayJoin(arrayZip(reasons, reason_counts)) AS counted,
        counted.1 AS reason, counted.2 AS failures
    FROM rollups FINAL
    WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql}
)
GROUP BY time, reason ORDER BY time, reason

-- What interactions and sessions show, whether it made them fail or not.
-- name: reasons_seen
WITH {range:sql}
SELECT reason, sumIf(seen, unit = 'interactions') AS interactions,
    interactions / any(all_interactions) AS share_of_interactions,
    sumIf(seen, unit = 'sessions') AS sessions, sessions / any(all_sessions) AS share_of_sessions,
    sumIf(failed, unit = 'sessions') AS sessions_failed_by_it,
    sumIf(failed, unit = 'interactions') AS interactions_failed_by_it
FROM
(
    SELECT unit, arrayJoin(seen_reasons) AS reason,
        seen_counts[indexOf(seen_reasons, reason)] AS seen,
        reason_counts[indexOf(reasons, reason)] AS failed
    FROM rollups FINAL
    WHERE {in_range:sql} AND {chosen:sql}
) AS r
CROSS JOIN
(
    SELECT nullIf(sumIf(n, unit = 'interactions'), 0) AS all_interactions,
        nullIf(sumIf(n, unit = 'sessions'), 0) AS all_sessions
    FROM rollups FINAL
    WHERE {in_range:sql} AND {chosen:sql}
) AS t
GROUP BY reason ORDER BY interactions + sessions DESC, reason LIMIT 100

-- name: dissatisfaction_over_time
WITH {series:sql}
SELECT {time:sql}, agent,
    sum(dissatisfaction) / nullIf(sum(dissatisfaction_n), 0) AS dissatisfaction
FROM rollups FINAL
WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql} AND {busiest:sql}
GROUP BY time, agent ORDER BY time, agent

-- name: satisfaction_by_version
WITH {range:sql}, {wilson:sql}
SELECT environment, agent, agent_version, interactions, rated, rated / interactions AS coverage,
    total / nullIf(rated, 0) AS satisfaction, wilson_low(total, rated) AS low,
    wilson_high(total, rated) AS high,
    estimated / nullIf(estimates, 0) AS estimated_dissatisfaction, estimates,
    covered / interactions AS estimate_coverage
FROM
(
    SELECT environment, agent, agent_version, sum(n) AS interactions,
        sum(r.satisfaction) AS total, sum(satisfaction_n) AS rated,
        sum(dissatisfaction) AS estimated, sum(dissatisfaction_n) AS estimates,
        sum(r.coverage) AS covered
    FROM rollups AS r FINAL
    WHERE {in_range:sql} AND unit = 'interactions' AND {chosen:sql}
    GROUP BY environment, agent, agent_version
)
WHERE interactions > 0
ORDER BY low ASC NULLS LAST, agent, agent_version, environment LIMIT 500

-- name: satisfaction_over_time
WITH {series:sql}
SELECT {time:sql}, agent, sum(satisfaction) / nullIf(sum(satisfaction_n), 0) AS rating
FROM rollups FINAL
WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql} AND {busiest:sql}
GROUP BY time, agent ORDER BY time, agent

-- What users wrote, under the agent they wrote about: of the latest only, as each is looked up by id.
-- DISTINCT at the end instead of FINAL at the begin: a repeat is a row like any other until then.
-- name: comments
WITH {admits:sql}, latest AS
(
    SELECT e.time AS time, e.target AS target, e.value AS value, e.agent AS agent, e.event_id AS event_id,
        e.scope AS scope
    FROM evaluations AS e
    WHERE kind = 'feedback' AND e.time >= {from:time} AND e.time <= {to:time}
    ORDER BY time DESC LIMIT 1000
)
SELECT DISTINCT l.time AS time, r.environment AS environment, r.agent AS agent, r.agent_version AS agent_version,
    l.value AS rating, c.comment AS comment, r.failure_tool AS tool, r.interaction_id AS interaction_id,
    r.session_id AS session_id
FROM latest AS l
INNER JOIN
(
    SELECT event_id, scope, any(content) AS comment FROM events
    WHERE (agent, time, event_id) IN (SELECT agent, time, event_id FROM latest) AND content != ''
    GROUP BY event_id, scope
) AS c ON c.event_id = l.event_id AND c.scope = l.scope
INNER JOIN
(
    SELECT interaction_id, session_id, environment, agent, agent_version, failure_tool
    FROM interaction_results FINAL
    PREWHERE interaction_id IN (SELECT target FROM latest) AND cell IN
        (SELECT cell FROM interaction_index WHERE interaction_id IN (SELECT target FROM latest))
    WHERE live AND {chosen:sql}
) AS r ON r.interaction_id = l.target
WHERE l.scope = '' OR admits(l.scope, r.environment, r.agent)
ORDER BY time DESC, interaction_id LIMIT 100

-- A version that no day before the range has, when it is first seen.
-- name: deployments
WITH toUnixTimestamp({from:time}) AS from_s,
    if(from_s < toUnixTimestamp(now()) - 2505600 OR toUnixTimestamp({to:time}) - from_s > 172800, 3600, 60)
        AS width,
    intDiv(from_s, 86400) * 86400 AS day
SELECT min(r.start) AS time, environment, agent, agent_version, sum(n) AS interactions,
    sum(succeeded) / nullIf(sum(success_known), 0) AS success
FROM rollups AS r FINAL
WHERE width_s = width AND r.start >= toDateTime(day, 'UTC') AND r.start <= {to:time}
    AND unit = 'interactions' AND agent_version != '' AND n > 0 AND {chosen:sql}
    AND (environment, agent, agent_version) NOT IN
    (
        SELECT environment, agent, agent_version FROM rollups FINAL
        WHERE width_s = 86400 AND unit = 'interactions' AND start < toDateTime(day, 'UTC') AND n > 0
    )
GROUP BY environment, agent, agent_version
HAVING time + toIntervalSecond(any(width)) > {from:time}
ORDER BY time DESC, agent, agent_version, environment LIMIT 200

-- name: deployment_annotations
WITH toUnixTimestamp({from:time}) AS from_s,
    if(from_s < toUnixTimestamp(now()) - 2505600 OR toUnixTimestamp({to:time}) - from_s > 172800, 3600, 60)
        AS width,
    intDiv(from_s, 86400) * 86400 AS day
SELECT min(r.start) AS time, concat(agent, ' ', agent_version) AS title,
    concat('first seen in ', environment) AS text,
    concat('deployment,', agent, ',', environment) AS tags
FROM rollups AS r FINAL
WHERE width_s = width AND r.start >= toDateTime(day, 'UTC') AND r.start <= {to:time}
    AND unit = 'interactions' AND agent_version != '' AND n > 0 AND {chosen:sql}
    AND (environment, agent, agent_version) NOT IN
    (
        SELECT environment, agent, agent_version FROM rollups FINAL
        WHERE width_s = 86400 AND unit = 'interactions' AND start < toDateTime(day, 'UTC') AND n > 0
    )
GROUP BY environment, agent, agent_version
HAVING time + toIntervalSecond(any(width)) > {from:time}
ORDER BY time LIMIT 200

-- Of the interactions in which the model took part; one that used several counts for each.
-- name: success_by_model
WITH {wilson:sql}
SELECT model, count() AS n, count(success) AS known, countIf(success = 1) AS succeeded,
    succeeded / nullIf(known, 0) AS rate, wilson_low(succeeded, known) AS low,
    wilson_high(succeeded, known) AS high, avg(own_ms) AS mean_duration,
    avg(cost_usd) AS mean_cost, count(cost_usd) AS priced
FROM (SELECT arrayJoin(models) AS model, success, cost_usd,
        duration_ms - least(ifNull(waiting_ms, 0), duration_ms) AS own_ms
    FROM interactions WHERE {ended_here:sql})
GROUP BY model ORDER BY n DESC, model LIMIT 50

-- name: success_by_language
WITH {wilson:sql}
SELECT if(language = '', 'unknown', toString(language)) AS spoken, count() AS n,
    count(success) AS known, countIf(success = 1) AS succeeded,
    succeeded / nullIf(known, 0) AS rate, wilson_low(succeeded, known) AS low,
    wilson_high(succeeded, known) AS high
FROM interactions WHERE {ended_here:sql}
GROUP BY spoken ORDER BY n DESC, spoken LIMIT 50
