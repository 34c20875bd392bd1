"""Evaluators on the embedded engine: decisions, budgets, and a model endpoint that means harm.

The endpoint is a fake: a local HTTP server that answers as the test tells it to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import polars as pl
import pytest

from dashboards.evaluators import overview
from ingest.core.errors import Unavailable
from ingest.redaction import Redactor
from processors.clickhouse import ClickHouseConfig, Store
from processors.evaluators import planner, quality
from processors.evaluators.anchors import Anchors, finding_of
from processors.evaluators.items import RANKS
from processors.evaluators.ledger import Grant, Ledger
from processors.evaluators.pool import Pool
from processors.evaluators.records import Records
from processors.evaluators.spec import Budget, parse
from processors.stations.base import frame
from tests.support import results

T0 = datetime(2026, 11, 2, 12, tzinfo=UTC)
LO, HI = int(T0.timestamp()), int(T0.timestamp()) + 3600


def evaluator(**fields):
    plain = {"name": "polite", "kind": "rule", "forbids": "damn"}
    return parse(json.dumps({"evaluators": [plain | fields]}).encode())[0]


def states(store, name="polite"):
    rows = store.query(f"SELECT target, state FROM decisions WHERE evaluator = '{name}'")
    return dict(rows.select("target", "state").iter_rows())


class TestDecisions:
    def decide(self, store, spec, hi=HI):
        records = Records(store)
        return records.decide(spec, records.lacking(spec, LO, hi), hi * 10**9)

    def test_every_target_has_one_decision_however_often_it_is_planned(self, store, clickhouse):
        rows = [
            results.interaction(
                n, T0 + timedelta(seconds=20 * n), session_id=f"s{n // 3}",
                state="open" if n == 7 else "ended", agent="a" if n % 4 else "other",
            )
            for n in range(90)
        ]  # fmt: skip
        with clickhouse.client() as client:
            results.fill(client, rows)
        spec = evaluator(filter="agent = 'a'", rate=0.5)
        items = self.decide(store, spec)
        found = states(store)
        assert len(found) == 90
        counts = {state: list(found.values()).count(state) for state in set(found.values())}
        assert counts["not_ready"] == 1
        assert counts["filtered"] == 23
        assert counts["pending"] == len(items)
        assert 15 < counts["pending"] < 50
        assert counts["pending"] + counts["sampled_out"] == 66
        assert self.decide(store, spec) == []
        assert states(store) == found

    def test_smaller_rates_nest_and_a_session_is_sampled_as_a_whole(self, store, clickhouse):
        rows = [
            results.interaction(n, T0 + timedelta(seconds=20 * n), session_id=f"s{n // 3}")
            for n in range(90)
        ]
        with clickhouse.client() as client:
            results.fill(client, rows)
        chosen = []
        for rate in (0.2, 0.5):
            name = f"r{rate}".replace(".", "")
            chosen.append({i.target for i in self.decide(store, evaluator(name=name, rate=rate))})
        assert chosen[0] < chosen[1]
        sessions = {row["interaction_id"]: row["session_id"] for row in rows}
        whole = {s: [i for i in sessions if sessions[i] == s] for s in sessions.values()}
        for members in whole.values():
            assert len({m in chosen[1] for m in members}) == 1

    def test_new_activity_replaces_and_a_slow_writer_does_not(self, store, clickhouse):
        row = results.interaction(1, T0, session_id="s")
        with clickhouse.client() as client:
            results.fill(client, [row])
            results.insert(
                client, "session_results", [results.session([row]) | {"events": 3, "version": 3}]
            )
        spec, records = evaluator(target="session", quiet_s=60), Records(store)
        assert self.decide(store, spec, LO + 30) == []
        assert states(store) == {"s": "not_ready"}
        (first,) = self.decide(store, spec)
        records.settle(first, "done", value=1.0)
        records.settle(first, "failed", "timeout")  # of a slow one
        assert states(store) == {"s": "done"}
        with clickhouse.client() as client:
            later = results.interaction(2, T0 + timedelta(seconds=300), session_id="s")
            results.insert(
                client, "session_results",
                [results.session([row, later]) | {"events": 9, "version": 9}],
            )  # fmt: skip
            results.insert(
                client, "session_results", [results.session([row]) | {"version": 9, "live": 0}]
            )
        (second,) = self.decide(store, spec)
        assert second.content > first.content
        assert records.still_pending([first]) == []
        records.settle(second, "done", value=0.0)
        records.settle(first, "done", value=1.0)  # the slow one again
        assert store.query("SELECT value FROM decisions")["value"].to_list() == [0.0]

    def test_what_a_version_left_undecided_the_next_one_decides(self, store, clickhouse):
        with clickhouse.client() as client:
            results.fill(client, [results.interaction(1, T0, state="open")])
        records = Records(store)
        self.decide(store, evaluator())
        changed = evaluator(forbids="other")
        hi = HI + 7200
        assert len(records.lacking(changed, hi, hi, inherits=False)) == 0
        assert records.lacking(changed, hi, hi, inherits=True)["target"].to_list() == ["i1"]

    def test_a_backfill_takes_what_was_let_go_and_nothing_else(self, store, clickhouse):
        rows = [results.interaction(n, T0 + timedelta(seconds=n)) for n in range(4)]
        with clickhouse.client() as client:
            results.fill(client, rows)
        spec, records = evaluator(), Records(store)
        items = {item.target: item for item in self.decide(store, spec)}
        for target, state in (("i0", "done"), ("i1", "over_budget"), ("i2", "refused")):
            records.settle(items[target], state)
        found = records.lacking(spec, LO, HI, again=True)
        assert found["target"].to_list() == ["i1"]
        (again,) = records.decide(spec, found, HI * 10**9, "run1")
        assert (again.round, again.run, again.account) == (1, "run1", "polite:run1")
        assert records.lacking(spec, LO, HI, again=True).is_empty()

    def test_the_overview_balances(self, store, clickhouse):
        rows = [results.interaction(n, T0 + timedelta(seconds=n)) for n in range(20)]
        with clickhouse.client() as client:
            results.fill(client, rows)
        spec, records = evaluator(rate=0.5), Records(store)
        records.begin(spec, HI)  # an hour back
        for item in self.decide(store, spec, LO + 10):
            records.settle(item, "done", value=1.0, calls=0)
        (found,) = overview(store)
        assert set(found["decisions"]) <= set(RANKS)
        assert sum(found["decisions"].values()) + found["undecided"] == found["targets"] == 20
        assert found["undecided"] == 10
        assert found["pass_rate"] is None  # a raw rate is no rate


def item(records, spec, store, clickhouse, n):
    with clickhouse.client() as client:
        results.fill(client, [results.interaction(i, T0 + timedelta(seconds=i)) for i in range(n)])
    return records.decide(spec, records.lacking(spec, LO, HI), HI * 10**9)


class TestBudgets:
    def test_exact_over_two_processes_and_a_restart(self, store, clickhouse):
        spec, records = evaluator(), Records(store)
        items = item(records, spec, store, clickhouse, 40)
        usd = Decimal("0.003")
        budget = Budget(calls_per_minute=25, usd_per_day=0.06, usd_per_week=1.0)

        async def spend(ledgers, chosen):
            tasks = [
                ledgers[n % len(ledgers)].reserve(one, 0, n + 1, usd, budget)
                for n, one in enumerate(chosen)
            ]
            return [g for g in await asyncio.gather(*tasks) if isinstance(g, Grant)]

        two = [Ledger(store, "one"), Ledger(store, "two")]
        granted = asyncio.run(spend(two, items[:30]))
        granted += asyncio.run(spend([Ledger(store, "three")], items[30:]))
        assert len(granted) == 20  # 0.06 / 0.003, though 25 calls were allowed
        spent = store.query(
            "SELECT count() AS n, toFloat64(sum(charge_usd)) AS usd FROM evaluation_calls FINAL"
            " WHERE state != 'withdrawn'"
        ).row(0)
        assert spent == (20, 0.06)
        # What a call did not cost can be spent again, to the cent.
        two[0].settle(granted[0], state="failed", usd=Decimal("0.001"))
        two[0].settle(granted[1], state="failed", usd=Decimal("0.002"))
        assert asyncio.run(spend([Ledger(store, "four")], items[2:3])) == []  # it is taken
        assert len(asyncio.run(spend([Ledger(store, "four")], items[39:]))) == 1

    def test_whoever_was_called_for_is_known_once_the_budget_is_spent(self, store, clickhouse):
        spec, records = evaluator(), Records(store)
        items, usd = item(records, spec, store, clickhouse, 30), Decimal("0.003")
        budget = Budget(usd_per_day=0.01)
        ledger = Ledger(store, "one")
        assert ledger.called_while_spent(items, usd, budget) is None
        for n, one in enumerate(items[:3]):
            assert isinstance(asyncio.run(ledger.reserve(one, 0, n, usd, budget)), Grant)
        called = {one.key for one in items[:3]}
        assert ledger.called_while_spent(items, usd, budget) == called
        assert ledger.called_while_spent(items[10:], usd, budget) == set()
        assert ledger.called_while_spent(items, Decimal("0.001"), budget) is None

    def test_an_item_is_held_by_one_process(self, store, clickhouse):
        spec, records = evaluator(), Records(store)
        (one,) = item(records, spec, store, clickhouse, 1)

        async def both():
            ledgers = [Ledger(store, "a"), Ledger(store, "b")]
            return await asyncio.gather(*(x.reserve(one, 0, 1, None, Budget()) for x in ledgers))

        assert sum(isinstance(grant, Grant) for grant in asyncio.run(both())) <= 1


def label(store, target, name, value, kind="score", event_id=None):
    row = {
        "target": target, "kind": kind, "name": name, "user_id": "", "time": T0,
        "event_id": event_id or f"{kind}:{name}:{target}", "payload_hash": 1,
        "environment": "production", "agent": "a", "value": value, "reason": "", "rule_version": "",
    }  # fmt: skip
    types = {"payload_hash": pl.UInt64, "time": pl.Datetime("ns", "UTC"), "value": pl.Float64}
    store.insert("evaluations", pl.DataFrame([row], schema_overrides=types))


class TestQuality:
    def test_rates_come_with_the_agreement_of_their_judge(self, store, clickhouse):
        for n in range(60):
            label(store, f"i{n}", "polite", float(n % 3 > 0))
            if n < 20:  # people and the judge differ on two
                label(store, f"i{n}", "label", float(n % 3 > 0 and n not in (1, 2)), "outcome")
        found = quality.measure(store)["polite"]
        assert (found.agreement.n, found.labels) == (20, 20)
        assert found.agreement.precision.value == pytest.approx(11 / 13)
        assert found.agreement.recall.value == 1
        assert found.rate["n_judged"] == 40
        assert found.rate["low"] < found.rate["value"] < 2 / 3
        quality.store_agreement(store)
        quality.store_agreement(store)
        (row,) = store.query("SELECT * FROM evaluator_agreement FINAL").to_dicts()
        assert row["kappa_low"] < row["kappa"] < row["kappa_high"]
        assert row["pass_rate"] == pytest.approx(found.rate["value"])

    @pytest.mark.parametrize("who", ["judge", "agent"])
    def test_a_changed_judge_and_a_changed_agent_are_two_findings(self, store, clickhouse, who):
        spec = judge()
        now = int(datetime.now(UTC).timestamp()) // 3600 * 3600
        hours, change = 240, 180
        begin = now - hours * 3600
        with clickhouse.client() as client:
            results.fill(client, [results.interaction(n, T0) for n in range(20)])
        records = Records(store)
        for one in records.decide(spec, records.lacking(spec, LO - 10, HI), HI * 10**9):
            records.settle(one, "done", value=0.9)
            label(store, one.target, "label", 1.0, "outcome")
        calls, live = [], []
        for hour in range(hours):
            at = datetime.fromtimestamp(begin + hour * 3600 + 60, UTC)
            late = hour >= change
            for k in range(4):
                strict = who == "judge" and late and (hour + k) % 3 == 0
                calls.append(
                    {
                        "account": "strict", "call_id": f"{hour}:{k}", "version": 2,
                        "item": f"{hour}:{k}", "state": "answered", "evaluator": "strict",
                        "evaluator_version": spec.version,
                        "purpose": "anchor", "target": f"i{(4 * hour + k) % 20}", "reserved": at,
                        "answer": f'[{{"name": "strict", "value": {0.1 if strict else 0.9}}}]',
                    }
                )  # fmt: skip
            live += [
                {
                    "evaluator": "strict", "evaluator_version": spec.version,
                    "target_kind": "interaction", "target": f"live{hour}:{k}",
                    "version": 10, "state": "done", "decided": at,
                    "value": 0.1 if late and k % 4 == 0 else 0.9,
                }
                for k in range(20)
            ]  # fmt: skip
        types = {"reserved": pl.Datetime("ms", "UTC"), "version": pl.UInt8}
        store.insert("evaluation_calls", pl.DataFrame(calls, schema_overrides=types))
        types = {"decided": pl.Datetime("ms", "UTC"), "version": pl.UInt64}
        store.insert("evaluation_decisions", pl.DataFrame(live, schema_overrides=types))
        blame, _, first = Anchors(store, spec).watched(now)
        assert blame is not None
        assert blame.who == who
        assert change - 24 < blame.began <= blame.found < change + 48
        finding = finding_of(spec, blame, first)
        assert finding.kind == {"judge": "judge_drift", "agent": "judged"}[who]
        store.insert("findings", frame([finding]))
        title = store.query("SELECT title FROM findings")["title"][0]
        assert "judge strict" in title

    def test_anchors_are_judged_again_at_their_pace(self, store, clickhouse):
        spec = judge(anchors_per_day=48)
        with clickhouse.client() as client:
            results.fill(client, [results.interaction(n, T0) for n in range(12)])
        records = Records(store)
        for one in records.decide(spec, records.lacking(spec, LO - 10, HI), HI * 10**9):
            records.settle(one, "done", value=0.9)
            label(store, one.target, "label", 1.0, "outcome")
        now = int(datetime.now(UTC).timestamp())
        anchors = Anchors(store, spec)
        assert [i.purpose for i in anchors.due(now)] == ["anchor"] * 2
        assert len({i.key for i in anchors.due(now, now - 7200)}) == 36


def judge(**fields):
    plain = {
        "name": "strict", "kind": "chat", "endpoint": "http://x/v1", "model": "m", "rubric": "?",
        "anchors_per_day": 96,
    }  # fmt: skip
    return parse(json.dumps({"evaluators": [plain | fields]}).encode())[0]


class Flaky(Store):
    """A store of which a fifth of the statements fail, half of these after they were done."""

    def __init__(self, config, seed):
        super().__init__(config)
        self.rng = random.Random(seed)
        self.failed = 0

    def fails(self, share):
        if self.rng.random() >= share:
            return
        self.failed += 1
        raise Unavailable("away for the test")

    def insert(self, table, frame):
        self.fails(0.1)
        super().insert(table, frame)
        self.fails(0.1)

    def query(self, *args, **kwargs):
        self.fails(0.1)
        return super().query(*args, **kwargs)


class TestFaults:
    def test_the_record_balances_whatever_fails(self, store, clickhouse, monkeypatch):
        rows = [
            results.interaction(
                n, T0 + timedelta(seconds=20 * n), session_id=f"s{n // 2}", steps=n % 9
            )
            for n in range(60)
        ]
        with clickhouse.client() as client:
            results.fill(client, rows)
        for name in ("RESEND_S", "_SCAN_S", "_WIDE_S"):
            monkeypatch.setattr(planner, name, -1.0)
        monkeypatch.setattr(planner, "_OVERLAP_S", 7200)
        specs = [
            evaluator(name="brief", limits={"steps": 6}, filter="steps > 2", rate=0.7),
            evaluator(name="other", limits={"steps": 4}),
        ]
        config = ClickHouseConfig(
            clickhouse.url, clickhouse.user, clickhouse.password, clickhouse.database
        )
        flaky = Flaky(config, 5)
        told = asyncio.run(self.run(flaky, specs, store))
        assert flaky.failed > 20
        for name in ("brief", "other"):
            found = states(store, name)
            assert found.keys() == {row["interaction_id"] for row in rows}
            assert set(found.values()) <= {"done", "filtered", "sampled_out"}
            judged = {event.target for event in told if event.name == name}
            assert judged == {target for target, state in found.items() if state == "done"}
        # However often a score was told, it was the same event.
        payloads = {msgspec.json.encode(event) for event in told}
        assert len(payloads) == len({event.event_id for event in told})

    async def run(self, flaky, specs, store):
        told = []

        async def publish(events):
            flaky.fails(0.1)
            told.extend(events)
            flaky.fails(0.1)

        async def send(item):
            flaky.fails(0.05)
            pool.offer(item)

        pool = Pool(specs, Records(flaky), Ledger(flaky, "one"), publish, {}, Redactor())
        plans = planner.Planner(specs, flaky, lambda: HI * 10**9, lambda: True, send, send)
        pool.start()
        waits = "SELECT count() AS n, countIf(state = 'pending') AS waiting FROM decisions"
        for _ in range(200):
            with contextlib.suppress(Unavailable):
                await plans.look()
            await asyncio.sleep(0.05)
            if store.query(waits).row(0) == (120, 0):
                break
        await pool.stop()
        return told
