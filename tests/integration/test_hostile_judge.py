"""Two evaluating processes against a model endpoint that means harm; one is killed and replaced.

The endpoint is a fake. Broker, engine and processes are real; scores are read from the topic and
stored as a worker stores them.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest
from kafka import KafkaConsumer

from infra.topics import create_topics, driftline_topics
from ingest.core.events import EVENTS_TOPIC, Event
from processors.derive import sealing
from processors.evaluators.records import Records
from processors.evaluators.spec import load
from tests.support import judges
from tests.support.processes import kill, start, stop, until

NS = 10**9
EACH = {
    "good": 6, "bad": 6, "slow": 12, "limited": 3, "malformed": 2, "truncated": 2, "refusal": 2,
    "steering": 3, "other_model": 2, "drip": 2, "error": 2, "contradiction": 2, "two": 2, "hung": 2,
    "paid": 24,
}  # fmt: skip
VALUES = {"good": 0.9, "slow": 0.9, "limited": 0.9, "paid": 0.9, "bad": 0.1}
ENDS = {
    "malformed": "failed malformed", "truncated": "failed truncated", "refusal": "refused refusal",
    "steering": "failed malformed", "other_model": "failed wrong_model", "drip": "failed timeout",
    "error": "failed http_503", "contradiction": "failed malformed", "two": "failed malformed",
    "hung": "failed timeout",
}  # fmt: skip
PER_MINUTE = 100
DAY_USD = Decimal("0.0100")
COST = Decimal("0.00036")

FILE = """
evaluators:
- name: open
  kind: chat
  endpoint: {url}
  model: judge-1
  rubric: Did the agent help?
  filter: request NOT LIKE '%case paid%'
  timeout_s: 2
  attempts: 2
  concurrency: 6
  price: {{input: 1.0, output: 4.0}}
  budget: {{calls_per_minute: {per_minute}, when_spent: queue}}
- name: tight
  kind: chat
  endpoint: {url}
  model: judge-1
  rubric: Did the agent help?
  filter: request LIKE '%case paid%'
  max_tokens: 64
  price: {{input: 1.0, output: 4.0}}
  budget: {{usd_per_day: {day_usd}, when_spent: skip}}
