-- What agents use: tools, models, tokens, money.

-- Retrievals are tool calls. Events count, so that sub-agents' calls are theirs.
-- name: tools
WITH {range:sql}, {wilson:sql}, {quantile:sql}
SELECT agent, tool, calls, errors, errors / nullIf(calls, 0) AS error_rate,
    wilson_low(errors, calls) AS low, wilson_high(errors, calls) AS high,
    quantile_ms(0.5, histogram) AS p50, quantile_ms(0.95, histogram) AS p95
FROM
(
    SELECT agent, if(position(scope, ':') = 0, 'unnamed', substring(scope, position(scope, ':') + 1)) AS tool, sum(events) AS calls,
        sum(error) AS errors, {histogram:sql}
    FROM windows FINAL
    PREWHERE {in_range:sql} AND {chosen:sql} AND match(scope, '^(tool_call|retrieval)(:|\\z)')
    GROUP BY agent, tool
)
WHERE calls > 0
ORDER BY low DESC, errors DESC, calls DESC, agent, tool LIMIT 200

-- name: tool_errors
WITH {series:sql}
SELECT {time:sql}, agent, sum(tool_errors) / nullIf(sum(tool_calls), 0) AS error_rate
FROM rollups FINAL
WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql} AND {busiest:sql}
GROUP BY time, agent ORDER BY time, agent

-- name: cost_now
WITH {range:sql}
SELECT if(sum(cost_n) = 0, NULL, sum(cost_usd)) AS known_cost, sum(cost_n) AS n
FROM rollups FINAL
WHERE {in_range:sql} AND unit = 'interactions' AND {chosen:sql}

-- name: tokens
WITH {series:sql}
SELECT {time:sql}, if(sum(tokens_n) = 0, NULL, sum(input_tokens) * 60 / any(bucket)) AS input,
    if(sum(tokens_n) = 0, NULL, sum(cached_tokens) * 60 / any(bucket)) AS cached,
    if(sum(tokens_n) = 0, NULL, sum(output_tokens) * 60 / any(bucket)) AS output
FROM rollups FINAL
WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql}
GROUP BY time ORDER BY time

-- name: cost_by_version
WITH {range:sql}
SELECT environment, agent, agent_version, interactions,
    if(tokens_n = 0, NULL, input) AS input_tokens, if(tokens_n = 0, NULL, cached) AS cached_tokens,
    if(tokens_n = 0, NULL, output) AS output_tokens,
    cached / nullIf(input_tokens, 0) AS cached_share,
    if(priced = 0, NULL, cost) AS known_cost, priced, interactions - priced AS unpriced,
    cost / nullIf(priced, 0) AS mean_cost, cost / nullIf(priced, 0) * interactions / nullIf(succeeded, 0)
        AS cost_per_success
FROM
(
    SELECT environment, agent, agent_version, sum(n) AS interactions, sum(r.input_tokens) AS input,
        sum(r.cached_tokens) AS cached, sum(r.output_tokens) AS output, sum(r.tokens_n) AS tokens_n,
        sum(r.cost_usd) AS cost, sum(cost_n) AS priced, sum(r.succeeded) AS succeeded
    FROM rollups AS r FINAL
    WHERE {in_range:sql} AND unit = 'interactions' AND {chosen:sql}
    GROUP BY environment, agent, agent_version
)
WHERE interactions > 0
ORDER BY known_cost DESC NULLS LAST, agent, agent_version, environment LIMIT 500

-- name: cost_over_time
WITH {series:sql}
SELECT {time:sql}, agent, if(sum(cost_n) = 0, NULL, sum(cost_usd) * 3600 / any(bucket)) AS cost
FROM rollups FINAL
WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql} AND {busiest:sql}
GROUP BY time, agent ORDER BY time, agent

-- name: models
WITH {range:sql}, {quantile:sql}
SELECT model, calls, errors, if(calls_with_tokens = 0, NULL, input) AS input_tokens,
    if(calls_with_tokens = 0, NULL, output) AS output_tokens,
    if(priced = 0, NULL, cost) AS known_cost, unpriced, quantile_ms(0.95, histogram) AS p95
FROM
(
    SELECT replaceOne(scope, 'model:', '') AS model, sum(events) AS calls, sum(error) AS errors,
        sum(input_tokens) AS input, sum(output_tokens) AS output, sum(w.priced) AS priced,
        sum(w.unpriced) AS unpriced, priced + unpriced AS calls_with_tokens,
        sum(cost_usd) AS cost, {histogram:sql}
    FROM windows AS w FINAL
    PREWHERE {in_range:sql} AND {chosen:sql} AND startsWith(scope, 'model:')
    GROUP BY model
)
WHERE calls > 0
ORDER BY known_cost DESC NULLS LAST, calls DESC, model LIMIT 100

-- Whose steps repeat: interactions with far more of them than is usual for the agent.
-- name: loops
SELECT end, environment, agent, steps, llm_calls, tool_calls, input_tokens, output_tokens, cost_usd AS cost,
    if(success IS NULL, 'unknown', if(success = 1, 'succeeded', 'failed')) AS outcome,
    interaction_id, session_id
FROM interactions
WHERE {ended_here:sql} AND steps >= 20
ORDER BY steps DESC, interaction_id LIMIT 50
