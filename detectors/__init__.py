"""Numbers in, verdicts out: no I/O, no clock, no global state.

::

    sketch    log-histogram of latencies and costs: mergeable, any quantile to 1 %
    base      what every detector owes; arrays <-> JSON types
    rates     has a rate changed? e-SR over thousands of streams, honest about its baseline
    failures  error message -> template -> fingerprint
"""
