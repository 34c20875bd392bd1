"""Failure clusters: failures join a cluster as they seal, and clusters keep their identity.

Per environment and agent, `FailureClusters` assigns and founds, and `ClusterSurges` follows how
often each cluster fails. Failures are taken in order of event time and id, so ids do not depend on
the order of arrival. Every six hours of event time a window of late failures is clustered as a
whole; ids survive, and what split or merged is written down.

A cluster is *new*, then *open*; *resolved* when by its earlier rate twenty failures should have
come and none did; *regressed* when it returns after that.

An agent without a failure is a count; its clusters begin with its first failure.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Final, TypeAlias

import polars as pl

from detectors.failures.cluster_rates import ClusterSurges, Surge
from detectors.failures.clusters import UNCLUSTERED, FailureClusters
from detectors.failures.features import Failure
from ingest.core.text import printable
from processors.stations.base import BUCKETS, CELL, Action, Change, Output, Sealed, moment
from processors.stations.streams import WEEK, change_fields, compress, ended, expand
from processors.stations.tails import MINUTE, minutes

_LAYOUT: Final = 1
_REFIT_S: Final = 6 * 3600
_WINDOW: Final = 2_000  # failures that a refit looks at
_LEAST_NEW: Final = 50  # failures before another refit is worth it
_WAITING: Final = 500  # unclustered members whose cluster may still be founded
_DAY: Final = 86_400
_NEW_S: Final = _DAY
_MISSED: Final = 20.0  # failures that should have come before their absence means something
_RETURN: Final = 3  # failures that make a resolved cluster regressed
_WORTH: Final = 0.005  # smallest change of a cluster's rate that matters
_EXAMPLES: Final = 5
_SECONDS: Final = pl.Datetime("ms", "UTC")

Owner: TypeAlias = tuple[str, str]
"""Environment and agent."""


@dataclass(frozen=True, slots=True)
class ClustersConfig:
    """How eager clusters are.

    Attributes
    ----------
    notices_per_week
        Expected false surges of a deployment, over all clusters.
    warm_up
        Interactions of known outcome that make the baseline of a cluster's rate.
    min_new
        Failures that resemble each other before they are a cluster.
    retire_days
        Agents without an interaction for so long are forgotten with their clusters.
    """

    notices_per_week: float = 2.0
    warm_up: float = 2_000.0
    min_new: int = 4
    retire_days: int = 14


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """A row of ``clusters``."""

    table: ClassVar[str] = "clusters"
    schema: ClassVar[Mapping[str, Any]] = {
        "version": pl.UInt64(), "size": pl.UInt64(), "first_seen": _SECONDS,
        "last_seen": _SECONDS, "episode": pl.UInt32(), "parents": pl.List(pl.String()),
        "agent_versions": pl.List(pl.String()), "examples": pl.List(pl.String()),
        "opportunities": pl.UInt64(),
    }  # fmt: skip
    values: Mapping[str, Any]

    def row(self) -> dict[str, Any]:
        """Values by column."""
        return dict(self.values)


@dataclass(frozen=True, slots=True)
class Member:
    """A row of ``cluster_members``: the cluster of one failed interaction, '' for none yet."""

    table: ClassVar[str] = "cluster_members"
    schema: ClassVar[Mapping[str, Any]] = {"cell": _SECONDS, "version": pl.UInt64()}
    environment: str
    agent: str
    decided: int
    interaction_id: str
    cluster: str
    at: int

    def row(self) -> dict[str, Any]:
        """Values by column."""
        return {
            "environment": self.environment, "agent": self.agent, "cell": moment(self.decided),
            "interaction_id": self.interaction_id, "cluster": self.cluster, "version": self.at,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class LineageRow:
    """A row of ``cluster_lineage``: what became of a cluster."""

    table: ClassVar[str] = "cluster_lineage"
    schema: ClassVar[Mapping[str, Any]] = {"at": _SECONDS}
    environment: str
    agent: str
    at: int
    what: str
    cluster: str
    source: str

    def row(self) -> dict[str, Any]:
        """Values by column."""
        return {**asdict(self), "at": moment(self.at)}


@dataclass(slots=True)
class Life:
    """What is known of one cluster beside its failures. Times in s."""

    first: int
    last: int
    size: int = 0
    status: str = "new"
    episode: int = 0
    opportunities: float = 0.0  # of known outcome since its first failure
    since_last: float = 0.0  # since its last failure
    returned: int = 0
    back_at: int = 0  # first failure after it was resolved
    back_of: float = 0.0  # interactions since then
    acted: float = 0.0
    versions: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A failure without a cluster; ``seen`` interactions of its agent came before it."""

    decided: int
    interaction_id: str
    failure: Failure
    seen: float


