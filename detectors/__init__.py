"""Numbers in, verdicts out: no I/O, no clock, no global state.

::

    base       what every detector owes; arrays <-> JSON types
    sketch     log-histogram of latencies and costs: mergeable, any quantile to 1 %

    change/    has a stream changed?
      rates        has a rate changed? e-SR over thousands of streams, honest about its baseline
      baselines    what a stream is held against, and what may replace it
      reference    what "normal" is, its uncertainty, its dispersion
      episodes     what is known of a change in progress
      recovery     is the change over?
      ensembles    one question asked in several ways: indicators of a metric, categories of a mix
      transitions  has the order of an agent's steps changed?
      contrast     an agent against its fleet: blind to what hits all alike
      heavy_tails  latencies, costs and tokens as ranks and exceedances
      seasonal     baselines per hour of the week, shrunk where data is thin
      drift        inputs or behaviour? topics of texts and rates within them
      budget       false alarms a week, spent over all streams

    compare/   are two samples, versions or judges alike?
      twosample    two samples of vectors: energy, MMD, a classifier; once, or continuously
      verdicts     is the new version better? valid however often one looks
      agreement    how well judges agree with people
      judge_drift  has the judge changed, or the agents?
      ppi          a mean from few labels and many judgements

    failures/  kinds of failure
      fingerprint      error message -> template -> fingerprint
      features         failures as vectors
      terms            clusters described by the words that set them apart
      slices           which version, tool or topic carries a change
      unassigned       failures that wait for others of their kind
      regroup          dense groups of a window
      lineage          which cluster of a refit is which known one
      clusters         failure clusters with an identity
      cluster_summary  name, medoid and examples of a cluster
      cluster_rates    clusters that rise or are new, within the false-alarm budget

    outcomes/      what events say about an outcome: reasons, structural (docs/outcomes.md)
    satisfaction/  dissatisfaction estimated from turns and work (docs/satisfaction.md)

The guide is docs/detectors.md.
"""
