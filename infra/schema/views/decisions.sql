-- One row per evaluator and target: what became of it, by the newest content and version.
CREATE OR REPLACE VIEW decisions AS
SELECT evaluator, target_kind, target, evaluator_version, state, reason, environment, agent,
    session_id, end, decided, value, model, calls, toFloat64(cost_usd) AS cost_usd, latency_ms, round,
    run, content
FROM evaluation_decisions FINAL
ORDER BY content DESC, decided DESC
LIMIT 1 BY evaluator, target_kind, target
--------
ALTER TABLE decisions
    COMMENT COLUMN evaluator 'name in the file of evaluators',
    COMMENT COLUMN target_kind 'interaction or session',
    COMMENT COLUMN target 'interaction_id or session_id',
    COMMENT COLUMN evaluator_version 'hash of prompt, model, schema and view',
    COMMENT COLUMN state 'not_ready, filtered, sampled_out, pending, over_budget, overloaded, failed, refused or done',
    COMMENT COLUMN reason 'why it failed or was refused',
    COMMENT COLUMN environment 'of the target',
    COMMENT COLUMN agent 'of the target',
    COMMENT COLUMN session_id 'conversation of the target',
    COMMENT COLUMN end 'end of the target, to 10 s',
    COMMENT COLUMN decided 'when this was decided, UTC',
    COMMENT COLUMN value 'score given, 0 worst to 1 best',
    COMMENT COLUMN model 'model that answered, as it says itself',
    COMMENT COLUMN calls 'calls made for it',
    COMMENT COLUMN cost_usd 'cost of these calls, null when no price is known',
    COMMENT COLUMN latency_ms 'of the call that answered, ms',
    COMMENT COLUMN round '0 live, raised by each backfill',
    COMMENT COLUMN run 'id of the backfill that asked, empty for live traffic',
    COMMENT COLUMN content 'version of what was judged: events of the target'
