"""Real Apache Kafka for tests: one node or several on loopback, each a process to kill or freeze.

The jars are those of ``infra/kafka/pom.xml``; Maven fetches them once. Data goes to a folder of
the caller's; the processes die with the one that started them. Nothing of the project is imported:
``make chaos`` uses this too.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.network import Host
from tests.support.processes import last_line, listens, start, until

FOLDER = Path(__file__).resolve().parents[2] / "infra" / "kafka"
_CLASSPATH = FOLDER / "target" / "classpath"
_BASE = FOLDER / "server.properties"

# Serial collector and first compiler only: starts in half the time, which is what tests do most.
_JAVA = ("java", "-Xmx512m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_LOGGING = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",)
_READY_S = 60.0


class NoKafka(RuntimeError):
    """Apache Kafka cannot be had, or does not come up."""


def missing() -> str | None:
    """Why Apache Kafka cannot run here, None when it can. Fetches it the first time."""
    for program, variable in (("java", "a JDK or JRE, 17 or newer"), ("mvn", "Apache Maven")):
        if shutil.which(program) is None:
            return f"{program} is not on the PATH; install {variable} to test on Apache Kafka"
    try:
        classpath()
    except NoKafka as error:
        return str(error)
    return None


def classpath() -> str:
    """Class path of the broker; asks Maven only when a jar is missing or the pom is newer.

    Raises
    ------
    NoKafka
        Maven cannot get the jars.
    """
    if not _resolved():
        pom = str(FOLDER / "pom.xml")
        done = subprocess.run(
            ["mvn", "--batch-mode", "--file", pom, "dependency:build-classpath"],
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        if done.returncode:
            errors = [line for line in done.stdout.splitlines() if line.startswith("[ERROR]")]
            raise NoKafka(f"Maven cannot fetch Apache Kafka: {(errors or ['no reason'])[0]}")
        os.utime(_CLASSPATH)
    return _CLASSPATH.read_text()


def _resolved() -> bool:
    if not _CLASSPATH.is_file():
        return False
    newer = _CLASSPATH.stat().st_mtime >= (FOLDER / "pom.xml").stat().st_mtime
    return newer and all(Path(jar).is_file() for jar in _CLASSPATH.read_text().strip().split(":"))


@dataclass
class Node:
    """One broker and controller."""

    number: int
    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    host: Host | None = None

    @property
    def address(self) -> str:
        return self.host.address if self.host else "127.0.0.1"

    @property
    def server(self) -> str:
        """The listener without encryption or login."""
        return f"{self.address}:{self.port}"

    @property
    def is_up(self) -> bool:
        """Whether it takes connections, which a client would otherwise leave behind."""
        return listens(self.address, self.port)

    @property
    def log(self) -> Path:
        return self.folder / "kafka.log"

    def start(self) -> None:
        properties = str(self.folder / "server.properties")
        command = [*_JAVA, *_LOGGING, "-cp", classpath(), "kafka.Kafka", properties]
        self.process = start(self.host.command(command) if self.host else command, self.log)

    def kill(self) -> None:
        """Kill it as a power cut would, without a word to the others."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@dataclass
