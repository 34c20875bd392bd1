-- Names that bear no windows of their own. '__other__' is where the others are counted: earlier
-- versions decided on it like on any name, and what is refused loses its windows.
CREATE VIEW IF NOT EXISTS refused_values AS
SELECT DISTINCT dimension, value FROM dimension_values
WHERE refused AND value != '__other__'
    AND NOT (dimension = 'scope' AND match(value, '^[a-z_]+:__other__$'))
--------
-- Refused names may be millions, admitted ones have a limit: of the refused only those are looked
-- at that another worker admitted.
CREATE OR REPLACE VIEW admitted_values AS
SELECT DISTINCT dimension, value FROM dimension_values
WHERE NOT refused AND (dimension, value) NOT IN
(
    SELECT dimension, value FROM dimension_values
    WHERE refused AND (dimension, value) IN
        (SELECT dimension, value FROM dimension_values WHERE NOT refused)
)
