-- Failed interactions by what failed.

-- name: groups
SELECT fingerprint, any(failure_reason) AS reason, any(failure_tool) AS tool,
    any(failure_template) AS template, count() AS failures,
    failures / sum(failures) OVER () AS share,
    uniqExactIf(user_id, user_id != '') AS users, uniqExact(session_id) AS sessions,
    sum(cost_usd) AS cost, avg(satisfaction) AS rating, count(satisfaction) AS rated,
    arrayStringConcat(arraySort(groupUniqArray(5)(toString(agent))), ', ') AS agents,
    arrayStringConcat(arraySort(groupUniqArray(5)(toString(agent_version))), ', ') AS versions,
    min(end) AS first_seen, max(end) AS last_seen,
    argMax(interaction_id, (end, interaction_id)) AS interaction_id
FROM interactions WHERE {ended_here:sql} AND success = 0
GROUP BY fingerprint
ORDER BY users DESC, sessions DESC, failures DESC, fingerprint LIMIT 100

-- Kinds of failure as the station names them; their ids last, so a name is the same tomorrow.
-- name: clusters
SELECT environment, agent, cluster, name, toString(status) AS status, size AS failures,
    opportunities AS n, if(n > 0, failures / n, NULL) AS share, first_seen, last_seen,
    reason, tool, examples[1] AS interaction_id
FROM clusters FINAL
WHERE clusters.last_seen >= {from:time} AND clusters.first_seen <= {to:time}
    AND clusters.status != 'merged' AND {environment:labels} AND {agent:labels}
ORDER BY clusters.status IN ('new', 'regressed') DESC, failures DESC, cluster LIMIT 100

-- name: by_tool
SELECT if(failure_tool = '', 'no tool', toString(failure_tool)) AS tool, failure_reason AS reason,
    count() AS failures, uniqExactIf(user_id, user_id != '') AS users,
    uniqExact(session_id) AS sessions, max(end) AS last_seen
FROM interactions WHERE {ended_here:sql} AND success = 0
GROUP BY tool, reason ORDER BY failures DESC, tool, reason LIMIT 100

-- name: new
SELECT fingerprint, any(failure_reason) AS reason, any(failure_tool) AS tool,
    any(failure_template) AS template, min(end) AS first_seen, countIf(end >= {from:time}) AS failures,
    arrayStringConcat(arraySort(groupUniqArray(5)(toString(agent))), ', ') AS agents,
    argMin(interaction_id, (end, interaction_id)) AS interaction_id
FROM interactions
WHERE end >= {from:time} - toIntervalSecond(toUnixTimestamp({to:time}) - toUnixTimestamp({from:time}))
    AND end <= {to:time} AND {chosen:sql} AND success = 0
GROUP BY fingerprint HAVING first_seen >= {from:time}
ORDER BY failures DESC, fingerprint LIMIT 50

-- name: examples
SELECT end, environment, agent, agent_version, failure_reason AS reason, failure_tool AS tool,
    failure_template AS template, request, fingerprint, interaction_id, session_id
FROM interactions WHERE {ended_here:sql} AND success = 0
ORDER BY end DESC, interaction_id LIMIT 100
