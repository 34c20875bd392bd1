-- What the detectors found. A finding is open until it has ended; alerts are those that are open.

-- name: open_now
SELECT countIf(severity IN ('critical', 'page')) AS pages, count() AS open
FROM findings FINAL
WHERE status IN ('open', 'acknowledged', 'regressed') AND found <= {to:time}
    AND {environment:labels} AND {agent:labels}

-- name: list
SELECT found, began, ended, severity, status, kind, environment, agent, agent_version, title,
    baseline, observed, n, e_value, finding_id
FROM findings FINAL
WHERE found <= {to:time} AND (ended IS NULL OR ended >= {from:time})
    AND {environment:labels} AND {agent:labels}
ORDER BY ended IS NULL DESC, found DESC, finding_id LIMIT 100

-- name: open
SELECT began, severity, environment, agent, title, baseline, observed, n,
    dateDiff('second', began, now64(3)) AS lasts, finding_id
FROM findings FINAL
WHERE status IN ('open', 'acknowledged', 'regressed') AND found <= {to:time}
    AND {environment:labels} AND {agent:labels}
ORDER BY severity IN ('critical', 'page') DESC, began DESC, finding_id LIMIT 50

-- The failure groups behind the findings, before and since.
-- name: evidence
SELECT found, environment, agent, JSONExtractString(part, 'reason') AS reason,
    JSONExtractString(part, 'tool') AS tool, JSONExtractString(part, 'template') AS template,
    JSONExtractUInt(part, 'before') AS before, JSONExtractUInt(part, 'since') AS since,
    title, finding_id
FROM
(
    SELECT found, environment, agent, title, finding_id,
        arrayJoin(JSONExtractArrayRaw(evidence)) AS part
    FROM findings FINAL
    WHERE found <= {to:time} AND (ended IS NULL OR ended >= {from:time})
        AND {environment:labels} AND {agent:labels}
)
ORDER BY found DESC, finding_id, since DESC LIMIT 200

-- name: over_time
SELECT toStartOfInterval(found, toIntervalSecond(greatest({interval:seconds}, 60))) AS time,
    severity, count() AS findings
FROM findings FINAL
WHERE found >= {from:time} AND found <= {to:time} AND {environment:labels} AND {agent:labels}
GROUP BY time, severity ORDER BY time, severity

-- name: annotations
SELECT began AS time, ended AS timeEnd, title,
    concat(agent, ' in ', environment, ', ', toString(n), ' interactions') AS text,
    concat('incident,', kind, ',', agent, ',', environment, ',', severity) AS tags
FROM findings FINAL
WHERE found <= {to:time} AND (ended IS NULL OR ended >= {from:time})
    AND {environment:labels} AND {agent:labels}
ORDER BY time LIMIT 200
