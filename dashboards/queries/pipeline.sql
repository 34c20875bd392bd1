-- The monitor itself: books, lag, stations, freshness, signs of life.

-- name: lines_now
SELECT sum(lines) AS lines FROM ledger FINAL WHERE ingested >= {from:time} AND ingested <= {to:time}

-- name: dead_now
SELECT sum(dead_lettered) / nullIf(sum(lines), 0) AS share, sum(lines) AS n
FROM ledger FINAL WHERE ingested >= {from:time} AND ingested <= {to:time}

-- name: late_now
SELECT sum(late) / nullIf(sum(rows), 0) AS share, sum(rows) AS n
FROM ledger FINAL WHERE ingested >= {from:time} AND ingested <= {to:time}

-- name: waiting_now
SELECT sumOrNull(lag) AS records FROM watermarks FINAL
WHERE updated >= {from:time} AND updated <= {to:time} + INTERVAL 1 MINUTE

-- name: quiet_now
SELECT max(age) AS age
FROM
(
    SELECT dateDiff('second', max(ts), now64(3)) AS age
    FROM heartbeats WHERE ts >= {from:time} AND ts <= {to:time} GROUP BY component
)
HAVING count() > 0

-- Behind the newest event, not behind the other stations: a single one can be late too.
-- name: slowest_station
WITH (SELECT max(watermark) FROM watermarks FINAL) AS newest
SELECT greatest(0, dateDiff('second', min(position), newest)) AS behind
FROM station_progress FINAL WHERE position > toDateTime(0, 'UTC') AND position <= {to:time}
HAVING count() > 0

-- name: stations
WITH (SELECT max(watermark) FROM watermarks FINAL) AS newest
SELECT station AS stream, min(p.position) AS position,
    greatest(0, dateDiff('second', min(p.position), newest)) AS behind
FROM station_progress AS p FINAL WHERE p.position <= {to:time}
GROUP BY stream
ORDER BY behind DESC, stream LIMIT 200

-- name: newest_result
SELECT dateDiff('second', max(start), now()) AS age FROM rollups FINAL
WHERE width_s = 60 AND unit = 'interactions' AND start >= {from:time} AND start <= {to:time}
HAVING count() > 0

-- name: throughput
SELECT toStartOfInterval(toDateTime(ingested), toIntervalSecond({interval:seconds})) AS time,
    sum(lines) / {interval:seconds} AS lines, sum(rows) / {interval:seconds} AS stored
FROM ledger FINAL WHERE ingested >= {from:time} AND ingested <= {to:time}
GROUP BY time ORDER BY time

-- name: dead_letters
SELECT toStartOfInterval(toDateTime(ingested), toIntervalSecond({interval:seconds})) AS time, code,
    count() * 60 / {interval:seconds} AS lines
FROM dead_letters FINAL WHERE ingested >= {from:time} AND ingested <= {to:time}
GROUP BY time, code ORDER BY time, code

-- name: partitions
SELECT topic, partition, nullIf(watermark, toDateTime64(0, 9, 'UTC')) AS event_time,
    dateDiff('second', event_time, now64(9)) AS behind, lag AS waiting,
    dateDiff('second', updated, now64(3)) AS reported_ago, log_id
FROM watermarks FINAL
WHERE updated >= {from:time} AND updated <= {to:time} + INTERVAL 1 MINUTE
ORDER BY topic, log_id, partition

-- name: components
SELECT component, instance, max(ts) AS last_seen,
    dateDiff('second', last_seen, now64(3)) AS age, argMax(detail, ts) AS detail
FROM heartbeats WHERE ts >= {from:time} AND ts <= {to:time}
GROUP BY component, instance ORDER BY component, age

-- name: beats
SELECT toStartOfInterval(toDateTime(ts), toIntervalSecond({interval:seconds})) AS time, component,
    count() * 60 / {interval:seconds} AS beats
FROM heartbeats WHERE ts >= {from:time} AND ts <= {to:time}
GROUP BY time, component ORDER BY time, component

-- name: books
SELECT topic, partition, count() AS records, sum(lines) AS lines, sum(rows) AS stored,
    sum(dead_lettered) AS dead, sum(late) AS late,
    toInt64(lines) - toInt64(stored) - toInt64(dead) AS unaccounted,
    toInt64(max(offset)) - toInt64(min(offset)) + 1 - toInt64(records) AS missing,
    min(offset) AS first_offset, max(offset) AS last_offset, log_id
FROM ledger FINAL WHERE ingested >= {from:time} AND ingested <= {to:time}
GROUP BY log_id, topic, partition ORDER BY topic, log_id, partition

-- name: dead_letter_details
SELECT ingested, code, detail, environment, agent, topic, partition, offset, line, bytes, sha256
FROM dead_letters FINAL WHERE ingested >= {from:time} AND ingested <= {to:time}
ORDER BY ingested DESC, topic, partition, offset, line LIMIT 100

-- name: late_over_time
SELECT toStartOfInterval(toDateTime(ingested), toIntervalSecond({interval:seconds})) AS time, topic,
    sum(late) * 60 / {interval:seconds} AS late
FROM ledger FINAL WHERE ingested >= {from:time} AND ingested <= {to:time}
GROUP BY time, topic ORDER BY time, topic

-- name: tables
SELECT table, sum(rows) AS rows, sum(bytes_on_disk) AS bytes, count() AS parts,
    max(modification_time) AS written
FROM system.parts
WHERE active AND database = currentDatabase() AND modification_time <= {to:time} + INTERVAL 1 DAY
GROUP BY table ORDER BY bytes DESC, table LIMIT 100

-- Also what `driftline senders` reads.
-- name: senders
SELECT
    if(JSONExtractString(attributes, 'service.name') = '', agent,
        JSONExtractString(attributes, 'service.name')) AS service,
    JSONExtractString(attributes, 'otel.scope.name') AS scope,
    JSONExtractString(attributes, 'driftline.dialect') AS dialect,
    count() AS spans,
    countIf(kind = 'llm_call') AS model_calls,
    countIf(kind = 'llm_call' AND status = 'ok' AND input_tokens IS NULL) AS untold_tokens,
    countIf(kind = 'llm_call' AND input_tokens IS NOT NULL) AS with_tokens,
    countIf(kind = 'llm_call' AND cost_usd IS NOT NULL) AS with_cost,
    countIf(kind = 'interaction') AS runs,
    countIf(kind = 'interaction' AND session_id = '') AS without_session,
    topKIf(3)(model, kind = 'llm_call' AND input_tokens IS NOT NULL AND cost_usd IS NULL
        AND model != '') AS unpriced,
    max(time) AS last_seen
FROM events FINAL
WHERE time >= {from:time} AND time <= {to:time} AND position(attributes, '"span.name"') > 0
GROUP BY service, scope, dialect
ORDER BY spans DESC, service, scope, dialect LIMIT 1000
