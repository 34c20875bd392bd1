-- Scores, outcomes and feedback: who judges, how much, how alike.

-- name: names
SELECT kind, if(name = '', 'unnamed', toString(name)) AS evaluator, count() AS evaluations,
    uniqExact(target) AS targets, avg(value) AS mean, quantileExact(0.1)(value) AS p10,
    quantileExact(0.9)(value) AS p90, countIf(value IS NULL) AS without_value, max(time) AS last_seen
FROM current_evaluations
WHERE time >= {from:time} AND time <= {to:time}
GROUP BY kind, evaluator ORDER BY kind, evaluations DESC, evaluator LIMIT 200

-- name: over_time
SELECT toStartOfInterval(toDateTime(e.time), toIntervalSecond(greatest({interval:seconds}, 300))) AS time,
    concat(kind, ' ', name) AS evaluator, avg(value) AS mean
FROM current_evaluations AS e
WHERE e.time >= {from:time} AND e.time <= {to:time}
GROUP BY time, evaluator ORDER BY time, evaluator

-- Of the interactions that ended in the range, the share that each evaluator has judged.
-- name: coverage
WITH {wilson:sql}
SELECT i.agent AS agent, e.kind AS kind, if(e.name = '', 'unnamed', toString(e.name)) AS evaluator,
    uniqExact(i.interaction_id) AS judged, any(total.n) AS interactions,
    judged / nullIf(interactions, 0) AS coverage,
    wilson_low(judged, interactions) AS low, wilson_high(judged, interactions) AS high
FROM current_evaluations AS e
INNER JOIN (SELECT interaction_id, agent FROM interactions WHERE {ended_here:sql}) AS i
    ON e.target = i.interaction_id
INNER JOIN (SELECT agent, count() AS n FROM interactions WHERE {ended_here:sql} GROUP BY agent) AS total
    ON total.agent = i.agent
WHERE e.time >= {from:time}
GROUP BY agent, kind, evaluator ORDER BY agent, kind, evaluator LIMIT 500

-- Share of the targets on which a score (0.5 and more is good) says what the outcome says.
-- name: agreement
WITH {wilson:sql}
SELECT if(s.name = '', 'unnamed', toString(s.name)) AS evaluator, count() AS n,
    countIf((s.value >= 0.5) = (o.value >= 0.5)) AS agreeing, agreeing / n AS agreement,
    wilson_low(agreeing, n) AS low, wilson_high(agreeing, n) AS high,
    countIf(s.value >= 0.5 AND o.value < 0.5) AS too_good,
    countIf(s.value < 0.5 AND o.value >= 0.5) AS too_bad
FROM (SELECT target, name, value FROM current_evaluations
    WHERE kind = 'score' AND value IS NOT NULL AND time >= {from:time} AND time <= {to:time}) AS s
INNER JOIN (SELECT target, min(e.value) AS value FROM current_evaluations AS e
    WHERE kind = 'outcome' AND e.value IS NOT NULL AND e.time >= {from:time} GROUP BY target) AS o
    USING (target)
GROUP BY evaluator ORDER BY evaluator
