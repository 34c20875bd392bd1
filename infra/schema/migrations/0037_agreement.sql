-- How far judges agree with people, or with outcomes where nobody labelled.
CREATE TABLE IF NOT EXISTS evaluator_agreement
(
    evaluator LowCardinality(String) COMMENT 'name of the scores, others'' too',
    day DateTime('UTC') COMMENT 'of the last measurement',
    version UInt64 COMMENT 'when it was measured, ms',
    n UInt64 COMMENT 'targets with a score and a truth',
    labels UInt64 COMMENT 'of them labelled by people',
    kappa Nullable(Float64) COMMENT 'Cohen''s kappa: agreement beyond chance',
    kappa_low Nullable(Float64) COMMENT 'lower end of its 95 % interval',
    kappa_high Nullable(Float64) COMMENT 'upper end',
    precision Nullable(Float64) COMMENT 'share of the judge''s passes that are right',
    precision_low Nullable(Float64) COMMENT 'lower end of its 95 % interval',
    precision_high Nullable(Float64) COMMENT 'upper end',
    recall Nullable(Float64) COMMENT 'share of what is right that the judge passes',
    recall_low Nullable(Float64) COMMENT 'lower end of its 95 % interval',
    recall_high Nullable(Float64) COMMENT 'upper end',
    pass_rate Nullable(Float64) COMMENT 'share that people would pass, by prediction-powered inference',
    pass_low Nullable(Float64) COMMENT 'lower end of its 95 % interval',
    pass_high Nullable(Float64) COMMENT 'upper end'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (evaluator, day)
