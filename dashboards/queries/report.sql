-- What the command line prints.

-- name: units
WITH {range:sql}, {quantile:sql}
SELECT * EXCEPT (histogram, failures, all_seen), failures.1 AS reasons, failures.2 AS failed,
    all_seen.1 AS seen, all_seen.2 AS seen_n,
    quantile_ms(0.5, histogram) AS p50, quantile_ms(0.95, histogram) AS p95,
    quantile_ms(0.99, histogram) AS p99
FROM
(
    SELECT unit, environment, agent, agent_version, sum(r.n) AS n, sum(r.open) AS open,
        sum(r.unfinished) AS unfinished, sum(r.succeeded) AS yes, sum(r.success_known) AS known,
        sum(r.duration_ms) AS duration, sum(r.duration_n) AS timed, {histogram:sql},
        sum(r.tool_calls) AS tool_calls, sum(r.tool_errors) AS tool_errors,
        if(sum(r.tokens_n) = 0, NULL, sum(r.input_tokens)) AS input_tokens,
        if(sum(r.tokens_n) = 0, NULL, sum(r.output_tokens)) AS output_tokens,
        sum(r.cost_usd) AS cost, sum(r.cost_n) AS priced,
        sum(r.satisfaction) AS rating, sum(r.satisfaction_n) AS rated,
        sum(r.dissatisfaction) AS estimate, sum(r.dissatisfaction_n) AS estimated,
        sum(r.coverage) AS covered,
        sumMap(r.reasons, r.reason_counts) AS failures,
        sumMap(r.seen_reasons, r.seen_counts) AS all_seen
    FROM rollups AS r FINAL
    WHERE {in_range:sql} AND {environment:labels} AND {agent:labels} AND {version:labels}
    GROUP BY unit, environment, agent, agent_version
)
WHERE n > 0
ORDER BY environment, agent, agent_version, unit

-- Sums of events, per tool, operation and model.
-- name: scopes
WITH {range:sql}, {quantile:sql}
SELECT * EXCEPT histogram, quantile_ms(0.5, histogram) AS p50, quantile_ms(0.95, histogram) AS p95,
    quantile_ms(0.99, histogram) AS p99
FROM
(
    SELECT environment, agent, agent_version, scope, sum(w.events) AS n, sum(w.ok) AS ok,
        sum(w.error) AS error,
        if(match(scope, '^(tool_call|retrieval)(:|\\z)'), n, sum(w.tool_calls)) AS tool_calls,
        if(match(scope, '^(tool_call|retrieval)(:|\\z)'), error, sum(w.tool_errors)) AS tool_errors,
        sum(w.priced) + sum(w.unpriced) AS with_tokens,
        if(with_tokens = 0, NULL, sum(w.input_tokens)) AS input_tokens,
        if(with_tokens = 0, NULL, sum(w.output_tokens)) AS output_tokens,
        sum(w.unpriced) AS unpriced, sum(w.duration_ms) AS duration, sum(w.duration_n) AS timed,
        {histogram:sql}
    FROM windows AS w FINAL
    WHERE {in_range:sql}
        AND {environment:labels} AND {agent:labels} AND {version:labels}
    GROUP BY environment, agent, agent_version, scope
)
WHERE n > 0
ORDER BY environment, agent, agent_version, scope = 'all' DESC, scope

-- name: unpriced_models
WITH {range:sql}
SELECT environment, agent, agent_version,
    arraySort(groupUniqArray(20)(replaceOne(scope, 'model:', ''))) AS models
FROM windows AS w FINAL
PREWHERE {in_range:sql} AND startsWith(scope, 'model:')
WHERE w.unpriced > 0 AND {environment:labels} AND {agent:labels} AND {version:labels}
GROUP BY environment, agent, agent_version

-- name: attainment
SELECT slo, environment, agent, objective, days, n, bad, 1 - bad / nullIf(n, 0) AS attainment,
    1 - bad / nullIf(n, 0) / (1 - objective) AS budget_left,
    bad_hour / nullIf(n_hour, 0) / (1 - objective) AS burn_hour,
    bad_six / nullIf(n_six, 0) / (1 - objective) AS burn_six_hours
FROM
(
    SELECT s.1 AS slo, r.environment AS environment, r.agent AS agent, s.4 AS objective, s.5 AS days,
        sumIf(known, part = 'all') AS n, sumIf(known - yes, part = 'all') AS bad,
        sumIf(known, start >= now() - INTERVAL 1 HOUR AND part = 'minute') AS n_hour,
        sumIf(known - yes, start >= now() - INTERVAL 1 HOUR AND part = 'minute') AS bad_hour,
        sumIf(known, part = 'minute') AS n_six, sumIf(known - yes, part = 'minute') AS bad_six
    FROM
    (
        SELECT environment, agent, start, if(width_s = 60, 'minute', 'all') AS part,
            sum(success_known) AS known, sum(succeeded) AS yes
        FROM rollups FINAL
        WHERE ((width_s = 86400 AND start >= {to:time} - INTERVAL 92 DAY)
            OR (width_s = 60 AND start >= now() - INTERVAL 6 HOUR))
            AND start <= {to:time} AND unit = 'interactions' AND {environment:labels} AND {agent:labels}
        GROUP BY environment, agent, start, part
    ) AS r
    CROSS JOIN (SELECT arrayJoin({objectives:rows}) AS s) AS objectives
    WHERE s.2 IN ('', toString(r.environment)) AND s.3 IN ('', toString(r.agent))
        AND (part = 'minute' OR start > {to:time} - toIntervalDay(s.5))
    GROUP BY s, environment, agent
)
WHERE n > 0
ORDER BY budget_left ASC NULLS LAST, slo, agent, environment LIMIT 200
