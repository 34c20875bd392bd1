"""Records of the events topic become rows of events, evaluations, ledger and dead letters."""
