-- Data of bench/dashboards.py: see there. Names in braces are filled in by it.

-- name: interactions
INSERT INTO interaction_results (cell, interaction_id, version, live, trace_id, environment, agent,
    agent_version, session_id, user_id, start, end, state, status, duration_ms,
    time_to_first_token_ms, events, steps, llm_calls, tool_calls, tool_errors, human_inputs,
    input_tokens, output_tokens, cached_tokens, cost_usd, priced, success, success_source, reasons,
    failure_reason, failure_tool, failure_template, fingerprint, satisfaction, satisfaction_n,
    models, tools, language, request, answer)
WITH
    sipHash64(number, {seed}) AS h,
    {end} - {span} + number * {span} / {n} + h % 5 AS at,
    toDateTime64(at, 9, 'UTC') AS ended,
    intDiv(number, 2) AS conversation,
    sipHash64(conversation, {seed}) % {agents} AS whose,
    exp(6.5 + (h % 4000) / 1000) AS took,
    sipHash64(number, 1) % 100 < 4 + whose % 7 AS failed,
    ['timeout', 'tool_failed', 'refused', 'no_answer'][1 + h % 4] AS why,
    concat('tool_', toString(h % 12)) AS tool
SELECT toStartOfInterval(toDateTime(ended), INTERVAL 10 SECOND), concat('i', toString(number)), 1, 1,
    concat('i', toString(number)), if(whose % 10 = 0, 'staging', 'production'),
    concat('agent_', toString(whose)), concat('v', toString(1 + intDiv(number * 4, {n}))),
    concat('s', toString(conversation)), concat('u', toString(sipHash64(conversation) % 20000)),
    ended - toIntervalMillisecond(toUInt32(took)), ended, 'ended', if(failed, 'error', 'ok'), took,
    took / 10, 10, 8, 3, 3, if(failed, 1, 0), 0, 1000 + h % 500, 200, 300, 0.01, 3,
    if(h % 50 = 0, NULL, if(failed, 0, 1)), 'status', if(failed, [why], []), if(failed, why, ''),
    if(failed, tool, ''), if(failed, concat('failed after <n> s in ', tool), ''),
    if(failed, hex(sipHash64(why, tool)), ''), if(h % 12 = 0, (h % 5) / 4, NULL), h % 12 = 0,
    ['model_a'], [tool], 'en', concat('please help me with number ', toString(number)), 'done'
FROM numbers({n})

-- name: sessions
INSERT INTO session_results (cell, session_id, version, live, environment, agent, agent_version,
    user_id, start, end, duration_ms, active_ms, interactions, succeeded, failed, events, llm_calls,
    tool_calls, tool_errors, input_tokens, output_tokens, cost_usd, success, success_source,
    failure_reason, satisfaction, satisfaction_n, request, answer)
SELECT max(i.cell), session_id, 1, 1, any(environment), any(agent), any(agent_version), any(user_id),
    min(i.start), max(i.end), sum(duration_ms), sum(duration_ms), count(), countIf(i.success = 1),
    countIf(i.success = 0), sum(i.events), sum(i.llm_calls), sum(i.tool_calls), sum(i.tool_errors),
    sum(i.input_tokens), sum(i.output_tokens), sum(i.cost_usd), argMax(i.success, i.end), 'status',
    any(failure_reason), avg(i.satisfaction), sum(i.satisfaction_n), any(i.request), any(i.answer)
FROM interaction_results AS i GROUP BY session_id

-- name: interaction_index
INSERT INTO interaction_index SELECT interaction_id, cell FROM interaction_results

-- name: session_index
INSERT INTO session_index SELECT session_id, cell, interaction_id FROM interaction_results

-- name: events
INSERT INTO events (schema_version, environment, agent, agent_version, time, event_id, payload_hash,
    session_id, interaction_id, kind, name, model, status, duration_ms, duration_bin, input_tokens,
    output_tokens, cost_usd, content)
WITH
    arrayJoin(range(10)) AS step,
    [
        'user_message', 'llm_call', 'tool_call', 'tool_call', 'llm_call', 'retrieval', 'decision',
        'llm_call', 'agent_message', 'interaction'
    ][step + 1] AS kind,
    if(kind = 'interaction', i.duration_ms, i.duration_ms / 8) AS took
SELECT 1, environment, agent, agent_version, i.end - toIntervalMillisecond(9 - step),
    concat(interaction_id, '.', toString(step)), step, session_id, interaction_id, kind,
    if(kind IN ('tool_call', 'retrieval'), i.tools[1], ''), if(kind = 'llm_call', 'model_a', ''),
    if(step = 2 AND i.success = 0 OR kind = 'interaction' AND i.success = 0, 'error', 'ok'), took,
    toInt16(ceil(log(took) / log({gamma}))), if(kind = 'llm_call', 300, NULL),
    if(kind = 'llm_call', 60, NULL), if(kind = 'llm_call', 0.003, NULL), if(kind = 'user_message', i.request, '')
FROM interaction_results AS i WHERE i.cell >= toDateTime({low}) AND i.cell < toDateTime({high})

-- name: evaluations
INSERT INTO evaluations (target, kind, name, user_id, time, event_id, payload_hash, environment,
    agent, value)
SELECT interaction_id, 'feedback', 'thumbs', user_id, end, concat(interaction_id, '.0'), 1,
    environment, agent, satisfaction
