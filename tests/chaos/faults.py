"""The faults: what each does to a pipeline at work. Whoever calls them settles and checks."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.harness import DRIFTLINE, EVENTS, PARTITIONS, SESSION_S, SINK_GROUP, Bed
from tests.chaos.load import CODECS
from tests.chaos.store import no_small_disk
from tests.chaos.traffic import Shape
from tests.support.kafka_cluster import Cluster
from tests.support.processes import until

LONGER_THAN_A_SESSION_S = 2.5 * SESSION_S


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes
    ----------
    do
        Does it; returns figures for the report in words.
    shape
        Of the traffic meanwhile.
    nodes
        Of the Kafka cluster.
    disk_mib
        Size of the store's disk, when that matters.
    through_proxy
        Whether workers reach ClickHouse through a proxy.
    impossible
        Says why this machine cannot have it, or None.
    """

    name: str
    what: str
    do: Callable[[Bed], str]
    shape: Shape = field(default_factory=Shape)
    nodes: int = 1
    disk_mib: int | None = None
    through_proxy: bool = False
    impossible: Callable[[Bed], str | None] = lambda _: None


# ---- workers -----------------------------------------------------------------------------------


def kill_worker(bed: Bed) -> str:
    """Two workers; again and again one of them is killed while batches are under way."""
    bed.worker()
    bed.worker()
    with bed.produce():
        bed.until_at_work()
        for number in range(bed.size.kills):
            bed.until_at_work()
            time.sleep(bed.random.uniform(0, 1.0))
            victims = bed.running()
            # Now and then both at once.
            for victim in victims if number % 5 == 4 else [bed.random.choice(victims)]:
                bed.end_worker(victim)
                bed.worker()
        bed.until_at_work()
        bed.finish()
    return f"{len(bed.expected_deaths)} kills"


def rebalance(bed: Bed) -> str:
    """A worker comes or goes every few seconds, asked to or killed."""
    bed.worker()
    with bed.produce():
        bed.until_at_work()
        for number in range(bed.size.changes):
            running = bed.running()
            if len(running) < 2 or (len(running) < 3 and bed.random.random() < 0.5):
                bed.worker()
            else:
                bed.end_worker(bed.random.choice(running), politely=number % 3 != 0)
            time.sleep(bed.random.uniform(2, 5))
        bed.until_at_work()
        bed.finish()
    return f"{bed.size.changes} changes, {len(bed.workers)} workers started"


def zombie(bed: Bed) -> str:
    """A worker sleeps until its partitions are another's and have moved on, then goes on."""
    sleeper = bed.worker()
    with bed.produce():
        bed.until_at_work()
        bed.worker()
        time.sleep(8)  # it has joined: both have partitions
        rounds = 2 if bed.size.kills >= 20 else 1
        for _ in range(rounds):
            sleeper.send_signal(signal.SIGSTOP)
            time.sleep(LONGER_THAN_A_SESSION_S)
            until(lambda: _moving(bed), 60, "the other worker to take over", 1)
            sleeper.send_signal(signal.SIGCONT)
            time.sleep(6)
        bed.finish()
    if sleeper.poll() is not None:
        raise AssertionError("the worker that slept has ended")
    return f"asleep {rounds} x {LONGER_THAN_A_SESSION_S:.0f} s and more"


def _moving(bed: Bed) -> bool:
    """Whether no partition of the events is left unread."""
    lag = bed.cluster.lag(SINK_GROUP, EVENTS)
    return len(lag) == PARTITIONS and max(lag.values()) < 100


# ---- brokers -----------------------------------------------------------------------------------


def broker_restart(bed: Bed) -> str:
    """The only broker is killed and comes back; then it is frozen for a while."""
    bed.worker()
    bed.worker()
    (node,) = bed.cluster.nodes
    with bed.produce() as load:
        bed.until_at_work()
        node.kill()
        time.sleep(5)
        node.start()
        bed.cluster.wait_ready()
        bed.until_at_work(90)
        node.freeze()
        time.sleep(LONGER_THAN_A_SESSION_S)
        node.thaw()
        bed.until_at_work(90)
        bed.finish()
    return f"{load.sent_again} records sent again by the producer"


