"""Seeded traffic of agents, produced while faults happen, and what was acknowledged of it."""

from __future__ import annotations

import random
import threading
import time
from typing import Self

from ingest.core.errors import Unavailable
from ingest.core.events import Event
from ingest.core.kafka import KafkaConfig
from ingest.producer import KafkaEventProducer

_TOOLS = ("search", "refund", "lookup")
_MODELS = ("gpt-4.1", "claude")


class Traffic:
    """Makes interactions of about eight events; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._seed = seed
        self._made = 0

    def interactions(self, count: int, now_ns: int, spread_s: float = 1.0) -> list[Event]:
        """Events of ``count`` interactions that ended within ``spread_s`` seconds before now.

        Some come twice, some late, some out of order, some interactions never end.
        """
        rng, found = self._random, []
        for _ in range(count):
            late = 40.0 if rng.random() < 0.03 else 0.0
            found += self._interaction(now_ns - int((late + rng.random() * spread_s) * 1e9))
        found += rng.choices(found, k=len(found) // 20)
        for at in range(0, len(found) - 40, 40):
            if rng.random() < 0.2:
                part = found[at : at + 40]
                rng.shuffle(part)
                found[at : at + 40] = part
        return found

    def _interaction(self, end_ns: int) -> list[Event]:
        rng, number = self._random, self._made
        self._made += 1
        name = f"s{self._seed}-i{number}"
        common = {
            "environment": "staging" if rng.random() < 0.1 else "production",
            "agent": f"agent-{rng.randrange(12)}",
            "agent_version": rng.choice(("v1", "v2")),
            "session_id": f"s{self._seed}-c{number // 3}",
            "interaction_id": name,
            "user_id": f"u{number % 50}",
        }
        steps = rng.randrange(1, 4)
        times = sorted(end_ns - rng.randrange(8 * 10**9) for _ in range(2 * steps + 1))
        events = [self._event(common, f"{name}-u", times[0], "user_message")]
        for step in range(steps):
            spent = {"input_tokens": rng.randrange(4000), "output_tokens": rng.randrange(300)}
            if rng.random() < 0.95:
                spent["cost_usd"] = round(rng.random() / 100, 6)
            if rng.random() < 0.2:
                spent["cached_tokens"] = rng.randrange(100)
            events.append(
                self._event(
                    common, f"{name}-m{step}", times[2 * step + 1], "llm_call",
                    model=rng.choice(_MODELS), duration_ms=round(rng.lognormvariate(6, 1), 3),
                    **spent,
                )
            )  # fmt: skip
            events.append(
                self._event(
                    common, f"{name}-t{step}", times[2 * step + 2], "tool_call",
                    name=rng.choice(_TOOLS),
                    duration_ms=rng.choice((0.0, None, round(rng.expovariate(0.01), 3))),
                    **self._maybe_failed(0.1),
                )
            )  # fmt: skip
        if rng.random() < 0.97:
            events.append(
                self._event(
                    common, f"{name}-end", end_ns, "interaction",
                    duration_ms=round((end_ns - times[0]) / 1e6, 3), input_tokens=10**6,
                    **self._maybe_failed(0.15),
                )
            )  # fmt: skip
        if rng.random() < 0.2:
            events.append(
                self._event(
                    common, f"{name}-f", end_ns + 1, "feedback", value=rng.choice((0.0, 1.0)),
                    target=name,
                )
            )  # fmt: skip
        return events

    def _maybe_failed(self, share: float) -> dict[str, object]:
        if self._random.random() >= share:
            return {}
        return {
            "status": "error",
            "error_type": "timeout",
            "error_message": f"no answer after {self._random.randrange(100)} s",
        }

    def _event(
        self, common: dict[str, str], event_id: str, time_ns: int, kind: str, **more: object
    ) -> Event:
        return Event(event_id=event_id, time_unix_nano=time_ns, kind=kind, **common, **more)  # type: ignore[arg-type]


class Load(threading.Thread):
    """Produces traffic in a thread of its own until told to stop.

    ``acknowledged`` holds the events that Kafka has confirmed. Events whose fate is unknown after
    an error are sent again, as any careful producer does.
    """

    def __init__(self, kafka: KafkaConfig, seed: int, per_second: int = 250) -> None:
        super().__init__(daemon=True, name=f"load-{seed}")
        self._kafka = kafka
        self._traffic = Traffic(seed)
        self._per_tick = per_second // 10
        self._ending = threading.Event()
        self.acknowledged: list[Event] = []
        self.sends = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:  # the test's thread raises it
            self.failure = error

    def _run(self) -> None:
        producer = KafkaEventProducer(self._kafka)
        try:
            while not self._ending.is_set():
                began = time.monotonic()
                events = self._traffic.interactions(self._per_tick, time.time_ns())
                while True:
                    try:
                        producer.send(events)
                        producer.flush()
                        break
                    except Unavailable:
                        producer.close()
                        producer = self._reconnected()
                self.acknowledged += events
                self.sends += 1
                self._ending.wait(max(0.0, 0.1 - (time.monotonic() - began)))
        finally:
            producer.close()

    def _reconnected(self) -> KafkaEventProducer:
        deadline = time.monotonic() + 60
        while True:
            try:
                return KafkaEventProducer(self._kafka)
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join(60)

    def finish(self) -> list[Event]:
        """Stop and return every event that Kafka has acknowledged, repeats included."""
        self._ending.set()
        self.join(90)
        assert not self.is_alive(), "the producer hangs"
        if self.failure is not None:
            raise self.failure
        return self.acknowledged