class Cluster:
    """Nodes that know each other. Make one with `cluster`."""

    nodes: list[Node]

    @property
    def bootstrap_servers(self) -> str:
        """The listeners without encryption or login."""
        return ",".join(node.server for node in self.nodes)

    @contextmanager
    def admin(self) -> Iterator[Any]:
        from kafka.admin import KafkaAdminClient

        # Of the running nodes one is enough, and of the others the client would leave sockets.
        running = [node.server for node in self.nodes if node.is_up]
        client = KafkaAdminClient(bootstrap_servers=running, bootstrap_timeout_ms=10_000)
        try:
            yield client
        finally:
            client.close()

    def wait_ready(self, within_s: float = _READY_S) -> None:
        """Return when every running node is part of the cluster."""
        from kafka.errors import KafkaError

        running = [n for n in self.nodes if n.process is not None and n.process.poll() is None]

        def complete() -> bool:
            for node in running:
                assert node.process is not None
                if node.process.poll() is not None:
                    raise NoKafka(f"node {node.number} ended: {last_line(node.log)}")
                if not node.is_up:
                    return False
            try:
                with self.admin() as client:
                    return len(client.describe_cluster()["brokers"]) == len(running)
            except (KafkaError, OSError):
                return False

        until(complete, within_s, "every running node in the cluster", 0.3)

    def delete_topics(self) -> None:
        """Delete every topic that is not Kafka's own, and wait until they are gone."""
        with self.admin() as client:
            names = [name for name in client.list_topics() if not name.startswith("__")]
            if names:
                client.delete_topics(names)
            until(lambda: not set(names) & set(client.list_topics()), 30, "topics to be gone")

    def in_sync(self, topic: str) -> int:
        """Smallest number of in-sync copies of any partition of a topic."""
        return min(len(part["isr_nodes"]) for part in self._partitions(topic))

    def leader(self, topic: str, partition: int) -> Node:
        """The node that takes the records of a partition."""
        parts = self._partitions(topic)
        found = next(p["leader_id"] for p in parts if p["partition_index"] == partition)
        return next(node for node in self.nodes if node.number == found)

    def positions(self, group: str, topic: str) -> dict[int, tuple[int, int]]:
        """Per partition of a topic, what a group has committed, 0 without, and the end."""
        from kafka import TopicPartition
        from kafka.admin import OffsetSpec

        def ask(client: Any) -> dict[int, tuple[int, int]]:
            # In this order: what is produced meanwhile then counts as lag rather than as done.
            committed = client.list_group_offsets([group])[group]
            ends = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
            return {
                p.partition: (max(0, committed[p].offset) if p in committed else 0, ends[p].offset)
                for p in partitions
            }

        numbers = [part["partition_index"] for part in self._partitions(topic)]
        partitions = [TopicPartition(topic, number) for number in numbers]
        return self._patiently(ask)

    def lag(self, group: str, topic: str) -> dict[int, int]:
        """Per partition of a topic, the records that a group has not committed."""
        return {p: end - done for p, (done, end) in self.positions(group, topic).items()}

    def ends(self, topic: str) -> dict[int, int]:
        """Per partition of a topic, the offset after its last record."""
        from kafka import TopicPartition
        from kafka.admin import OffsetSpec

        asked = {
            TopicPartition(topic, part["partition_index"]): OffsetSpec.LATEST
            for part in self._partitions(topic)
        }
        found = self._patiently(lambda client: client.list_partition_offsets(asked))
        return {place.partition: end.offset for place, end in found.items()}

    def _partitions(self, topic: str) -> list[dict[str, Any]]:
        found = self._patiently(lambda client: next(iter(client.describe_topics([topic]))))
        return list(found["partitions"])

    def _patiently(self, ask: Callable[[Any], Any], within_s: float = 90.0) -> Any:
        """Ask while brokers or coordinators come and go."""
        from kafka.errors import KafkaError

        deadline = time.monotonic() + within_s
        while True:
            try:
                with self.admin() as client:
                    return ask(client)
            except (KafkaError, OSError):
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.3)


@contextmanager
def cluster(
    folder: Path,
    port: int,
    nodes: int = 1,
    settings: Mapping[str, Callable[[int], str] | str] = {},
    format_arguments: tuple[str, ...] = (),
    hosts: Sequence[Host] = (),
) -> Iterator[Cluster]:
    """Start Kafka and stop it at the end.

    Parameters
    ----------
    folder
        For data and logs.
    port
        First of ``2 * nodes`` free ports in a row.
    nodes
        How many; with three or more, everything has three copies of which two must agree.
    settings
        Broker settings on top; a function is given the node's number, from 1.
    format_arguments
        For ``kafka-storage format``, such as users.
    hosts
        One for each node; without them all are on this one.
    """
    made = [
        Node(n, port + 2 * (n - 1), folder / f"node-{n}", host=hosts[n - 1] if hosts else None)
        for n in range(1, nodes + 1)
    ]
    voters = ",".join(f"{node.number}@{node.address}:{node.port + 1}" for node in made)
    identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    for node in made:
        node.folder.mkdir(parents=True)
        own = {
            "node.id": str(node.number),
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://{node.server},CONTROLLER://{node.address}:{node.port + 1}",
            "log.dirs": str(node.folder / "data"),
            **(_THREE if nodes >= 3 else {}),
            **{k: v if isinstance(v, str) else v(node.number) for k, v in settings.items()},
        }
        lines = [_BASE.read_text(), *(f"{name}={value}" for name, value in own.items())]
        (node.folder / "server.properties").write_text("\n".join(lines) + "\n")
    _format(made, identity, format_arguments)
    found = Cluster(made)
    try:
        for node in made:
            node.start()
        found.wait_ready()
        yield found
    finally:
        # Nothing is kept, and the last of three would wait for the others.
        for node in made:
            if node.process is not None:
                node.kill()


_THREE = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}


def _format(nodes: list[Node], identity: str, arguments: tuple[str, ...]) -> None:
    formatting = [
        subprocess.Popen(
            [
                *_JAVA, "-cp", classpath(), "kafka.tools.StorageTool", "format",
                f"--cluster-id={identity}",  # which may begin with a dash
                "--config", str(node.folder / "server.properties"), *arguments,
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for node in nodes
    ]  # fmt: skip
    for process in formatting:
        said, _ = process.communicate(timeout=60)
        if process.returncode:
            raise NoKafka(f"Kafka's storage cannot be formatted: {said.strip()[-500:]}")
