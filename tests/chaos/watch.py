"""What must hold at every moment, watched while faults happen."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from pathlib import Path
from typing import Any

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from tests.chaos.store import Store
from tests.support.kafka_cluster import Cluster

EVERY_S = 0.5


class Watch(threading.Thread):
    """Looks twice a second, as far as Kafka and the store answer.

    * No offset is committed before the books hold every record below it.
    * ``steps_back``: how often a committed offset was smaller than before. That is allowed, for
      whoever takes a partition over reads from where it was left, and harmless, for a repeat
      collapses.
    * ``peak_mib``: the largest resident memory of any worker.
    """

    def __init__(self, cluster: Cluster, store: Store, group: str, topic: str) -> None:
        super().__init__(daemon=True, name="watch")
        self._cluster, self._store, self._group, self._topic = cluster, store, group, topic
        self._ending = threading.Event()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.peak_mib = 0.0
        self.looks = 0
        self.violations: list[str] = []

    def stop(self) -> None:
        self._ending.set()
        if self.is_alive():
            self.join(30)

    def run(self) -> None:
        client: Any = None
        while not self._ending.wait(EVERY_S):
            self._weigh()
            try:
                client = client or self._connect()
                self._look(client)
            except (KafkaError, OSError, RuntimeError):  # away, which the fault may intend
                if client is not None:
                    with contextlib.suppress(Exception):
                        client.close()
                client = None
        if client is not None:
            client.close()

    def _connect(self) -> KafkaAdminClient:
        running = [node.server for node in self._cluster.nodes if node.is_up]
        if not running:
            raise OSError
        return KafkaAdminClient(
            bootstrap_servers=running, bootstrap_timeout_ms=5_000, request_timeout_ms=5_000
        )

    def _look(self, client: KafkaAdminClient) -> None:
        # In this order: what is stored meanwhile only adds to the books.
        offsets = client.list_group_offsets([self._group])[self._group]
        committed = {
            place.partition: found.offset
            for place, found in offsets.items()
            if isinstance(place, TopicPartition) and place.topic == self._topic and found.offset > 0
        }
        if not committed:
            return
        chosen = " OR ".join(f"(partition = {p} AND offset < {o})" for p, o in committed.items())
        rows = self._store.ask(
            f"SELECT partition, uniqExact(offset) FROM ledger WHERE {chosen} GROUP BY partition",
            timeout_s=10,
        )
        booked = {int(partition): int(n) for partition, n in rows}
        for partition, offset in committed.items():
            if booked.get(partition, 0) < offset:
                self._note(
                    f"partition {partition}: {offset} committed, {booked.get(partition, 0)} booked"
                )
        self.looks += 1

    def _note(self, violation: str) -> None:
        if len(self.violations) < 20:
            self.violations.append(violation)

    def _weigh(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(OSError, ValueError, IndexError):
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    peak = status.partition("VmHWM:")[2].split(None, 1)[0]
                    self.peak_mib = max(self.peak_mib, int(peak) / 1024)
