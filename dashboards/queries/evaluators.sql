-- Scores, outcomes and feedback: who judges, how much, how alike.

-- What a judge gives means little without its agreement with people or outcomes: no mean without it.
-- name: names
SELECT kind, if(name = '', 'unnamed', toString(name)) AS evaluator, count() AS evaluations,
    uniqExact(target) AS targets, any(a.kappa) AS kappa,
    if(kind = 'score' AND kappa IS NULL, NULL, avg(value)) AS mean,
    if(kind = 'score' AND kappa IS NULL, NULL, quantileExact(0.1)(value)) AS p10,
    if(kind = 'score' AND kappa IS NULL, NULL, quantileExact(0.9)(value)) AS p90,
    countIf(value IS NULL) AS without_value, max(time) AS last_seen
FROM {said:sql} AS said
LEFT JOIN
(
    SELECT evaluator AS judge, argMax(kappa, day) AS kappa FROM evaluator_agreement FINAL GROUP BY judge
) AS a ON a.judge = name AND kind = 'score'
GROUP BY kind, evaluator ORDER BY kind, evaluations DESC, evaluator LIMIT 200

-- name: over_time
SELECT toStartOfInterval(toDateTime(e.time), toIntervalSecond(greatest({interval:seconds}, 300))) AS time,
    concat(kind, ' ', name) AS evaluator, avg(value) AS mean
FROM evaluations AS e FINAL
WHERE e.time >= {from:time} AND e.time <= {to:time} AND {heard:sql}
    AND (kind != 'score' OR name IN (SELECT evaluator FROM evaluator_agreement FINAL WHERE kappa IS NOT NULL))
GROUP BY time, evaluator ORDER BY time, evaluator

-- Of the interactions of the last day of the range, the share that each evaluator has judged.
-- name: coverage
WITH {wilson:sql}, {admits:sql}, greatest({from:time}, {to:time} - INTERVAL 1 DAY) AS since, recent AS
(
    SELECT interaction_id, environment, agent FROM interaction_results FINAL
    WHERE live AND cell >= since - INTERVAL 10 SECOND AND cell <= {to:time}
        AND end >= since AND end <= {to:time} AND {chosen:sql}
)
SELECT i.agent AS agent, e.kind AS kind, if(e.name = '', 'unnamed', toString(e.name)) AS evaluator,
    uniqExact(e.target) AS judged, any(total.n) AS interactions,
    judged / nullIf(interactions, 0) AS coverage,
    wilson_low(judged, interactions) AS low, wilson_high(judged, interactions) AS high
FROM (SELECT target, kind, name, scope FROM evaluations WHERE evaluations.time >= since) AS e
INNER JOIN recent AS i ON e.target = i.interaction_id
INNER JOIN (SELECT agent, count() AS n FROM recent GROUP BY agent) AS total ON total.agent = i.agent
WHERE e.scope = '' OR admits(e.scope, i.environment, i.agent)
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

-- What became of every target, by evaluator.
-- name: decisions
SELECT evaluator, count() AS targets, countIf(state = 'done') AS done,
    done / nullIf(countIf(state NOT IN ('filtered', 'not_ready')), 0) AS coverage,
    countIf(state IN ('pending', 'not_ready')) AS waiting, countIf(state = 'filtered') AS filtered,
    countIf(state = 'sampled_out') AS sampled_out, countIf(state = 'over_budget') AS over_budget,
    countIf(state = 'overloaded') AS overloaded, countIf(state = 'refused') AS refused,
    countIf(state = 'failed') AS failed,
    arrayStringConcat(topKIf(3)(toString(reason), state = 'failed'), ', ') AS failures,
    sum(d.cost_usd) AS usd, quantileExactIf(0.95)(latency_ms, latency_ms IS NOT NULL) AS p95_ms
FROM decisions AS d
WHERE end >= {from:time} AND end <= {to:time}
GROUP BY evaluator ORDER BY evaluator LIMIT 200

-- How far judges agree with people, or with outcomes where nobody labelled; the latest measurement.
-- name: trust
SELECT evaluator, n, labels, kappa, kappa_low, kappa_high, precision, precision_low, precision_high,
    recall, recall_low, recall_high, pass_rate, pass_low, pass_high
FROM evaluator_agreement FINAL WHERE day <= {to:time}
ORDER BY day DESC LIMIT 1 BY evaluator
