"""Judges items: each evaluator has a lane of its own, so that a slow judge delays only itself.

Nothing waits for a lane: an item for which it has no room is dropped here, stays pending in the
store, and is sent again. An item is judged by these steps, and a crash between two of them is
harmless, because

1. what is no longer pending is let go,
2. a call is reserved in the ledger before it is made,
3. its answer is stored in the ledger: from here on the item is never called for again,
4. scores are acknowledged by Kafka; a repeat has the same ids and payloads,
5. the decision is stored.

A call that was begun by a process that is gone may have been answered; it is not made again, and
the decision says ``interrupted``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Protocol

import aiohttp
import msgspec
from xxhash import xxh3_128_hexdigest

from ingest.core import telemetry
from ingest.core.errors import Unavailable
from ingest.core.events import Event
from processors import otlp_logs
from processors.derive.sealing import NS, clock_ns
from processors.evaluators import rules, views
from processors.evaluators.items import Item
from processors.evaluators.ledger import Grant, Ledger
from processors.evaluators.model import Endpoint, Outcome, Request
from processors.evaluators.records import Records
from processors.evaluators.rules import Score
from processors.evaluators.spec import Any_, Model, Python, Rule

log = logging.getLogger(__name__)

_ROOM: Final = 1_000
_EXPORT_S: Final = 5.0
_BACKOFF_S: Final = (0.5, 2.0, 8.0)
_LIVE_NS: Final = 3600 * NS

Publish = Callable[[Sequence[Event]], Awaitable[None]]
"""Sends events; returns once Kafka has them."""

_scores = msgspec.json.Decoder(tuple[Score, ...]).decode


class Guard(Protocol):
    """What keeps secrets and personal data out of what is stored; `ingest.redaction` is one."""

    def apply(self, events: Sequence[Event]) -> list[Event]:
        """Events as they may be kept."""

    def redact_text(self, text: str) -> str:
        """A text without secrets and personal data."""

    def keeps_text_of(self, agent: str | None) -> bool:
        """Whether text of an agent may be kept at all."""


@dataclass(slots=True)
class _Lane:
    spec: Any_
    queue: asyncio.Queue[Item]
    judge: Callable[[list[Item]], Awaitable[None]]
    tasks: list[asyncio.Task[None]]

    @property
    def at_once(self) -> int:
        """How many items are judged between two words with the store."""
        if isinstance(self.spec, Rule):
            return 256 if self.spec.target == "interaction" else 32
        # Models are slow: a worker that waits for one must not hold targets of others.
        share = 16 if isinstance(self.spec, Python) else self.queue.qsize() // len(self.tasks)
        return min(max(1, share), 16)


class Pool:
    """The lanes of one process.

    Parameters
    ----------
    evaluators
        Whom to run.
    records, ledger
        Where decisions and calls are.
    publish
        Sends scores.
    keys
        Bearer token by evaluator.
    guard
        Redacts what judges say before it is stored.
    otlp_url
        OTLP/HTTP receiver that gets scores too; what it does not take is logged and not repeated.

    Raises
    ------
    UsageError
        An evaluator cannot be run as it is configured.
    """

    def __init__(
        self,
        evaluators: Sequence[Any_],
        records: Records,
        ledger: Ledger,
        publish: Publish,
        keys: Mapping[str, str | None],
        guard: Guard,
        otlp_url: str | None = None,
    ) -> None:
        self._records = records
        self._ledger = ledger
        self._publish = publish
        self._keys = keys
        self._guard = guard
        self._otlp_url = otlp_url
        self._http: aiohttp.ClientSession | None = None
        self._lanes = {
            (s.name, s.version): _Lane(s, asyncio.Queue(_ROOM), self._judge(s), [])
            for s in evaluators
        }
        self._held: set[str] = set()
        self._stopping = False

    def start(self) -> None:
        """Begin to judge; in a running event loop."""
        for lane in self._lanes.values():
            lane.tasks = [
                asyncio.create_task(self._follow(lane)) for _ in range(lane.spec.concurrency)
            ]

    async def stop(self, within_s: float = 0.0) -> None:
        """Take nothing more, and wait for what is under way."""
        self._stopping = True
        lanes = self._lanes.values()
        for lane in lanes:
            while not lane.queue.empty():
                self._held.discard(lane.queue.get_nowait().key)
        deadline = asyncio.get_running_loop().time() + within_s
        while self._held and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        for task in (task for lane in lanes for task in lane.tasks):
            task.cancel()
        if self._http is not None:
            await self._http.close()

    def offer(self, item: Item) -> bool:
        """Take an item, unless it is held already, of no evaluator here, or there is no room."""
        lane = self._lanes.get((item.evaluator, item.evaluator_version))
        if lane is None or item.key in self._held or lane.queue.full():
            return False
        self._held.add(item.key)
        lane.queue.put_nowait(item)
        return True

    async def _follow(self, lane: _Lane) -> None:
        while True:
            items = [await lane.queue.get()]
            most = lane.at_once
            while len(items) < most and not lane.queue.empty():
                items.append(lane.queue.get_nowait())
            try:
                await self._until_stored(lane, items)
            except Exception:
                names = ", ".join(item.target for item in items[:3])
                log.exception("evaluator %s cannot judge %s", lane.spec.name, names)
                telemetry.EVALUATIONS.labels(lane.spec.name, "error").inc(len(items))
            finally:
                self._held.difference_update(item.key for item in items)

    async def _until_stored(self, lane: _Lane, items: list[Item]) -> None:
        """Judge items; what ClickHouse or Kafka did not take stays pending and is sent again."""
        anchors = [item for item in items if item.purpose == "anchor"]
        live = [item for item in items if item.purpose != "anchor"]
        try:
            if live:
                live = await asyncio.to_thread(self._records.still_pending, live)
            if anchors or live:
                await lane.judge(anchors + live)
        except Unavailable as error:
            log.warning("%s of %s is judged later: %s", lane.spec.name, items[0].target, error)

    def _judge(self, spec: Any_) -> Callable[[list[Item]], Awaitable[None]]:
        if isinstance(spec, Rule | Python):
            function = rules.compiled(spec) if isinstance(spec, Rule) else rules.loaded(spec)
            return lambda items: self._by_function(spec, function, items)
        endpoint = Endpoint(spec, self._keys.get(spec.name), self._session)

        async def each(items: list[Item]) -> None:
            items = await self._affordable(spec, items)
            cases = await asyncio.to_thread(self._records.cases, items) if items else {}
            for item in items:
                if self._stopping:  # it stays pending
                    return
                await self._by_model(spec, endpoint, item, cases.get(item.target))

        return each

    async def _affordable(self, spec: Model, items: list[Item]) -> list[Item]:
        """Without those that nobody can pay for and nobody has paid for; they are decided here."""
        live = [item for item in items if not item.run and item.purpose != "anchor"]
        if spec.budget.when_spent == "queue" or not live:
            return items
        least = Request(spec, "").most_usd()
        called = await asyncio.to_thread(self._ledger.called_while_spent, live, least, spec.budget)
        if called is None:
            return items
        unpaid = [item for item in live if item.key not in called]
        ended = [(item, {"state": "over_budget", "calls": 0, "cost_usd": Decimal(0)})
                 for item in unpaid]  # fmt: skip
        if ended:
            telemetry.EVALUATIONS.labels(spec.name, "over_budget").inc(len(ended))
            await asyncio.to_thread(self._records.settle_all, ended)
        return [item for item in items if item not in unpaid]

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            # Lanes bound how many calls there are.
            self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self._http

    async def _by_function(
        self,
        spec: Rule | Python,
        function: Callable[[views.Case], Score | None],
        items: list[Item],
    ) -> None:
        cases = await asyncio.to_thread(self._records.cases, items)
        ended: list[tuple[Item, dict[str, Any]]] = []
        told: list[Event] = []
        for item in items:
            case = cases.get(item.target)
            score: Score | None = None
            try:
                async with asyncio.timeout(spec.timeout_s):
                    if case is not None:
                        score = await asyncio.to_thread(function, case)
            except TimeoutError:
                end: dict[str, Any] = {"state": "failed", "reason": "timeout"}
            except Exception as error:
                log.warning("evaluator %s: %s", spec.name, error, exc_info=True)
                end = {"state": "failed", "reason": type(error).__name__}
            else:
                end = {"state": "refused", "reason": ""}
                if case is None:
                    end = {"state": "failed", "reason": "target_gone"}
                elif score is not None:
                    end = {"state": "done", "reason": "", "value": score.value, "calls": 0}
                    told.append(event_of(item, score, item.at, ""))
            ended.append((item, end))
            telemetry.EVALUATIONS.labels(spec.name, end["state"]).inc()
        if told:
            await self._send(told)
        await asyncio.to_thread(self._records.settle_all, ended)

    async def _by_model(
        self, spec: Model, endpoint: Endpoint, item: Item, case: views.Case | None
    ) -> None:
        if case is None:
            await self._settle(item, "failed", "target_gone")
            return
        request = Request(spec, views.shown(case, spec.view, spec.characters))
        history = await asyncio.to_thread(self._ledger.history, item, request.hash)
        own = [call for call in history if call["item"] == item.key]
        told = own if item.purpose == "anchor" else history
        answered = next((call for call in told if call["state"] == "answered"), None)
        if answered is not None:  # of this item, or of the same input
            await self._done(item, answered, own)
            return
        if any(call["state"] == "refused" for call in own):
            await self._end(item, "refused", "refusal", own)
            return
        open_ = [call for call in own if call["state"] == "reserved"]
        if open_:
            if min(call["age_s"] for call in open_) > spec.longest_s or self._is_own(open_):
                await self._end(item, "failed", "interrupted", own)
            return
        await self._attempts(spec, endpoint, item, request, own)

    def _is_own(self, calls: list[dict[str, Any]]) -> bool:
        """Whether this process made a call and then could not store its end."""
        return all(call["owner"] == self._ledger.owner for call in calls)

    async def _attempts(
        self,
        spec: Model,
        endpoint: Endpoint,
        item: Item,
        request: Request,
        own: list[dict[str, Any]],
    ) -> None:
        budget = spec.budget
        if item.run:
            budget = await asyncio.to_thread(self._records.budget_of, item.run, spec.name)
        # The worker that made all attempts may have died before it could say so.
        outcome = Outcome("failed", own[-1]["reason"] if own else "")
        for attempt in range(len(own), spec.attempts):
            grant = await self._ledger.reserve(
                item, attempt, request.hash, request.most_usd(), budget
            )
            if grant == "taken" or (grant == "spent" and budget.when_spent == "queue"):
                return
            if not isinstance(grant, Grant):
                outcome = Outcome("spent")
                break
            outcome = await endpoint.call(request)
            call = await self._stored(item, grant, outcome)
            own.append(call)
            telemetry.EVALUATION_SECONDS.labels(spec.name).observe(outcome.latency_ms / 1000)
            if outcome.state == "answered":
                await self._done(item, call, own)
                return
            if not outcome.again or attempt + 1 == spec.attempts:
                break
            pause = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
            await asyncio.sleep(max(outcome.wait_s, pause))
        if outcome.state == "spent":
            await self._end(item, "over_budget", "", own)
        else:
            await self._end(item, outcome.state, outcome.reason, own, model=outcome.model)

    async def _stored(self, item: Item, grant: Grant, outcome: Outcome) -> dict[str, Any]:
        """Write down how a call ended; only then anything follows from it."""
        at = max(item.at, clock_ns()) if clock_ns() - item.at < _LIVE_NS else item.at
        values: dict[str, Any] = {
            "reason": outcome.reason, "model": outcome.model, "latency_ms": outcome.latency_ms,
            "input_tokens": outcome.input_tokens, "output_tokens": outcome.output_tokens,
            "at": datetime.fromtimestamp(at // 1000 / 1_000_000, UTC),
            "answer": msgspec.json.encode([self._kept(item, s) for s in outcome.scores]).decode(),
        }  # fmt: skip
        await asyncio.to_thread(
            lambda: self._ledger.settle(grant, state=outcome.state, usd=outcome.usd, **values)
        )
        usd = grant.row["charge_usd"] if outcome.usd is None else outcome.usd
        return {
            **values, "usd": float(usd), "priced": grant.row["priced"], "state": outcome.state,
            "item": item.key, "at": values["at"].strftime("%Y-%m-%d %H:%M:%S.%f"),
        }  # fmt: skip

    def _kept(self, item: Item, score: Score) -> Score:
        keeps = self._guard.keeps_text_of(item.agent)
        text = self._guard.redact_text(score.explanation) if keeps else ""
        return msgspec.structs.replace(score, explanation=text)

    async def _done(self, item: Item, call: dict[str, Any], own: list[dict[str, Any]]) -> None:
        scores = _scores(call["answer"].encode())
        moment = datetime.fromisoformat(call["at"][:26]).replace(tzinfo=UTC)
        at = (int(moment.timestamp()) * 1_000_000 + moment.microsecond) * 1_000
        if call["item"] != item.key:  # the same input was judged before; this target is judged now
            at = item.at
        model = call["model"]
        await self._tell(item, scores, at, model)
        value = sum(score.value for score in scores) / len(scores)
        latency = call["latency_ms"] if call["item"] == item.key else None
        await self._end(item, "done", "", own, value=value, model=model, latency_ms=latency)

    async def _end(
        self, item: Item, state: str, reason: str, own: list[dict[str, Any]], **values: Any
    ) -> None:
        if all(call["priced"] for call in own):
            values["cost_usd"] = sum((Decimal(repr(call["usd"])) for call in own), Decimal(0))
        await self._settle(item, state, reason, calls=len(own), **values)

    async def _settle(self, item: Item, state: str, reason: str = "", **values: Any) -> None:
        if item.purpose == "anchor":  # what it came to stands in the ledger
            return
        telemetry.EVALUATIONS.labels(item.evaluator, state).inc()
        await asyncio.to_thread(lambda: self._records.settle(item, state, reason, **values))

    async def _tell(self, item: Item, scores: Sequence[Score], at: int, model: str = "") -> None:
        if item.purpose != "anchor":
            await self._send([event_of(item, score, at, model) for score in scores])

    async def _send(self, events: Sequence[Event]) -> None:
        events = self._guard.apply(events)
        await self._publish(events)
        if self._otlp_url is not None:
            await self._export(f"{self._otlp_url}/v1/logs", events)

    async def _export(self, url: str, events: Sequence[Event]) -> None:
        limit, body = aiohttp.ClientTimeout(total=_EXPORT_S), otlp_logs.of_scores(events)
        try:
            async with self._session().post(url, json=body, timeout=limit) as answer:
                answer.raise_for_status()
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("%s does not take scores: %s", url, error)


def event_of(item: Item, score: Score, at: int, model: str) -> Event:
    """The score as an event: a function of item, score and time, so that a repeat collapses.

    Its attributes are those of ``gen_ai.evaluation.result``.
    """
    label = {"gen_ai.evaluation.score.label": score.label} if score.label else {}
    session = item.target_kind == "session"
    return Event(
        event_id=f"score:{xxh3_128_hexdigest(f'{item.key}:{score.name}'.encode())}",
        time_unix_nano=at,
        environment=item.environment or "production",
        agent=item.agent,
        kind="score",
        session_id=(item.target if session else item.session_id) or None,
        interaction_id=None if session else item.target,
        name=score.name,
        value=score.value,
        reason=score.reason or None,
        content=score.explanation or None,
        model=model or None,
        rule_version=item.evaluator_version,
        target=item.target,
        attributes={**label, **score.attributes} or None,
    )
