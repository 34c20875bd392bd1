"""What a cluster looks like to a reader: name, most typical failure, and others unlike it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from detectors.base import Snapshot
from detectors.failures.features import Failure
from detectors.failures.terms import Profiles, Terms, dot

_LOOKED_AT: Final = 200  # members among which the typical ones are looked for
_SHOWN: Final = 4  # the medoid and three examples


@dataclass(slots=True)
class Cluster:
    """One kind of failure.

    Attributes
    ----------
    id
        Lasts as long as the cluster.
    name
        Words that set it apart.
    size
        Failures assigned since it exists.
    medoid, examples
        Its most typical failure, and others chosen to differ.
    parents
        Ids it came from by a split or took in by a merge.
    """

    id: str
    name: str = ""
    size: int = 0
    medoid: Failure | None = None
    examples: list[Failure] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Build the cluster of ``dataclasses.asdict`` again."""
        medoid = snapshot["medoid"]
        return cls(
            **{
                **snapshot,
                "medoid": Failure.restore(medoid) if medoid else None,
                "examples": [Failure.restore(example) for example in snapshot["examples"]],
            }
        )


def describe(
    cluster: Cluster, members: Mapping[str, Failure], terms: Mapping[str, Terms], profiles: Profiles
) -> None:
    """Set name, medoid and differing examples of a cluster.

    Parameters
    ----------
    cluster
        Is changed in place.
    members
        Some of its failures by key; at least one.
    terms
        Of those failures, by key.
    profiles
        Of all clusters.
    """
    profile = profiles.profile[cluster.id]
    vectors = {key: profiles.weights(terms[key]) for key in list(members)[:_LOOKED_AT]}
    typical = sorted(vectors, key=lambda key: -dot(vectors[key], profile))
    chosen = typical[:1]
    # farthest from what is chosen, among those that are typical enough
    rest = typical[1 : max(len(typical) // 2, _SHOWN)]
    while rest and len(chosen) < _SHOWN:
        unlike = min(rest, key=lambda k: max(dot(vectors[k], vectors[c]) for c in chosen))
        chosen.append(unlike)
        rest.remove(unlike)
    cluster.name = profiles.label(cluster.id)
    cluster.medoid = members[chosen[0]]
    cluster.examples = [members[key] for key in chosen[1:]]
