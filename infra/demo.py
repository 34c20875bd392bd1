"""The demo: the whole loop on simulated traffic, told as it goes, and what came of it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from infra import wiring
from infra.catch_up import wait_until_settled
from infra.settings import Settings
from infra.topics import log_id
from ingest.core.errors import Unavailable
from ingest.core.events import EVENTS_TOPIC
from ingest.replay.publish import replay
from ingest.simulate import Simulation, SimulationConfig
from ingest.simulate.incidents import parse_incident
from processors.clickhouse import Store

HOURS: Final = 6
RATE: Final = 2.0
INCIDENT: Final = "tool_outage@335m+25m:support"
SEED: Final = 7

_FOUND: Final = """
SELECT found, began, title, severity, baseline, observed, n, e_value, evidence
FROM findings FINAL
WHERE incident = '' AND severity = 'page' AND agent = {agent:String}
    AND found >= {after:DateTime64(3)}
ORDER BY found LIMIT 1
"""

_ALERT: Final = """
SELECT alert_key, toString(argMax(a.status, a.ts)) AS status,
    toString(argMax(a.severity, a.ts)) AS severity
FROM alert_events AS a FINAL WHERE agent = {agent:String} GROUP BY alert_key
"""


@dataclass(frozen=True, slots=True)
class Sent:
    """What was simulated, and what it truly was."""

    events: int
    seconds: float
    truth: dict[str, Any]

    @property
    def incident(self) -> dict[str, Any]:
        """The incident that was injected."""
        found: dict[str, Any] = self.truth["incidents"][0]
        return found


def fresh(folder: Path) -> None:
    """Remove what an earlier demo left; only a folder that a demo made."""
    if (folder / "runtime.lock").exists() or not folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def send(settings: Settings, report: Callable[[float], None]) -> tuple[Sent, dict[int, int]]:
    """Simulate hours of traffic that end now, with an incident, and send it to Kafka.

    Returns
    -------
    sent
        What was sent.
    offsets
        Per partition, the offset after the last record.
    """
    end_ns, span_ns = time.time_ns(), HOURS * 3600 * 10**9
    simulation = Simulation(
        SimulationConfig(
            start_ns=end_ns - span_ns,
            duration_s=HOURS * 3600.0,
            rate=RATE,
            seed=SEED,
            incidents=[parse_incident(INCIDENT, 1)],
        )
    )
    begun = time.monotonic()
    with wiring.producer(settings) as producer:
        tally = replay(
            simulation.events(),
            producer,
            report=lambda t: report(((t.last_ns or 0) - end_ns + span_ns) / span_ns),
        )
    took = time.monotonic() - begun
    return Sent(tally.accepted, took, simulation.truth()), producer.acknowledged


def process(settings: Settings, offsets: dict[int, int], tick: Callable[[], None]) -> None:
    """Wait until everything that was sent is in the numbers."""
    log = log_id(wiring.kafka(settings), EVENTS_TOPIC)
    wait_until_settled(Store(wiring.clickhouse(settings)), log, offsets, tick=tick)


def finding(store: Store, sent: Sent, timeout: float = 300.0) -> dict[str, Any]:
    """Wait for the finding that the injected incident must lead to.

    Raises
    ------
    Unavailable
        It was not found: the demo has failed.
    """
    began = datetime.fromtimestamp(sent.incident["start_unix_nano"] / 1e9, UTC)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        rows = store.query(_FOUND, {"agent": sent.incident["agent"], "after": began})
        alerts = store.query(_ALERT, {"agent": sent.incident["agent"]})
        if not rows.is_empty() and not alerts.is_empty():
            found = rows.row(0, named=True)
            return found | {
                "evidence": json.loads(found["evidence"]),
                "alert": alerts.row(0, named=True),
                "injected": began,
            }
        time.sleep(0.25)
    raise Unavailable(
        f"the incident was not found within {timeout:.0f} s; see its logs/worker-1.log"
    )
