-- Parts of statements. `wilson` and `quantile` define functions, `range` and `series` names for WITH.

-- 95 % Wilson score interval of a share: E. B. Wilson, JASA 22 (1927). NULL where n is 0.
-- name: wilson
(yes, n) -> if(n = 0, NULL, greatest(0, (yes + 1.920729410347062
        - 1.959963984540054 * sqrt(yes * (n - yes) / n + 0.960364705173531)) / (n + 3.841458820694124)))
    AS wilson_low,
(yes, n) -> if(n = 0, NULL, least(1, (yes + 1.920729410347062
        + 1.959963984540054 * sqrt(yes * (n - yes) / n + 0.960364705173531)) / (n + 3.841458820694124)))
    AS wilson_high

-- Log-histograms of all rows as one, sorted by bin; a bin may stand there several times. Much
-- cheaper than sumMap.
-- name: histogram
(arraySort(groupArrayArray(duration_bins)), arraySort((c, b) -> b,
    groupArrayArray(duration_counts), groupArrayArray(duration_bins))) AS histogram

-- name: first_token_histogram
(arraySort(groupArrayArray(first_token_bins)), arraySort((c, b) -> b,
    groupArrayArray(first_token_counts), groupArrayArray(first_token_bins))) AS histogram

-- Quantile of a log-histogram (bins, counts) as detectors/sketch.py has it. NULL when it is empty.
-- name: quantile
(q, h) -> if(empty(h.2), NULL, h.1[arrayFirstIndex(c -> c > floor(q * (arraySum(h.2) - 1)),
    arrayCumSum(h.2))]) AS bin_at,
(q, h) -> if(bin_at(q, h) = -32768, 0, 0.99 * pow(1.02020202020202, bin_at(q, h))) AS quantile_ms

-- Borders of the time range in rollups: whole days inside, hours and minutes at its ends. Minutes
-- are not kept for ever, so an old range begins with a whole hour.
-- name: range
toUnixTimestamp({from:time}) AS from_s,
toUnixTimestamp({to:time}) AS to_s,
if(from_s < toUnixTimestamp(now()) - 2505600, 3600, 60) AS edge_s,
intDiv(from_s, edge_s) * edge_s AS minute_1, (intDiv(to_s, 60) + 1) * 60 AS minute_2,
intDiv(minute_1 + 3599, 3600) * 3600 AS hour_1, intDiv(minute_2, 3600) * 3600 AS hour_2,
intDiv(minute_1 + 86399, 86400) * 86400 AS day_1, intDiv(minute_2, 86400) * 86400 AS day_2

-- Of columns of the key, so it may stand in PREWHERE: FINAL then copies the rows of the range alone.
-- name: in_range
((width_s = 86400 AND start >= toDateTime(day_1, 'UTC') AND start < toDateTime(day_2, 'UTC'))
    OR (width_s = 3600 AND start >= toDateTime(hour_1, 'UTC')
        AND start < toDateTime(least(day_1, hour_2), 'UTC'))
    OR (width_s = 3600 AND start >= toDateTime(greatest(day_1, day_2), 'UTC')
        AND start < toDateTime(hour_2, 'UTC'))
    OR (width_s = 60 AND start >= toDateTime(minute_1, 'UTC')
        AND start < toDateTime(least(hour_1, minute_2), 'UTC'))
    OR (width_s = 60 AND start >= toDateTime(greatest(hour_1, hour_2), 'UTC')
        AND start < toDateTime(minute_2, 'UTC')))

-- Of the period of the same length that ends where the range begins.
-- name: range_before
toUnixTimestamp({from:time}) AS end_s,
if(2 * end_s - toUnixTimestamp({to:time}) < toUnixTimestamp(now()) - 2505600, 3600, 60) AS edge_s,
intDiv(greatest(2 * end_s - toUnixTimestamp({to:time}), 0), edge_s) * edge_s AS minute_1,
intDiv(end_s, edge_s) * edge_s AS minute_2,
intDiv(minute_1 + 3599, 3600) * 3600 AS hour_1, intDiv(minute_2, 3600) * 3600 AS hour_2,
intDiv(minute_1 + 86399, 86400) * 86400 AS day_1, intDiv(minute_2, 86400) * 86400 AS day_2

-- Width of the rollups behind a line over time, and of its points, which hold whole rollups.
-- name: series
toUnixTimestamp({from:time}) AS from_s, toUnixTimestamp({to:time}) AS to_s,
multiIf(to_s - from_s > 1296000, 86400,
    from_s < toUnixTimestamp(now()) - 2505600 OR to_s - from_s > 43200, 3600, 60) AS width,
intDiv(greatest({interval:seconds}, width) + width - 1, width) * width AS bucket

-- name: in_series
width_s = width AND start >= {from:time} AND start <= {to:time}

-- name: time
toStartOfInterval(start, toIntervalSecond(bucket)) AS time

-- name: chosen
{environment:labels} AND {agent:labels} AND {version:labels}

-- The agents of a chart with a line each: those with most traffic, as more cannot be told apart.
-- name: busiest
agent IN
(
    SELECT agent FROM rollups FINAL
    WHERE {in_series:sql} AND unit = 'interactions' AND {chosen:sql}
    GROUP BY agent ORDER BY sum(n) DESC, agent LIMIT 12
)

-- name: ended_here
end >= {from:time} AND end <= {to:time} AND {chosen:sql}

-- Ids under which the interactions of a session name it, where other scopes use its id too.
-- name: session_ids
({session:text}, splitByString('@scope:', {session:text})[1])

-- Rows of interaction_results that are of a session, and not of another scope that uses its id.
-- name: of_session
session_id IN {session_ids:sql} AND cell IN (SELECT cell FROM session_index WHERE session_id IN {session_ids:sql})
AND scope IN
(
    SELECT scope FROM session_results FINAL WHERE live AND session_id = {session:text}
        AND cell IN (SELECT cell FROM session_index WHERE session_id IN {session_ids:sql})
)

-- Whether a scope, as bound tokens have it, holds an environment and an agent.
-- name: admits
(s, e, a) -> (has(['', toString(e)], substringIndex(toString(s), '/', 1)) AND (position(s, '/') = 0
    OR has(splitByChar(',', substring(toString(s), position(s, '/') + 1)), toString(a)))) AS admits

-- Evaluations that may speak of what they name; by bound tokens of others they count for nothing.
-- name: heard
(scope = '' OR (target, event_id) NOT IN (SELECT target, event_id FROM foreign_evaluations))

-- What was said last by each judge of each target, in the time range. A comment alone takes no value
-- away. No FINAL: a repeat says the same again.
-- name: said
(
    SELECT target, kind, name, user_id, argMaxIf(v.value, v.time, v.value IS NOT NULL) AS value,
        max(v.time) AS time
    FROM evaluations AS v
    WHERE v.time >= {from:time} AND v.time <= {to:time} AND (event_id, v.time, payload_hash) NOT IN
        (SELECT event_id, time, payload_hash FROM collisions) AND {heard:sql}
    GROUP BY target, kind, name, user_id
)
