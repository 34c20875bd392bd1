-- Alert rules: one row per instance, all strings and one number. The strings of a rule are its labels.

-- One instance per finding of a severity. One that has ended stays for a while with value 0, so that
-- it resolves by evaluation. Labels hold only what stays as it was found: a changed label would be
-- another alert. Numbers come beside it, matched by finding_id.
-- name: findings
SELECT finding_id, environment, agent, kind, formatDateTime(began, '%Y-%m-%d %H:%i') AS since,
    if(evidence IN ('', '[]'), 'not known', concat(JSONExtractString(evidence, 1, 'reason'),
        if(JSONExtractString(evidence, 1, 'tool') = '', '',
            concat(' in ', JSONExtractString(evidence, 1, 'tool'))))) AS cause,
    if(status IN ('open', 'acknowledged', 'regressed'), 1.0, 0.0) AS value
FROM findings FINAL
WHERE has({severities:rows}, tuple(toString(severity)))
    AND (ended IS NULL OR ended >= {from:time}) AND found <= {to:time} + INTERVAL 1 MINUTE
ORDER BY finding_id

-- name: baseline
SELECT finding_id, baseline FROM findings FINAL
WHERE has({severities:rows}, tuple(toString(severity))) AND (ended IS NULL OR ended >= {from:time})

-- name: observed
SELECT finding_id, observed FROM findings FINAL
WHERE has({severities:rows}, tuple(toString(severity))) AND (ended IS NULL OR ended >= {from:time})

-- name: n
SELECT finding_id, n FROM findings FINAL
WHERE has({severities:rows}, tuple(toString(severity))) AND (ended IS NULL OR ended >= {from:time})

-- name: e_value
SELECT finding_id, e_value FROM findings FINAL
WHERE has({severities:rows}, tuple(toString(severity))) AND (ended IS NULL OR ended >= {from:time})

-- Burn rate: how many times faster than allowed the error budget is used up; the lesser of a long and
-- a short window, as multiple of what the severity asks for. At least `least_n` known in the long one.
-- name: burn
SELECT slo, environment, agent, max(if(long_n >= least_n,
    least(long_bad / long_n, short_bad / greatest(short_n, 1)) / (1 - objective) / factor, 0.0)) AS value
FROM
(
    SELECT s.1 AS slo, r.environment AS environment, r.agent AS agent, s.4 AS objective,
        s.7 AS factor, s.8 AS least_n,
        sumIf(known, start >= now() - toIntervalSecond(s.5)) AS long_n,
        sumIf(known - yes, start >= now() - toIntervalSecond(s.5)) AS long_bad,
        sumIf(known, start >= now() - toIntervalSecond(s.6)) AS short_n,
        sumIf(known - yes, start >= now() - toIntervalSecond(s.6)) AS short_bad
    FROM
    (
        SELECT toString(environment) AS environment, toString(agent) AS agent, start,
            sum(success_known) AS known, sum(succeeded) AS yes
        FROM rollups FINAL
        WHERE width_s = 60 AND unit = 'interactions' AND start >= {from:time} AND start <= {to:time}
        GROUP BY environment, agent, start
    ) AS r
    CROSS JOIN (SELECT arrayJoin({objectives:rows}) AS s) AS objectives
    WHERE s.2 IN ('', r.environment) AND s.3 IN ('', r.agent)
    GROUP BY s, environment, agent
)
GROUP BY slo, environment, agent

-- Expected components, and those that spoke in the time range, by their last sign of life; and topics on which lines came in nearly every
-- minute of the last six hours, by the last line: the gateway or the receiver before them is away.
-- name: deadman
SELECT expected.component AS component,
    if(beats.component = '', 86400.0,
        toFloat64(dateDiff('second', beats.last_ts, now64(3)))) AS age_s
FROM
(
    SELECT arrayJoin({components:rows}).1 AS component
    UNION DISTINCT
    SELECT toString(component) FROM heartbeats WHERE ts >= {from:time} AND ts <= {to:time}
) AS expected
LEFT JOIN
(
    SELECT toString(component) AS component, max(ts) AS last_ts
    FROM heartbeats WHERE ts >= {from:time} AND ts <= {to:time} GROUP BY component
) AS beats ON expected.component = beats.component
UNION ALL
SELECT concat('senders of ', topic) AS component,
    toFloat64(dateDiff('second', max(ingested), now64(3))) AS age_s
FROM ledger WHERE ingested >= {from:time} AND ingested <= {to:time}
GROUP BY topic
HAVING uniqExact(toStartOfMinute(ingested)) >= 320

-- An agent that was busy in each of the last hours, and has gone quiet: the share of what it used
-- to do in so long a time that is missing. Busy: 20 an hour, in at least 6 of the last 24 hours.
-- name: quiet_agents
SELECT environment, agent,
    greatest(0.0, 1 - recent / greatest(usual, 1)) AS missing
FROM
(
    SELECT environment, agent,
        toFloat64(sumIf(n, start >= now() - INTERVAL 30 MINUTE)) AS recent,
        toFloat64(sumIf(n, start < now() - INTERVAL 30 MINUTE)) AS before,
        before / 47 AS usual,
        uniqExactIf(toStartOfHour(start), start < now() - INTERVAL 30 MINUTE) AS hours
    FROM rollups FINAL
    WHERE width_s = 60 AND unit = 'interactions' AND start >= {from:time} AND start <= {to:time}
    GROUP BY environment, agent
)
WHERE usual >= 10 AND hours >= 6

-- Each sign as a multiple of what is tolerable, so that one threshold serves all.
-- name: pipeline
SELECT sign, value / tolerable AS value
FROM
(
    SELECT 'dead letters, share of lines' AS sign,
        ifNull(sum(dead_lettered) / nullIf(sum(lines), 0), 0) AS value, 0.05 AS tolerable
    FROM ledger FINAL WHERE ingested >= {to:time} - INTERVAL 15 MINUTE
    UNION ALL
    SELECT 'records waiting' AS sign, toFloat64(sum(lag)) AS value, 100000 AS tolerable
    FROM watermarks FINAL WHERE updated >= {from:time}
    UNION ALL
    SELECT 'stations behind, s' AS sign, toFloat64(greatest(0, dateDiff('second', min(position),
        (SELECT max(watermark) FROM watermarks FINAL)))) AS value, 900 AS tolerable
    FROM station_progress FINAL WHERE position > toDateTime(0, 'UTC')
    UNION ALL
    SELECT 'records missing in the books' AS sign, toFloat64(sum(missing)) AS value, 0.5 AS tolerable
    FROM
    (
        SELECT toInt64(max(offset)) - toInt64(min(offset)) + 1 - count() AS missing FROM ledger FINAL
        WHERE ingested >= {from:time} AND ingested <= {to:time} - INTERVAL 2 MINUTE
        GROUP BY log_id, topic, partition
    )
)
