-- Scores, outcomes and feedback: who judges, how much, how alike.

-- name: names
SELECT kind, if(name = '', 'unnamed', toString(name)) AS evaluator, count() AS evaluations,
    uniqExact(target) AS targets, avg(value) AS mean, quantileExact(0.1)(value) AS p10,
    quantileExact(0.9)(value) AS p90, countIf(value IS NULL) AS without_value, max(time) AS last_seen
FROM {said:sql}
GROUP BY kind, evaluator ORDER BY kind, evaluations DESC, evaluator LIMIT 200

-- name: over_time
SELECT toStartOfInterval(toDateTime(e.time), toIntervalSecond(greatest({interval:seconds}, 300))) AS time,
    concat(kind, ' ', name) AS evaluator, avg(value) AS mean
FROM evaluations AS e FINAL
WHERE e.time >= {from:time} AND e.time <= {to:time}
GROUP BY time, evaluator ORDER BY time, evaluator

-- Of the interactions of the last day of the range, the share that each evaluator has judged.
-- name: coverage
WITH {wilson:sql}, greatest({from:time}, {to:time} - INTERVAL 1 DAY) AS since, recent AS
(
    SELECT interaction_id, agent FROM interaction_results FINAL
    WHERE live AND cell >= since - INTERVAL 10 SECOND AND cell <= {to:time}
        AND end >= since AND end <= {to:time} AND {chosen:sql}
)
SELECT i.agent AS agent, e.kind AS kind, if(e.name = '', 'unnamed', toString(e.name)) AS evaluator,
    uniqExact(e.target) AS judged, any(total.n) AS interactions,
    judged / nullIf(interactions, 0) AS coverage,
    wilson_low(judged, interactions) AS low, wilson_high(judged, interactions) AS high
FROM (SELECT target, kind, name FROM evaluations WHERE evaluations.time >= since) AS e
INNER JOIN recent AS i ON e.target = i.interaction_id
INNER JOIN (SELECT agent, count() AS n FROM recent GROUP BY agent) AS total ON total.agent = i.agent
GROUP BY agent, kind, evaluator ORDER BY agent, kind, evaluator LIMIT 500

-- Share of the targets on which a score (0.5 and more is good) says what the outcome says.
-- name: agreement
WITH {wilson:sql}
SELECT if(s.name = '', 'unnamed', toString(s.name)) AS evaluator, count() AS n,
    countIf((s.value >= 0.5) = (o.value >= 0.5)) AS agreeing, agreeing / n AS agreement,
    wilson_low(agreeing, n) AS low, wilson_high(agreeing, n) AS high,
    countIf(s.value >= 0.5 AND o.value < 0.5) AS too_good,
    countIf(s.value < 0.5 AND o.value >= 0.5) AS too_bad
FROM (SELECT target, name, value FROM {said:sql} WHERE kind = 'score' AND value IS NOT NULL) AS s
INNER JOIN
(
    SELECT target, min(e.value) AS value FROM {said:sql} AS e
    WHERE kind = 'outcome' AND e.value IS NOT NULL GROUP BY target
) AS o USING (target)
GROUP BY evaluator ORDER BY evaluator