FROM interaction_results WHERE satisfaction_n > 0
UNION ALL
SELECT interaction_id, ['score', 'outcome'][1 + number], ['helpful', 'resolved'][1 + number], '', end,
    concat(interaction_id, '.', toString(number)), 1, environment, agent, toFloat64(ifNull(success, 1))
FROM interaction_results CROSS JOIN numbers(2) AS two WHERE sipHash64(interaction_id) % 20 = 0

-- name: rollups
INSERT INTO rollups (environment, agent, width_s, start, agent_version, unit, version, n, succeeded,
    success_known, duration_n, duration_ms, duration_bins, duration_counts, first_token_n,
    first_token_ms, steps, llm_calls, tool_calls, tool_errors, input_tokens, output_tokens,
    cached_tokens, tokens_n, cost_usd, cost_n, satisfaction, satisfaction_n, reasons, reason_counts)
SELECT environment, agent, {width}, toStartOfInterval(cell, INTERVAL {width} SECOND) AS begin,
    agent_version, '{unit}', 1, count(), countIf(r.success = 1), count(r.success), count(), sum(r.duration_ms),
    (sumMap([toInt16(ceil(log(r.duration_ms) / log({gamma})))], [toUInt64(1)]) AS bins).1, bins.2,
    count(), sum(r.duration_ms) / 10, 0, sum(r.llm_calls), sum(r.tool_calls), sum(r.tool_errors),
    sum(r.input_tokens), sum(r.output_tokens), 0, count(), sum(r.cost_usd), count(),
    sum(ifNull(r.satisfaction, 0)), countIf(r.satisfaction_n > 0),
    (sumMap([r.failure_reason], [toUInt64(r.failure_reason != '')]) AS why).1, why.2
FROM {table} AS r GROUP BY environment, agent, begin, agent_version

-- name: windows
INSERT INTO windows (environment, agent, width_s, start, agent_version, scope, version, events, ok,
    error, tool_calls, tool_errors, input_tokens, output_tokens, cost_usd, priced, duration_n,
    duration_ms, duration_bins, duration_counts)
SELECT environment, agent, {width}, toStartOfInterval(time, INTERVAL {width} SECOND) AS begin,
    agent_version, arrayJoin(arrayFilter(s -> s != '', ['all', if(name = '', toString(kind),
        concat(kind, ':', name)), if(model = '', '', concat('model:', model))])) AS scope,
    1, count(), countIf(status = 'ok'), countIf(status = 'error'), countIf(kind = 'tool_call'),
    countIf(kind = 'tool_call' AND status = 'error'), sum(ifNull(e.input_tokens, 0)),
    sum(ifNull(e.output_tokens, 0)), sum(ifNull(e.cost_usd, 0)), count(e.cost_usd), count(),
    sum(ifNull(e.duration_ms, 0)),
    (sumMap([ifNull(duration_bin, {zero})], [toUInt64(1)]) AS bins).1, bins.2
FROM events AS e WHERE time >= toDateTime({low}) AND time < toDateTime({high})
GROUP BY environment, agent, begin, agent_version, scope

-- name: days
INSERT INTO windows (environment, agent, width_s, start, agent_version, scope, version, events, ok,
    error, tool_calls, tool_errors, input_tokens, output_tokens, cost_usd, priced, duration_n,
    duration_ms, duration_bins, duration_counts)
SELECT environment, agent, 86400, toStartOfDay(start) AS begin, agent_version, scope, 1, sum(events),
    sum(ok), sum(error), sum(tool_calls), sum(tool_errors), sum(input_tokens), sum(output_tokens),
    sum(cost_usd), sum(priced), sum(duration_n), sum(duration_ms),
    (sumMap(duration_bins, duration_counts) AS bins).1, bins.2
FROM windows FINAL WHERE width_s = 3600
GROUP BY environment, agent, begin, agent_version, scope

-- name: ledger
INSERT INTO ledger (log_id, topic, partition, offset, lines, rows, ingested)
SELECT 'l', 'driftline.events', number % 4, intDiv(number, 4), 1000, 1000,
    toDateTime64({end} - {span} + number * {span} / 20000, 3)
FROM numbers(20000)

-- name: watermarks
INSERT INTO watermarks (log_id, topic, partition, watermark, offset, lag, updated)
SELECT 'l', 'driftline.events', number, toDateTime64({end}, 9), 5000, 3, toDateTime64({end}, 3)
FROM numbers(4)

-- name: heartbeats
INSERT INTO heartbeats (ts, component, instance)
SELECT toDateTime64({end} - number * 10, 3), 'processors', 'one' FROM numbers(60480)

-- name: station_progress
INSERT INTO station_progress (station, bucket, position, version)
SELECT 'detection', toString(number), toDateTime({end} - 60), 1 FROM numbers(8)

-- name: findings
INSERT INTO findings (finding_id, version, kind, environment, agent, status, severity, began, found,
    ended, e_value, baseline, observed, n, title, evidence)
SELECT toString(number), 1, 'failure_rate_up', 'production', concat('agent_', toString(number % 200)),
    if(number % 50 = 0, 'open', 'resolved'), if(number % 2, 'critical', 'warning'), began, began,
    if(number % 50 = 0, NULL, began + 600), 1e5, 0.05, 0.4, 90, 'failures rose',
    '[{{"reason": "timeout", "tool": "tool_1", "template": "t", "before": 1, "since": 20}}]'
FROM (SELECT number, toDateTime64({end} - {span} + number * {span} / 500, 3) AS began FROM numbers(500))
