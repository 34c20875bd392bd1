-- Versions side by side.

-- name: measures
WITH {range:sql}, {wilson:sql}, {quantile:sql}
SELECT environment, agent, agent_version, interactions, known,
    succeeded / nullIf(known, 0) AS success, wilson_low(succeeded, known) AS success_low,
    wilson_high(succeeded, known) AS success_high,
    tool_errors / nullIf(tool_calls, 0) AS tool_error_rate, tool_calls,
    wilson_low(tool_errors, tool_calls) AS tool_low, wilson_high(tool_errors, tool_calls) AS tool_high,
    quantile_ms(0.5, histogram) AS p50, quantile_ms(0.95, histogram) AS p95, timed,
    tokens / nullIf(with_tokens, 0) AS mean_tokens, with_tokens,
    cost / nullIf(priced, 0) AS mean_cost, priced,
    rating / nullIf(rated, 0) AS satisfaction, rated, wilson_low(rating, rated) AS rating_low,
    wilson_high(rating, rated) AS rating_high,
    handovers / interactions AS people_asked, first_seen, last_seen
FROM
(
    SELECT environment, agent, agent_version, sum(n) AS interactions,
        sum(r.success_known) AS known, sum(r.succeeded) AS succeeded,
        sum(r.tool_calls) AS tool_calls, sum(r.tool_errors) AS tool_errors,
        {histogram:sql}, sum(duration_n) AS timed,
        sum(input_tokens) + sum(output_tokens) AS tokens, sum(tokens_n) AS with_tokens,
        sum(r.cost_usd) AS cost, sum(cost_n) AS priced, sum(r.satisfaction) AS rating,
        sum(satisfaction_n) AS rated, sum(human_inputs) AS handovers,
        min(start) AS first_seen, max(start) AS last_seen
    FROM rollups AS r FINAL
    WHERE {in_range:sql} AND unit = 'interactions' AND {chosen:sql}
    GROUP BY environment, agent, agent_version
)
WHERE interactions > 0
ORDER BY agent, environment, last_seen DESC, agent_version LIMIT 500

-- Only hours in which several versions of the agent ran: an outage then hits all of them.
-- name: together
WITH {wilson:sql}, {quantile:sql}, toUnixTimestamp({from:time}) AS from_s, both AS
(
    SELECT environment, agent, start FROM rollups FINAL
    WHERE width_s = 3600 AND unit = 'interactions' AND n > 0 AND agent_version != ''
        AND start >= toDateTime(intDiv(from_s, 3600) * 3600, 'UTC') AND start <= {to:time} AND {chosen:sql}
    GROUP BY environment, agent, start HAVING uniqExact(agent_version) > 1
)
SELECT environment, agent, agent_version, hours, known, succeeded / nullIf(known, 0) AS success,
    wilson_low(succeeded, known) AS low, wilson_high(succeeded, known) AS high,
    quantile_ms(0.95, histogram) AS p95, cost / nullIf(priced, 0) AS mean_cost, priced,
    rating / nullIf(rated, 0) AS satisfaction, rated
FROM
(
    SELECT environment, agent, agent_version, uniqExact(start) AS hours,
        sum(r.success_known) AS known, sum(r.succeeded) AS succeeded,
        {histogram:sql}, sum(r.cost_usd) AS cost,
        sum(cost_n) AS priced, sum(r.satisfaction) AS rating, sum(satisfaction_n) AS rated
    FROM rollups AS r FINAL
    PREWHERE width_s = 3600 AND unit = 'interactions' AND agent_version != ''
        AND start >= toDateTime(intDiv(from_s, 3600) * 3600, 'UTC') AND start <= {to:time} AND {chosen:sql}
        AND (environment, agent, start) IN (SELECT environment, agent, start FROM both)
    WHERE n > 0
    GROUP BY environment, agent, agent_version
)
ORDER BY agent, environment, agent_version LIMIT 500

-- name: p95_over_time
WITH {series:sql}, {quantile:sql}
SELECT time, version, quantile_ms(0.95, histogram) AS p95
FROM
(
    SELECT {time:sql}, if(agent_version = '', 'unknown', toString(agent_version)) AS version,
        {histogram:sql}
    FROM rollups FINAL
    WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql}
    GROUP BY time, version
)
ORDER BY time, version

-- name: cost_over_time
WITH {series:sql}
SELECT {time:sql}, if(agent_version = '', 'unknown', toString(agent_version)) AS version,
    sum(cost_usd) / nullIf(sum(cost_n), 0) AS mean_cost
FROM rollups FINAL
WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql}
GROUP BY time, version ORDER BY time, version