@dataclass(slots=True)
class Owned:
    """The clusters of one environment and agent."""

    clusters: FailureClusters
    surges: ClusterSurges
    life: dict[str, Life] = field(default_factory=dict)
    window: list[Failure] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    fresh: int = 0
    open: dict[str, Change] = field(default_factory=dict)


@dataclass(slots=True)
class ClustersState:
    """Clusters of all agents of a bucket; ``refit`` counts the stretches of six hours.

    ``met`` says of every agent when it last had an interaction, and how many before a failure.
    """

    owned: dict[Owner, Owned] = field(default_factory=dict)
    met: dict[Owner, tuple[int, float]] = field(default_factory=dict)
    refit: int = 0
    day: int = 0


class Clusters:
    """The station; see `processors.stations.base.Station`."""

    name = "clusters"
    fleet = False

    def __init__(self, config: ClustersConfig | None = None) -> None:
        self.config = config or ClustersConfig()
        self.parameters: Mapping[str, Any] = asdict(self.config)

    def begin(self) -> ClustersState:
        """State before anything was read."""
        return ClustersState()

    def step(self, sealed: Sealed, state: ClustersState) -> tuple[ClustersState, Sequence[Output]]:
        """Take whole minutes; returns members, changed clusters, lineage and surges."""
        outputs = self._act(sealed.actions, state, sealed.lo + CELL)
        rows = minutes(sealed).filter(pl.col("success").is_not_null())
        for (environment, agent), part in rows.group_by(
            "environment", "agent", maintain_order=True
        ):
            owner = (str(environment), str(agent))
            for minute, n, of_minute in _by_minute(part):
                outputs += self._tick(owner, state, minute, n, of_minute)
        due = sealed.hi // _REFIT_S
        if due > state.refit:
            if state.refit:
                for owner, owned in state.owned.items():
                    outputs += self._refit(owner, owned, due * _REFIT_S)
            state.refit = due
        if sealed.hi // _DAY != state.day:
            state.day = sealed.hi // _DAY
            outputs += self._retire(state, state.day * _DAY)
        return state, outputs

    def _retire(self, state: ClustersState, today: int) -> list[Output]:
        """Forget agents that did nothing for long; what is open of them ends."""
        before = today - self.config.retire_days * _DAY
        outputs: list[Output] = []
        for owner in [owner for owner, (last, _) in state.met.items() if last < before]:
            del state.met[owner]
            owned = state.owned.pop(owner, None)
            for cluster in list(owned.open) if owned else ():
                outputs += self._end(owned, cluster, today, "retired")  # type: ignore[arg-type]
        return outputs

    def _owned(self, owner: Owner, state: ClustersState) -> Owned:
        """The clusters of an agent; with its first failure they begin."""
        if owner not in state.owned:
            owned = state.owned[owner] = Owned(
                FailureClusters(
                    min_new=self.config.min_new, seed=_seed(owner), same_tool=True
                ),
                ClusterSurges(
                    self.config.notices_per_week / BUCKETS, WEEK / MINUTE,
                    warm_up=self.config.warm_up, min_effect=_WORTH,
                ),
            )  # fmt: skip
            owned.surges.opportunities = state.met.get(owner, (0, 0.0))[1]
        return state.owned[owner]

    def _tick(
        self, owner: Owner, state: ClustersState, minute: int, n: int, rows: Sequence[Row]
    ) -> list[Output]:
        """Take a minute of ``n`` interactions of known outcome, of which ``rows`` failed."""
        before = state.met.get(owner, (0, 0.0))[1]
        if not rows and owner not in state.owned:
            state.met[owner] = (minute, before + n)
            return []
        owned = self._owned(owner, state)
        state.met[owner] = (minute, 0.0)
        outputs: list[Output] = []
        touched: set[str] = set()
        counts: Counter[str] = Counter()
        founded: dict[str, int] = {}
        born = len(owned.clusters.lineage)
        for row in rows:
            cluster = owned.clusters.assign(row.failure)
            owned.window.append(row.failure)
            owned.fresh += 1
            outputs.append(Member(*owner, row.decided, row.interaction_id, cluster, row.decided))
            if cluster == UNCLUSTERED:
                seen = owned.surges.opportunities
                waiting = Waiting(row.decided, row.interaction_id, row.failure, seen)
                owned.waiting.append(waiting)
                self._establish(owned, row.failure)
                continue
            counts[cluster] += 1
            self._live(owned, cluster, row)
            touched.add(cluster)
        at = minute + MINUTE
        for step in owned.clusters.lineage[born:]:
            founded[step.cluster] = owned.clusters.clusters[step.cluster].size
            outputs.append(LineageRow(*owner, at, step.what, step.cluster, step.source))
            outputs += self._adopt(owner, owned, step.cluster, at)
        del owned.window[:-_WINDOW], owned.waiting[:-_WAITING]
        owned.surges.update(counts, float(n), founded)
        outputs += self._age(owner, owned, n, touched, at)
        outputs += self._surge(owner, owned, len(state.owned), at)
        return outputs + [self._row(owner, owned, cluster, at) for cluster in sorted(touched)]

    def _establish(self, owned: Owned, failure: Failure) -> None:
        """Found a cluster of a failure that has repeated exactly often enough."""
        repeats = sum(w.failure.key == failure.key for w in owned.waiting)
        if repeats >= self.config.min_new:
            owned.clusters.establish(failure, repeats)

    def _live(self, owned: Owned, cluster: str, row: Row) -> None:
        life = owned.life.setdefault(cluster, Life(row.decided, row.decided))
        life.size += 1
        life.last, life.since_last = row.decided, 0.0
        if row.version and row.version not in life.versions:
            life.versions = [*life.versions, row.version][-10:]
        life.examples = [*life.examples, row.interaction_id][-_EXAMPLES:]
        if life.status == "resolved":
            if not life.returned:
                life.back_at, life.back_of = row.decided, 0.0
            life.returned += 1

    def _adopt(self, owner: Owner, owned: Owned, cluster: str, at: int) -> list[Output]:
        """Move failures that waited into the cluster that was founded of them."""
        outputs: list[Output] = []
        kept = []
        for waiting in owned.waiting:
            if owned.clusters.lookup(waiting.failure) != cluster:
                kept.append(waiting)
                continue
            life = owned.life.setdefault(cluster, Life(waiting.decided, at))
            life.first = min(life.first, waiting.decided)
            life.size += 1
            life.examples = [*life.examples, waiting.interaction_id][-_EXAMPLES:]
            since = owned.surges.opportunities - waiting.seen
            life.opportunities = max(life.opportunities, since)
            outputs.append(Member(*owner, waiting.decided, waiting.interaction_id, cluster, at))
        owned.waiting = kept
        return outputs

    def _age(self, owner: Owner, owned: Owned, n: int, touched: set[str], at: int) -> list[Output]:
        """Let clusters become open, resolved or regressed."""
        outputs: list[Output] = []
        for cluster, life in owned.life.items():
            before = life.status
            life.opportunities += n
            # Over all that was seen of the agent: of a young cluster that is too low, not too high.
            rate = life.size / max(owned.surges.opportunities, 1.0)
            life.since_last = 0.0 if cluster in touched else life.since_last + n
            life.back_of += n if life.returned else 0
            if life.status == "resolved" and life.returned >= _RETURN:
                outputs.append(self._regressed(owner, owned, cluster, at))
                life.status, life.episode, life.returned = "regressed", life.episode + 1, 0
            elif life.status != "resolved" and rate * life.since_last >= _MISSED:
                life.status = "resolved"
                outputs += self._end(owned, cluster, at, "recovered")
            elif life.status == "new" and at - life.first >= _NEW_S:
                life.status = "open"
            if life.status != before:
                touched.add(cluster)
        return outputs

    def _regressed(self, owner: Owner, owned: Owned, cluster: str, at: int) -> Change:
        """A page when it is worth one: now and then a failure of an old kind is none."""
        life = owned.life[cluster]
        rate = life.returned / max(life.back_of, 1.0)
        change = self._change(
            owner, owned, cluster, "cluster_regressed", began=life.back_at, at=at,
            severity="page" if rate >= _WORTH else "notice",
            e_value=1.0, baseline=0.0, observed=min(rate, 1.0), n=life.returned,
        )  # fmt: skip
        owned.open[cluster] = change
        return change

    @staticmethod
    def _end(owned: Owned, cluster: str, at: int, reason: str) -> list[Output]:
        change = owned.open.pop(cluster, None)
        return [] if change is None else [ended(change, at, reason)]

    def _surge(self, owner: Owner, owned: Owned, agents: int, at: int) -> list[Output]:
        """Announce clusters that rise; the agents of a bucket share its budget."""
        surging = {s.cluster: s for s in owned.surges.surging}
        outputs: list[Output] = []
        for cluster, change in list(owned.open.items()):
            if change.signal != "cluster_regressed" and cluster not in surging:
                outputs += self._end(owned, cluster, at, "recovered")
        for cluster, surge in surging.items():
            life = owned.life.get(cluster)
            known = cluster in owned.open or (life is not None and life.status == "resolved")
            if known or surge.e_value < owned.surges.threshold * agents:
                continue
            change = self._of_surge(owner, owned, surge, at)
            owned.open[cluster] = change
            outputs.append(change)
        return outputs

    def _of_surge(self, owner: Owner, owned: Owned, surge: Surge, at: int) -> Change:
        behind = owned.surges.tick - surge.since
        return self._change(
            owner, owned, surge.cluster,
            "cluster_emerging" if surge.emerging else "cluster_surge",
            began=at - behind * MINUTE, at=at, severity="notice", e_value=surge.e_value,
            baseline=surge.baseline, observed=surge.observed, low=surge.low, high=surge.high,
            n=owned.life[surge.cluster].size if surge.cluster in owned.life else 0,
        )  # fmt: skip

    def _change(
        self, owner: Owner, owned: Owned, cluster: str, signal: str, *, began: int, at: int,
        **figures: Any,
    ) -> Change:  # fmt: skip
        text = "\x1f".join((*owner, signal, cluster, str(began)))
        return Change(
            change_id=hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest(),
            at=at, status="open", station=self.name, signal=signal, direction="up",
            environment=owner[0], agent=owner[1], attribute="cluster", value=cluster,
            label=self._name(owned, cluster), began=began, found=at, unit="share", **figures,
        )  # fmt: skip

    def _refit(self, owner: Owner, owned: Owned, at: int) -> list[Output]:
        if owned.fresh < _LEAST_NEW:
            return []
        owned.fresh = 0
        steps = owned.clusters.refit(owned.window)
        owned.surges.follow(steps)
        outputs: list[Output] = []
        for step in steps:
            if step.what == "survived":
                continue
            outputs.append(LineageRow(*owner, at, step.what, step.cluster, step.source))
            owned.life.setdefault(step.cluster, Life(at, at))
            if step.what == "merged" and step.source in owned.life:
                outputs += self._end(owned, step.source, at, "unwatched")
                outputs.append(self._merged(owner, owned, step.source, step.cluster, at))
        return outputs

    def _merged(self, owner: Owner, owned: Owned, gone: str, into: str, at: int) -> ClusterRow:
        old, new = owned.life.pop(gone), owned.life[into]
        new.size += old.size
        new.opportunities = max(new.opportunities, old.opportunities)
        new.first, new.last = min(new.first, old.first), max(new.last, old.last)
        new.since_last = min(new.since_last, old.since_last)
        if new.status == "resolved":  # else its next failures would look like a return
            new.status, new.returned = old.status, old.returned
        return ClusterRow(
            {
                **self._figures(owner, gone, old, at), "status": "merged", "merged_into": into,
                "name": "", "parents": [], "reason": "", "tool": "", "template": "",
            }
        )  # fmt: skip

    def _row(self, owner: Owner, owned: Owned, cluster: str, at: int) -> ClusterRow:
        known = owned.clusters.clusters[cluster]
        typical = known.medoid or Failure()
        return ClusterRow(
            {
                **self._figures(owner, cluster, owned.life[cluster], at),
                "name": self._name(owned, cluster),
                "merged_into": "", "parents": list(known.parents), "reason": typical.reason,
                "tool": typical.tool, "template": typical.message,
            }
        )  # fmt: skip

    @staticmethod
    def _name(owned: Owned, cluster: str) -> str:
        """The masked message of a cluster of one wording, else words that set it apart."""
        known = owned.clusters.clusters.get(cluster)
        if known is None:
            return cluster
        typical = known.medoid or Failure()
        words = typical.message or owned.clusters.name(cluster) or known.name
        return printable(" ".join(filter(None, (typical.tool, words))) or typical.reason, 80)

    @staticmethod
    def _figures(owner: Owner, cluster: str, life: Life, at: int) -> dict[str, Any]:
        return {
            "environment": owner[0], "agent": owner[1], "cluster": cluster, "version": at,
            "status": life.status, "size": life.size, "first_seen": moment(life.first),
            "last_seen": moment(life.last), "episode": life.episode,
            "agent_versions": list(life.versions), "examples": list(life.examples),
            "opportunities": int(life.opportunities),
        }  # fmt: skip

    def _act(self, actions: Iterable[Action], state: ClustersState, at: int) -> list[Output]:
        """Take what people said of a cluster, or of a finding about one."""
        outputs: list[Output] = []
        for action in actions:
            for owner, owned in state.owned.items():
                if action.action == "resolve":
                    outputs += self._resolve(owner, owned, action, at)
                elif action.action == "accept":
                    outputs += self._accept(owner, owned, action, at)
        return outputs

    def _resolve(self, owner: Owner, owned: Owned, action: Action, at: int) -> list[Output]:
        """Take a cluster for fixed: what is open of it ends, and it regresses when it returns."""
        life = owned.life.get(action.finding)
        if life is None or action.at <= life.acted:
            return []
        life.acted, life.status, life.returned = action.at, "resolved", 0
        over = self._end(owned, action.finding, at, "resolved")
        return [*over, *self._shown(owner, owned, action.finding, at)]

    def _accept(self, owner: Owner, owned: Owned, action: Action, at: int) -> list[Output]:
        """Take the present rate of a finding's cluster for its normal one."""
        cluster = next((c for c, o in owned.open.items() if o.change_id == action.finding), None)
        if cluster is None:
            return []
        if any(surge.cluster == cluster for surge in owned.surges.surging):
            owned.surges.accept(cluster)
        if cluster in owned.life:
            owned.life[cluster].status = "open"
        over = self._end(owned, cluster, at, "accepted")
        return [*over, *self._shown(owner, owned, cluster, at)]

    def _shown(self, owner: Owner, owned: Owned, cluster: str, at: int) -> list[Output]:
        known = cluster in owned.life and cluster in owned.clusters.clusters
        return [self._row(owner, owned, cluster, at)] if known else []

    def size(self, state: ClustersState) -> int:
        """Agents that are known, and clusters that are followed."""
        return len(state.met) + sum(len(owned.life) for owned in state.owned.values())

    def dump(self, state: ClustersState) -> bytes:
        """State as bytes."""
        return compress(
            {
                "layout": _LAYOUT,
                "refit": state.refit,
                "day": state.day,
                "owned": [
                    [
                        *owner, o.clusters.snapshot(), o.surges.snapshot(),
                        o.life, o.window,
                        [[w.decided, w.interaction_id, w.failure, w.seen] for w in o.waiting],
                        o.fresh,
                        {c: change_fields(change) for c, change in o.open.items()},
                    ]
                    for owner, o in state.owned.items()
                ],
                "met": [[*owner, *met] for owner, met in state.met.items()],
            }
        )  # fmt: skip

    def load(self, raw: bytes) -> ClustersState:
        """Build the state of `dump`."""
        found = expand(raw, _LAYOUT)
        state = ClustersState(refit=found["refit"], day=found.get("day", 0))
        for e, a, clusters, surges, life, window, waiting, fresh, opened in found["owned"]:
            restored = FailureClusters.restore(clusters)
            restored.min_new = self.config.min_new
            state.owned[e, a] = Owned(
                restored, ClusterSurges.restore(surges).require(self.config.warm_up),
                {c: Life(**values) for c, values in life.items()},
                [Failure.restore(f) for f in window],
                [
                    Waiting(at, i, Failure.restore(f), *(seen or (0.0,)))
                    for at, i, f, *seen in waiting
                ],
                fresh,
                {c: Change(**change) for c, change in opened.items()},
            )  # fmt: skip
            state.met[e, a] = (state.refit * _REFIT_S, 0.0)
        state.met |= {(e, a): (int(last), n) for e, a, last, n in found.get("met", ())}
        return state