def broker_lost(bed: Bed) -> str:
    """Of three brokers one dies, work goes on with two, it comes back."""
    bed.worker()
    bed.worker()
    cluster: Cluster = bed.cluster
    with bed.produce() as load:
        bed.until_at_work()
        lost = cluster.leader(EVENTS, 0)
        lost.kill()
        until(lambda: cluster.leader(EVENTS, 0).number != lost.number, 60, "another leader")
        bed.until_at_work(60)
        time.sleep(bed.size.calm_s / 2)
        lost.start()
        cluster.wait_ready()
        until(lambda: cluster.in_sync(EVENTS) == 3, 60, "all copies in sync")
        bed.until_at_work()
        bed.finish()
    return f"{load.sent_again} records sent again by the producer"


# ---- the store ---------------------------------------------------------------------------------


def store_killed(bed: Bed) -> str:
    """ClickHouse is killed in the middle of inserts and stays away longer than a session."""
    bed.worker()
    bed.worker()
    kills = max(2, bed.size.kills // 5)
    with bed.produce():
        for number in range(kills):
            bed.until_at_work()
            time.sleep(bed.random.uniform(0, 1.0))
            bed.store.kill()
            time.sleep(LONGER_THAN_A_SESSION_S if number == 0 else 0.5)
            bed.store.start()
        bed.until_at_work()
        bed.finish()
    return f"{kills} kills, away for {LONGER_THAN_A_SESSION_S:.0f} s"


def store_frozen(bed: Bed) -> str:
    """ClickHouse takes connections and says nothing for longer than a session."""
    bed.worker()
    bed.worker()
    with bed.produce():
        bed.until_at_work()
        bed.store.freeze()
        time.sleep(LONGER_THAN_A_SESSION_S)
        bed.store.thaw()
        bed.until_at_work()
        bed.finish()
    return f"frozen for {LONGER_THAN_A_SESSION_S:.0f} s"


def store_refusing(bed: Bed) -> str:
    """ClickHouse refuses connections for longer than a session."""
    assert bed.proxy is not None
    bed.worker()
    bed.worker()
    with bed.produce():
        bed.until_at_work()
        bed.proxy.set("refuse")
        time.sleep(LONGER_THAN_A_SESSION_S)
        bed.proxy.set("pass")
        bed.until_at_work()
        bed.finish()
    return f"refusing for {LONGER_THAN_A_SESSION_S:.0f} s"


def answers_lost(bed: Bed) -> str:
    """ClickHouse does what it is asked, but nearly a third of its answers never arrives."""
    assert bed.proxy is not None
    bed.worker()
    bed.worker()
    with bed.produce():
        bed.until_at_work()
        bed.proxy.set("lose answers")
        time.sleep(bed.size.calm_s)
        bed.proxy.set("pass")
        bed.until_at_work()
        bed.finish()
    if not bed.proxy.lost:
        raise AssertionError("no answer was lost, so nothing was tested")
    return f"{bed.proxy.lost} answers lost"


def disk_full(bed: Bed) -> str:
    """The store's disk fills up to the last byte and is freed later."""
    bed.worker()
    bed.worker()
    with bed.produce():
        bed.until_at_work()
        bed.store.fill_disk()
        before = bed.stored()
        time.sleep(LONGER_THAN_A_SESSION_S)
        meanwhile = bed.stored() - before
        bed.store.free_disk()
        bed.until_at_work(60)
        bed.finish()
    if meanwhile > 50:
        raise AssertionError(f"{meanwhile} records were stored on a full disk: it was not full")
    return f"full for {LONGER_THAN_A_SESSION_S:.0f} s"


# ---- evaluators --------------------------------------------------------------------------------

_EVALUATORS = """
evaluators:
- {name: brief, kind: rule, limits: {tool_calls: 1}}
- {name: half, kind: rule, rate: 0.5, filter: tool_calls > 0, limits: {steps: 3}}
"""
_DECIDED = """
SELECT evaluator, count(), uniqExact(target), countIf(state = 'done'), countIf(state = 'pending')
FROM decisions GROUP BY evaluator ORDER BY evaluator
"""
_SCORED = """
SELECT toString(name), uniqExact(target) FROM evaluations FINAL WHERE kind = 'score'
GROUP BY name ORDER BY name
"""
_TARGETS = "SELECT count() FROM interaction_results FINAL WHERE live"


def evaluators(bed: Bed) -> str:
    """Evaluating processes are killed, and the store, while they decide about everything."""
    bed.evaluators.write_text(_EVALUATORS)
    command = [*DRIFTLINE, "evaluator"]
    judges = [bed.worker(command) for _ in range(2)]
    bed.worker()
    bed.worker()
    kills = max(2, bed.size.kills // 4)
    with bed.produce(bed.size.per_second // 5):
        for number in range(kills):
            bed.until_at_work()
            before = bed.number(_DONE)
            until(lambda: bed.number(_DONE) > before, 120, "evaluators to judge", 0.2)  # noqa: B023
            time.sleep(bed.random.uniform(0, 1.0))
            running = [judge for judge in judges if judge.poll() is None]
            bed.end_worker(bed.random.choice(running or judges))
            judges.append(bed.worker(command))
            if number % 3 == 1:
                bed.store.kill()
                bed.store.start()
        bed.until_at_work()
        bed.finish()

    def decided() -> bool:
        bed.check_workers()
        targets, rows = bed.store.number(_TARGETS), bed.store.ask(_DECIDED)
        every = len(rows) == 2 and all(row[1] == targets and row[4] == 0 for row in rows)
        return every and not bed.lag()

    try:
        until(decided, 3 * bed.size.settle_s, "a decision about everything", 1.0)
    except TimeoutError as error:
        told = f"{bed.store.number(_TARGETS)} targets, {bed.store.ask(_DECIDED)}, {bed.lag()}"
        raise AssertionError(f"{error}: {told}") from None
    targets, rows = bed.store.number(_TARGETS), bed.store.ask(_DECIDED)
    if any(row[1] != row[2] for row in rows):
        raise AssertionError(f"a target has two decisions: {rows}")
    done = {row[0]: row[3] for row in rows if row[3]}
    scored = dict(bed.store.ask(_SCORED))
    if {name: scored.get(name) for name in done} != done:
        raise AssertionError(f"done {done}, scored {scored}")
    return f"{kills} kills, {targets} targets, done {done}"


_DONE = "SELECT count() FROM decisions WHERE state = 'done'"


# ---- traffic -----------------------------------------------------------------------------------


def hostile_traffic(bed: Bed) -> str:
    """Nothing but the traffic is at fault."""
    bed.worker()
    bed.worker()
    with bed.produce():
        bed.until_at_work()
        time.sleep(bed.size.calm_s)
        bed.until_at_work()
        bed.finish()
    return f"{len(bed.traffic.poison)} bad lines" if bed.traffic.poison else ""


def burst(bed: Bed) -> str:
    """Ten times as much for a quarter of the time."""
    bed.worker()
    bed.worker()
    ordinary = bed.size.per_second // 2
    with bed.produce(ordinary) as load:
        bed.until_at_work()
        time.sleep(bed.size.calm_s / 4)
        before = load.lines
        load.per_second = 10 * ordinary
        time.sleep(bed.size.calm_s / 2)
        rate = (load.lines - before) / (bed.size.calm_s / 2)
        load.per_second = ordinary
        time.sleep(bed.size.calm_s / 4)
        bed.finish()
    return f"{ordinary} to {rate:.0f} events/s"


def cardinality(bed: Bed) -> str:
    """Every agent's name is a new one."""
    bed.worker()
    bed.worker()
    with bed.produce(2 * bed.size.per_second) as load:
        wanted = 2.05 * bed.size.agents  # two events each
        until(lambda: load.lines >= wanted, 300, "every agent to have spoken", 0.5)
        bed.finish()
    return f"{bed.shape.agents} names"


def codecs(bed: Bed) -> str:
    """Producers with every codec of Kafka, of two client libraries."""
    bed.worker()
    bed.worker()
    used = []
    with bed.produce(bed.size.per_second // 5):
        bed.until_at_work()
        for client, send, known in CODECS:
            for codec in known:
                lines = bed.traffic.lines(bed.size.per_second * 3, time.time_ns())
                values = list(bed.traffic.records(lines))
                bed.acknowledged |= send(bed.cluster.bootstrap_servers, codec, values)
                used.append(f"{client}/{codec or 'none'}")
        bed.finish()
    return ", ".join(used)


# ---- all at once -------------------------------------------------------------------------------


def everything(bed: Bed) -> str:
    """Workers and store killed and frozen in turn, under the worst of traffic."""
    bed.worker()
    bed.worker()
    rounds = max(1, bed.size.kills // 8)
    with bed.produce():
        for _ in range(rounds):
            bed.until_at_work(90)
            for blow in bed.random.sample((_kill_one, _kill_store, _freeze_store), 3):
                time.sleep(bed.random.uniform(0, 1.0))
                blow(bed)
        bed.until_at_work(90)
        bed.finish()
    return f"{rounds} rounds, {len(bed.traffic.poison)} bad lines"


def _kill_one(bed: Bed) -> None:
    bed.end_worker(bed.random.choice(bed.running()))
    bed.worker()
    bed.until_at_work(90)


def _kill_store(bed: Bed) -> None:
    bed.store.kill()
    bed.store.start()


def _freeze_store(bed: Bed) -> None:
    bed.store.freeze()
    time.sleep(bed.random.uniform(1, 4))
    bed.store.thaw()


FAULTS = (
    Fault("kill_worker", "workers killed (SIGKILL) in the middle of batches", kill_worker),
    Fault("rebalance", "a worker added or removed every few seconds", rebalance),
    Fault("zombie", "a worker frozen across a rebalance, then awake", zombie),
    Fault("broker_restart", "the broker killed and restarted, then frozen", broker_restart),
    Fault("broker_lost", "one broker of three killed, back later", broker_lost, nodes=3),
    Fault("store_killed", "ClickHouse killed in the middle of inserts", store_killed),
    Fault("store_frozen", "ClickHouse frozen for longer than a session", store_frozen),
    Fault("store_refusing", "ClickHouse refusing for longer than a session", store_refusing,
          through_proxy=True),
    Fault("answers_lost", "ClickHouse's answers lost after the work was done", answers_lost,
          through_proxy=True),
    Fault("disk_full", "the store's disk full", disk_full, disk_mib=768,
          impossible=lambda bed: no_small_disk(bed.folder / "try")),
    Fault("evaluators", "evaluating processes killed, and the store meanwhile", evaluators,
          Shape(old=0.0)),
    Fault("poison", "one line in thirty is no event", hostile_traffic, Shape(poison=0.03)),
    Fault("duplicates", "a fifth of the events twice, ids used again", hostile_traffic,
          Shape(repeats=0.2, collisions=0.01)),
    Fault("disorder", "events out of order, late by up to two days", hostile_traffic,
          Shape(held=0.3, old=0.2)),
    Fault("burst", "ten times the traffic", burst),
    Fault("cardinality", "100,000 distinct agent names", cardinality,
          Shape(agents=100_000, small=True)),
    Fault("codecs", "producers with every compression codec", codecs),
    Fault("everything", "workers and store killed, the store frozen, hostile traffic", everything,
          Shape(poison=0.01, repeats=0.1, collisions=0.005, held=0.1, old=0.05)),
)  # fmt: skip
"""In the order they are run."""
