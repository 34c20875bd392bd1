"""Numbers in, verdicts out: no I/O, no clock, no global state.

::

    base       what every detector owes; arrays <-> JSON types
    sketch     log-histogram of latencies and costs: mergeable, any quantile to 1 %

    rates      has a rate changed? e-SR over thousands of streams, honest about its baseline
      baselines  ... what a stream is held against, and what may replace it
      episodes   ... what is known of a change in progress
      reference  ... what "normal" is, its uncertainty, its dispersion
      recovery   ... is the change over?
    ensembles  one question asked in several ways: indicators of a metric, categories of a mix
    transitions  has the order of an agent's steps changed?
    contrast   an agent against its fleet: blind to what hits all alike
    metrics    heavy-tailed metrics as ranks and exceedances
    seasonal   baselines per hour of the week, shrunk where data is thin
    drift      inputs or behaviour? topics of texts and rates within them
    twosample  two samples of vectors: energy, MMD, a classifier; once, or for ever
    budget     false alerts a week, spent over all streams
    slices     which version, tool or topic carries a change
    verdicts   is the new version better? valid however often one looks

    failures   error message -> template -> fingerprint
    features   failures as vectors
    terms      clusters described by the words that set them apart
    pool       failures that wait for others of their kind
    cores      dense cores of a window, joined where they speak alike
    lineage    which cluster of a refit is which known one
    portraits  name, medoid and examples of a cluster
    clusters   failure clusters with an identity
    surges     clusters that rise or are new, under the error budget

    outcomes/      what events say about an outcome: reasons, structural (docs/outcomes.md)
    satisfaction/  dissatisfaction estimated from turns and work (docs/satisfaction.md)
    compare/       agreement of judges with people; a mean from few labels and many judgements

The guide is docs/detectors.md.
"""