"""


def traffic(now_ns):
    for name, n in EACH.items():
        for number in range(n):
            target, end = f"{name}-{number}", now_ns - 300 * NS
            plain = {"agent": "shop", "interaction_id": target, "session_id": f"s-{target}"}
            yield Event(
                event_id=f"{target}:u", time_unix_nano=end - NS, kind="user_message",
                content=f"please solve case {target}", **plain,
            )  # fmt: skip
            yield Event(
                event_id=f"{target}:i", time_unix_nano=end, kind="interaction", duration_ms=1000.0,
                **plain,
            )  # fmt: skip


def seal(store, log_id, until_ns):
    """What a worker reports whose partitions are read to the end."""
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    watermark = datetime.fromtimestamp(until_ns // NS, UTC)
    row = (log_id, EVENTS_TOPIC, 0, watermark, 1, 0, [], long_ago, long_ago)
    store.insert("watermarks", pl.DataFrame([row], schema=sealing.SCHEMA, orient="row"))


def scores(broker):
    consumer = KafkaConsumer(
        EVENTS_TOPIC, bootstrap_servers=broker.kafka.bootstrap_servers,
        auto_offset_reset="earliest", consumer_timeout_ms=4_000,
    )  # fmt: skip
    try:
        return [json.loads(line) for record in consumer for line in record.value.splitlines()]
    finally:
        consumer.close()


@pytest.mark.timeout(1200)
def test_no_wrong_score_no_second_judgement_and_budgets_to_the_cent(
    pipeline, clickhouse, broker, tmp_path
):
    now_ns = sealing.clock_ns()
    pipeline.deliver(list(traffic(now_ns)))
    pipeline.recompute()
    create_topics(broker.kafka, driftline_topics(4, 1))
    seal(pipeline.store, broker.log_id(EVENTS_TOPIC), now_ns - 60 * NS)
    with judges.endpoint() as fake:
        path = tmp_path / "evaluators.yaml"
        path.write_text(FILE.format(url=fake.url, per_minute=PER_MINUTE, day_usd=DAY_USD))
        for spec in load(path):
            Records(pipeline.store).begin(spec, (now_ns - 3600 * NS) // NS)
        environment = {
            "DRIFTLINE_HOME": str(tmp_path / "home"),
            "DRIFTLINE_EVALUATORS_FILE": str(path),
            "DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS": broker.kafka.bootstrap_servers,
            "DRIFTLINE_CLICKHOUSE_URL": clickhouse.url,
            "DRIFTLINE_CLICKHOUSE_USER": clickhouse.user,
            "DRIFTLINE_CLICKHOUSE_PASSWORD": clickhouse.password,
            "DRIFTLINE_CLICKHOUSE_DATABASE": clickhouse.database,
        }
        command = [sys.executable, "-m", "infra.cli", "evaluator"]
        running = [start(command, tmp_path / f"{n}.log", environment) for n in range(2)]
        try:
            # Killed while it waits for answers; which of the two, depends on who has the targets.
            under_way = "SELECT owner FROM evaluation_calls FINAL WHERE state = 'reserved'"
            until(lambda: len(pipeline.store.query(under_way)), 300, "a call is under way", 0.05)
            kill(running[0])
            running.append(start(command, tmp_path / "2.log", environment))
            left = (
                "SELECT count() AS n, countIf(state IN ('pending', 'not_ready')) AS open"
                " FROM decisions"
            )
            targets = 2 * sum(EACH.values())
            until(
                lambda: pipeline.store.query(left).row(0) == (targets, 0),
                600, "every target has a decision that stays",
            )  # fmt: skip
        finally:
            for process in running:
                stop(process)
    check_decisions(pipeline.store)
    check_scores(pipeline, scores(broker))
    check_calls(pipeline.store, fake)


def check_decisions(store):
    rows = store.query(
        "SELECT evaluator, target, concat(state, if(state = 'failed' OR state = 'refused',"
        " concat(' ', reason), '')) AS became FROM decisions"
    )
    counts = Counter(rows.select("evaluator", "target").iter_rows())
    assert set(counts.values()) == {1}
    for evaluator, target, became in rows.iter_rows():
        name = target.rpartition("-")[0]
        if (evaluator == "tight") != (name == "paid"):
            assert became == "filtered"
        elif became != "failed interrupted":  # whatever the killed one was at
            wanted = {ENDS.get(name, "done")} | ({"over_budget"} if name == "paid" else set())
            assert became in wanted, target


def check_scores(pipeline, told):
    """What is stored is right, and there is one score per target."""
    assert {event["kind"] for event in told} == {"score"}
    for event in told:
        assert event["value"] == VALUES[event["target"].rpartition("-")[0]]
    distinct = {json.dumps(event, sort_keys=True) for event in told}
    assert len(distinct) == len({event["target"] for event in told})
    done = pipeline.store.query("SELECT target FROM decisions WHERE state = 'done'")["target"]
    assert {event["target"] for event in told} == set(done)


def check_calls(store, fake):
    ledger = store.query(
        "SELECT evaluator, target, state, toString(charge_usd) AS usd,"
        " toUnixTimestamp64Milli(reserved) AS at FROM evaluation_calls FINAL"
        " WHERE state != 'withdrawn' ORDER BY at"
    )
    # Every call that reached the endpoint is in the books; a killed process may not have made its.
    booked = Counter(ledger["target"])
    assert all(n <= booked[target] for target, n in fake.asked.items())
    unknown = ledger.filter(pl.col("state") == "reserved")
    assert ledger.height - unknown.height <= fake.asked.total() <= ledger.height
    # An answer that came whole was never asked for again.
    for target, n in fake.answered.items():
        if target.rpartition("-")[0] in ("good", "bad", "slow", "paid", "refusal"):
            assert n == 1, target
    times = ledger.filter(pl.col("evaluator") == "open")["at"].to_list()
    assert all(sum(t <= other < t + 60_000 for other in times) <= PER_MINUTE for t in times)
    tight = ledger.filter(pl.col("evaluator") == "tight")
    spent = sum(map(Decimal, tight["usd"]))
    assert spent <= DAY_USD
    answered = tight.filter(pl.col("state") == "answered")
    assert sum(map(Decimal, answered["usd"])) == COST * answered.height
    sent = sum(n for target, n in fake.answered.items() if target.startswith("paid"))
    lost = tight.height - answered.height  # answers to the killed process
    assert answered.height <= sent <= answered.height + lost
