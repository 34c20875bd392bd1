"""What a model call costs by list price, where nobody said; a price not listed is not known.

`usage` says which tokens a call used, `rates` what each kind costs, `model_ids` which names stand
for a model, `listed` reads the published list, `table` puts the user's own prices on top of it.
"""

from ingest.prices.rates import Price, Rates
from ingest.prices.table import Cost, Prices, as_of, cost, explain, install, installed, load
from ingest.prices.usage import TokenUsage

__all__ = [
    "Cost",
    "Price",
    "Prices",
    "Rates",
    "TokenUsage",
    "as_of",
    "cost",
    "explain",
    "install",
    "installed",
    "load",
]
