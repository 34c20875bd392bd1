"""What becomes of clusters when a window is clustered anew: survived, born, split, merged.

References
----------
M. Spiliopoulou et al.: MONIC: modeling and monitoring cluster transitions. KDD 2006.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import linear_sum_assignment

_SAME: Final = 0.3  # share of the smaller one at which a new group is a known cluster
_PART: Final = 0.5  # share that makes a group a part of a cluster, or a cluster part of a group


@dataclass(frozen=True, slots=True)
class Transition:
    """What became of a cluster: survived, born, split (from ``source``), merged (it took in)."""

    what: str
    cluster: str
    source: str = ""


def match(
    before: Sequence[str],
    after: Sequence[int],
    weights: Sequence[int],
    new_id: Callable[[int], str],
    few: int = 5,
) -> tuple[dict[int, str], list[Transition]]:
    """Carry ids over to new groups: one to one, so that the most failures keep their cluster's id.

    Parameters
    ----------
    before
        Known cluster of each failure, '' for none.
    after
        New group of each failure, -1 for none.
    weights
        How often each failure occurred.
    new_id
        Gives an id to a group that continues nothing.
    few
        Failures too few to say that their cluster has gone into another.

    Returns
    -------
    names
        Id of every group.
    transitions
        In the order survived, split or born, merged.

    Examples
    --------
    >>> match(["a", "a", "a", "b"], [0, 0, 1, 1], [1, 1, 1, 9], lambda group: "fresh")[0]
    {0: 'a', 1: 'b'}
    """
    shared, known, fresh = _counted(before, after, weights)
    old, new = sorted(known), sorted(fresh)
    names: dict[int, str] = {}
    transitions = []
    if old and new:
        stay = np.array([[shared[o, c] for c in new] for o in old])
        for i, j in zip(*linear_sum_assignment(stay, maximize=True), strict=True):
            o, c = old[i], new[j]
            if shared[o, c] >= _SAME * min(known[o], fresh[c]):
                names[c] = o
                transitions.append(Transition("survived", o))
    for c in new:
        if c in names:
            continue
        names[c] = new_id(c)
        source = max(old, key=lambda o: shared[o, c], default="")
        if source and shared[source, c] >= _PART * fresh[c]:
            transitions.append(Transition("split", names[c], source))
        else:
            transitions.append(Transition("born", names[c]))
    for o in sorted(set(old) - set(names.values())):
        into = max(new, key=lambda c: shared[o, c], default=None)
        if into is not None and known[o] >= few and shared[o, into] >= _PART * known[o]:
            transitions.append(Transition("merged", names[into], o))
    return names, transitions


def absorb(aliases: dict[str, str], gone: str, into: str) -> None:
    """Let ``gone``, and whatever had become ``gone``, be found under ``into`` from now on."""
    aliases[gone] = into
    aliases.update({alias: into for alias, to in aliases.items() if to == gone})


def _counted(
    before: Sequence[str], after: Sequence[int], weights: Sequence[int]
) -> tuple[Mapping[tuple[str, int], int], dict[str, int], dict[int, int]]:
    shared: defaultdict[tuple[str, int], int] = defaultdict(int)
    known: defaultdict[str, int] = defaultdict(int)
    fresh: defaultdict[int, int] = defaultdict(int)
    for o, c, weight in zip(before, after, weights, strict=True):
        if o:
            known[o] += weight
        if c >= 0:
            fresh[c] += weight
        if o and c >= 0:
            shared[o, c] += weight
    return shared, known, fresh
