-- A name is decided on before the first row that bears it is stored: admitted, or refused when there
-- are too many and then counted under '__other__' for ever. Two workers may decide differently at the
-- same moment, so both rows stay, and refused = 1 wins.
ALTER TABLE dimension_values
    ADD COLUMN IF NOT EXISTS refused UInt8,
    MODIFY ORDER BY (dimension, value, refused)
--------
CREATE VIEW IF NOT EXISTS admitted_values AS
SELECT dimension, value FROM dimension_values GROUP BY dimension, value HAVING max(refused) = 0
--------
-- What is stored already keeps its name.
INSERT INTO dimension_values (dimension, value)
SELECT DISTINCT n.1, n.2 FROM
(
    SELECT arrayJoin([
        ('environment', toString(environment)),
        ('agent', toString(agent)),
        ('agent_version', toString(agent_version)),
        ('scope', if(name = '', '', concat(kind, ':', name))),
        ('scope', if(model = '', '', concat('model:', model)))]) AS n
    FROM events
)
WHERE n.2 != ''
