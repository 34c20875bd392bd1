"""The demo: the whole loop on simulated traffic, told as it goes, and what came of it."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
from processors.regressions import export, load_cases

HOURS: Final = 6
RATE: Final = 2.0
INCIDENT: Final = "tool_outage@335m+25m:support"
SEED: Final = 7

_FOUND: Final = """
SELECT finding_id, found, began, title, severity, baseline, observed, n, e_value, evidence
FROM findings FINAL
WHERE incident = '' AND severity = 'page' AND agent = {agent:String}
    AND found >= {after:DateTime64(3)}
ORDER BY found LIMIT 1
"""

_CLUSTER: Final = """
SELECT cluster, name, size FROM clusters FINAL
WHERE agent = {agent:String} AND status != 'merged' AND last_seen >= {after:DateTime}
ORDER BY size DESC, cluster LIMIT 1
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


@dataclass
class Hook:
    """A webhook on loopback that keeps what it got: where the pages of the demo go."""

    secret: str
    url: str = ""
    got: list[dict[str, Any]] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, str]:
        """What makes a worker send here, as variables of its environment."""
        return {
            "DRIFTLINE_NOTIFY_WEBHOOK_URL": self.url,
            "DRIFTLINE_NOTIFY_WEBHOOK_SECRET": self.secret,
        }

    def take(self, stamp: str, signature: str, body: bytes) -> bool:
        """Keep a message that is signed with the secret; whether it was."""
        wanted = hmac.new(self.secret.encode(), stamp.encode() + b"." + body, hashlib.sha256)
        good = hmac.compare_digest(f"v1={wanted.hexdigest()}".encode(), signature.encode())
        if good:
            self.got.append(json.loads(body))
        return good


@contextmanager
def webhook() -> Iterator[Hook]:
    """Serve a webhook on a free port of 127.0.0.1 while the context lasts."""
    hook = Hook(secrets.token_hex(16))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            stamp = self.headers.get("Driftline-Timestamp", "")
            signature = self.headers.get("Driftline-Signature", "")
            self.send_response(204 if hook.take(stamp, signature, body) else 401)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook.url = f"http://127.0.0.1:{server.server_port}/pages"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True, slots=True)
class Loop:
    """What came of the incident: its finding, its cluster, the page, and the cases."""

    injected: datetime
    finding: dict[str, Any]
    cluster: dict[str, Any]
    page: dict[str, Any]
    cases: int
    file: Path


def follow(store: Store, sent: Sent, hook: Hook, file: Path, timeout: float = 300.0) -> Loop:
    """Wait until the injected incident is found, clustered and paged, and export its cases.

    Parameters
    ----------
    store
        The database.
    sent
        What was simulated.
    hook
        Where the page arrives.
    file
        Where the cases are written, one JSON object a line.
    timeout
        Seconds to wait for all of it.

    Raises
    ------
    Unavailable
        A part did not come: the demo has failed.
    """
    agent = sent.incident["agent"]
    began = datetime.fromtimestamp(sent.incident["start_unix_nano"] / 1e9, UTC)
    given = {"agent": agent, "after": began}
    deadline = time.monotonic() + timeout

    def wait_for(what: str, look: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
        while (seen := look()) is None:
            if time.monotonic() > deadline:
                raise Unavailable(f"{what} within {timeout:.0f} s; see its logs/worker-1.log")
            time.sleep(0.25)
        return seen

    def first(sql: str) -> dict[str, Any] | None:
        return next(store.query(sql, given).iter_rows(named=True), None)

    finding = wait_for("the incident was not found", lambda: first(_FOUND))
    cluster = wait_for("its failures were not clustered", lambda: first(_CLUSTER))

    def paged() -> dict[str, Any] | None:
        told = (m for m in hook.got if agent in m["agents"])
        return next(told, None)

    page = wait_for("nobody was paged", paged)
    cases, _ = load_cases(store, agent, cluster["cluster"])
    file.write_text(export(cases, "jsonl"), "utf-8")
    finding["evidence"] = json.loads(finding["evidence"])
    return Loop(began, finding, cluster, page, len(cases), file)
