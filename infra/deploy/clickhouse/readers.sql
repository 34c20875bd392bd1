-- Readers on a ClickHouse server of your own: Grafana, analysts, the board. Run as an administrator, once;
-- every statement may be repeated. Users are yours to make:
--     CREATE USER grafana IDENTIFIED WITH sha256_password BY '...' DEFAULT ROLE driftline_reader;

CREATE ROLE IF NOT EXISTS driftline_reader;
GRANT SELECT, SHOW ON driftline.* TO driftline_reader;
-- Untouched bytes of refused lines are for the owner alone.
REVOKE SELECT ON driftline.dead_letter_originals FROM driftline_reader;

-- readonly = 2 lets a client lower its own limits, as Grafana's plugin does; it can write nothing.
CREATE SETTINGS PROFILE IF NOT EXISTS driftline_reader SETTINGS
    readonly = 2,
    max_execution_time = 60 MAX 300,
    max_memory_usage = 4000000000 MAX 8000000000,
    max_result_rows = 1000000 MAX 10000000,
    allow_ddl = 0 CONST
    TO driftline_reader;

CREATE QUOTA IF NOT EXISTS driftline_reader KEYED BY user_name
    FOR INTERVAL 1 hour MAX queries = 20000, execution_time = 3600
    TO driftline_reader;

-- A role that sees one environment, here `production`: one such block per environment. Views are executed
-- with the rights of who asks, so the rows they show are limited as well. Give such a user this role and
-- not driftline_reader.
CREATE ROLE IF NOT EXISTS driftline_production;
GRANT SELECT, SHOW ON driftline.* TO driftline_production;
-- These name no environment.
REVOKE SELECT ON driftline.dead_letter_originals FROM driftline_production;
REVOKE SELECT ON driftline.finding_actions FROM driftline_production;
REVOKE SELECT ON driftline.notifications FROM driftline_production;
REVOKE SELECT ON driftline.silences FROM driftline_production;
REVOKE SELECT ON driftline.alert_events FROM driftline_production;
REVOKE SELECT ON driftline.regression_results FROM driftline_production;
REVOKE SELECT ON driftline.ignored_records FROM driftline_production;
REVOKE SELECT ON driftline.evaluation_calls FROM driftline_production;
REVOKE SELECT ON driftline.erasures FROM driftline_production;
REVOKE SELECT ON driftline.released_partitions FROM driftline_production;
REVOKE SELECT ON driftline.evaluator_agreement FROM driftline_production;

CREATE ROW POLICY IF NOT EXISTS driftline_production ON
    driftline.events, driftline.evaluations, driftline.windows, driftline.interaction_cells,
    driftline.findings, driftline.interaction_results, driftline.session_results, driftline.rollups,
    driftline.station_changes, driftline.clusters, driftline.cluster_members,
    driftline.cluster_lineage, driftline.verdicts, driftline.dead_letters,
    driftline.evaluation_decisions, driftline.expired
    FOR SELECT USING environment = 'production' TO driftline_production;
-- Everybody else sees all rows, also where users_without_row_policies_can_read_rows is off.
CREATE ROW POLICY IF NOT EXISTS driftline_everything ON
    driftline.events, driftline.evaluations, driftline.windows, driftline.interaction_cells,
    driftline.findings, driftline.interaction_results, driftline.session_results, driftline.rollups,
    driftline.station_changes, driftline.clusters, driftline.cluster_members,
    driftline.cluster_lineage, driftline.verdicts, driftline.dead_letters,
    driftline.evaluation_decisions, driftline.expired
    FOR SELECT USING 1 TO ALL EXCEPT driftline_production;

CREATE SETTINGS PROFILE IF NOT EXISTS driftline_production SETTINGS
    INHERIT driftline_reader TO driftline_production;
CREATE QUOTA IF NOT EXISTS driftline_production KEYED BY user_name
    FOR INTERVAL 1 hour MAX queries = 20000, execution_time = 3600
    TO driftline_production;