@dataclass(frozen=True, slots=True)
class Row:
    """What clustering needs of one failed interaction."""

    decided: int
    interaction_id: str
    version: str
    failure: Failure


def _by_minute(rows: pl.DataFrame) -> list[tuple[int, int, list[Row]]]:
    """Minutes with how many interactions they have and those that failed, in order."""
    columns = (
        "minute", "decided", "interaction_id", "agent_version", "failure_reason", "failure_tool",
        "failure_template", "request",
    )  # fmt: skip
    counted = rows.group_by("minute").agg(n=pl.len()).sort("minute")
    found: dict[int, list[Row]] = {minute: [] for minute in counted["minute"]}
    failed = rows.filter(pl.col("success") == 0).sort("decided", "interaction_id").select(columns)
    for minute, decided, i, version, reason, tool, message, request in failed.iter_rows():
        failure = failure_of(reason, tool, message, request)
        found[minute].append(Row(decided, i, version, failure))
    return [(minute, n, found[minute]) for minute, n in counted.iter_rows()]


def failure_of(reason: str, tool: str, message: str, request: str) -> Failure:
    """A failed interaction as clustering sees it: its message, or what was asked without one."""
    text = "" if message else (request or "")[:500]
    return Failure(reason=reason or "", tool=tool or "", message=message or "", text=text)


def _seed(owner: Owner) -> int:
    """Ids of clusters differ between agents."""
    text = "\x1f".join(owner).encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")
