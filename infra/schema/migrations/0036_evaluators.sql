-- What every evaluator decided about every target, and every call that it made to a model.
CREATE TABLE IF NOT EXISTS evaluation_decisions
(
    evaluator LowCardinality(String) COMMENT 'name in the file of evaluators',
    evaluator_version LowCardinality(String) COMMENT 'hash of prompt, model, schema and view',
    target_kind LowCardinality(String) COMMENT 'interaction or session',
    target String COMMENT 'interaction_id or session_id',
    version UInt64 COMMENT 'content << 16 | round << 8 | rank of the state: later words replace earlier ones, in any order of arrival',
    state LowCardinality(String) COMMENT 'not_ready, filtered, sampled_out, pending, over_budget, overloaded, failed, refused or done',
    reason LowCardinality(String) COMMENT 'why it failed, was refused or not judged',
    content UInt64 COMMENT 'version of what is judged: events of the target',
    round UInt8 COMMENT '0 live, raised by each backfill',
    run String COMMENT 'id of the backfill that asked, empty for live traffic',
    environment LowCardinality(String) COMMENT 'of the target',
    agent LowCardinality(String) COMMENT 'of the target',
    session_id String COMMENT 'conversation of the target; decides whether it is sampled',
    end DateTime('UTC') COMMENT 'end of the target',
    at DateTime64(9, 'UTC') COMMENT 'event time that a score of it gets',
    decided DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when this was written',
    value Nullable(Float64) COMMENT 'score given, 0 worst to 1 best',
    model LowCardinality(String) COMMENT 'model that answered, as it says itself',
    calls UInt8 COMMENT 'calls made for it',
    cost_usd Nullable(Decimal(18, 9)) COMMENT 'cost of these calls, null when no price is known',
    latency_ms Nullable(Float64) COMMENT 'of the call that answered, ms'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (evaluator, evaluator_version, target_kind, target)
SETTINGS index_granularity = 1024
--------
-- A call is written before it is made and again when its end is known: budgets are sums over this.
CREATE TABLE IF NOT EXISTS evaluation_calls
(
    account LowCardinality(String) COMMENT 'whose budget pays: evaluator, or evaluator and backfill',
    call_id String COMMENT 'item, attempt and process',
    version UInt8 COMMENT '1 reserved, 2 settled',
    item String COMMENT 'evaluator version, target, content and round',
    owner String COMMENT 'process that makes it',
    attempt UInt8 COMMENT '0 for the first call of an item',
    reserved DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'by the clock of the database, once and for all',
    state LowCardinality(String) COMMENT 'reserved, withdrawn, answered, refused or failed',
    reason LowCardinality(String) COMMENT 'why the call failed',
    evaluator LowCardinality(String) COMMENT 'name in the file of evaluators',
    evaluator_version LowCardinality(String) COMMENT 'hash of prompt, model, schema and view',
    purpose LowCardinality(String) COMMENT 'live, backfill or anchor',
    target String COMMENT 'interaction_id or session_id',
    input_hash UInt64 COMMENT 'of everything that was sent',
    charge_usd Decimal(18, 9) COMMENT 'the most it can cost while reserved, then what it cost',
    priced UInt8 COMMENT '0: no price of the model is known',
    input_tokens Nullable(UInt64) COMMENT 'as the endpoint says',
    output_tokens Nullable(UInt64) COMMENT 'as the endpoint says',
    latency_ms Nullable(Float64) COMMENT 'of the call, ms',
    model LowCardinality(String) COMMENT 'model that answered, as it says itself',
    at DateTime64(9, 'UTC') COMMENT 'event time of its scores',
    answer String CODEC(ZSTD(1)) COMMENT 'JSON: scores that were read from the answer, redacted'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(reserved)
ORDER BY (account, reserved, call_id)
SETTINGS index_granularity = 1024
--------
-- Evaluators that ever ran here, and from when on they decide about everything.
CREATE TABLE IF NOT EXISTS evaluator_versions
(
    evaluator LowCardinality(String) COMMENT 'name in the file of evaluators',
    evaluator_version LowCardinality(String) COMMENT 'hash of prompt, model, schema and view',
    began DateTime('UTC') COMMENT 'event time from which on every target has a decision; the earliest counts',
    spec String COMMENT 'JSON: the evaluator as configured'
)
ENGINE = ReplacingMergeTree
ORDER BY (evaluator, evaluator_version, began)
--------
CREATE TABLE IF NOT EXISTS evaluation_runs
(
    run String COMMENT 'id of a backfill',
    evaluator LowCardinality(String) COMMENT 'name in the file of evaluators',
    made DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was asked for',
    since DateTime('UTC') COMMENT 'targets that ended from then on',
    until DateTime('UTC') COMMENT 'to then',
    budget String COMMENT 'JSON: its own budget'
)
ENGINE = ReplacingMergeTree
ORDER BY (run, evaluator)
