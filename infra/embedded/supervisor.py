"""Start the parts of the embedded runtime in order, watch them, stop them.

Order: broker, ClickHouse, migrations, topics, workers, gateway, OTLP receiver, evaluator, board. A
part that dies is started again at once, then after pauses that double up to half a minute. A
supervisor that cannot write its state, because the disk is full, says so and goes on.

The broker's records die with it, so its return makes a new log: topics are made anew; workers,
gateway and receiver start over with it. A log that has grown above its bound is replaced by a new
one as soon as everything in it is booked (`rotation`).

When broker or ClickHouse cannot come back, everything stops and says so. A worker or receiver that
refuses its data (exit code 4) or its settings (2) stays down: it would only meet the same again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from infra import wiring
from infra.embedded import health, rotation
from infra.embedded.broker import start_broker
from infra.embedded.clickhouse import sandbox_of, start_clickhouse
from infra.embedded.gateway import gateway_address, start_gateway
from infra.embedded.process import last_line, memory_bytes, start, stop
from infra.runtime_home import Component, RuntimeHome, State
from infra.schema.migrate import migrate
from infra.settings import Settings
from infra.settings.sections import revealed
from infra.topics import create_topics, driftline_topics, log_id
from ingest.core.errors import DriftlineError, Rejected, Unavailable, UsageError
from ingest.core.events import DEAD_LETTERS_TOPIC, DIRTY_TOPIC, EVENTS_TOPIC

KAFKA_PORT: Final = 0
CLICKHOUSE_PORT: Final = 1
GATEWAY_PORT: Final = 2
HEALTH_PORT: Final = 3
DOOR_HEALTH_PORT: Final = 4
BOARD_PORT: Final = 5
EVALUATOR_HEALTH_PORT: Final = 6
WORKER_HEALTH_PORT: Final = 10
"""Ports of the services, counted from the port base; workers follow the last, one port each."""

ATTEMPTS: Final = 6
"""So often in a row broker or ClickHouse may fail to come back: a quarter of a minute."""

HEALTHY_S: Final = 60.0
"""Who has run so long is forgiven its earlier deaths."""

_TICK_S: Final = 0.2
_WRITE_AGAIN_S: Final = 2.0
_STAYS_DOWN: Final = (Rejected.exit_code, UsageError.exit_code)


class _Stopped(BaseException):
    """Somebody asked the runtime to stop."""


@dataclass(slots=True)
class _Part:
    """A supervised process: how to start it, and how it has fared."""

    component: Component
    begin: Callable[[], subprocess.Popen[bytes]]
    essential: bool = True
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    since: float = 0.0
    retry_at: float = 0.0


class Supervisor:
    """One embedded runtime.

    Parameters
    ----------
    settings
        What to start and where; parts that the settings place elsewhere are not started.
    say
        Called with each line for the person who watches.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._tell = say
        self._home = RuntimeHome(settings.home)
        self._state = State(pid=os.getpid())
        self._parts: list[_Part] = []
        self._stopping = False
        self._look_at = 0.0  # at the broker's memory
        self._write_again_at: float | None = None  # when the state could not be written

    def run(self) -> None:
        """Start everything and stay until SIGTERM or SIGINT.

        Raises
        ------
        UsageError
            Something the caller can fix: the home or a port is in use.
        Unavailable
            A part did not come up, or broker or ClickHouse could not be brought back.
        """
        os.umask(0o077)
        lock = self._home.acquire()  # the kernel drops it when this process dies, however it does
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            self._start_all()
            while True:
                time.sleep(_TICK_S)
                for part in self._parts:
                    self._watch(part)
                self._renew_log_if_due()
                if self._write_again_at is not None and time.monotonic() > self._write_again_at:
                    self._publish()
        except _Stopped:
            self._say("stopping")
        finally:
            self._stopping = True  # a second signal must not interrupt the cleaning up
            self._stop_all()
            self._home.clear()
            os.close(lock)

    def _on_signal(self, number: int, frame: object) -> None:
        del number, frame
        if not self._stopping:
            self._stopping = True
            raise _Stopped

    def _say(self, line: str) -> None:
        with suppress(OSError):  # our own log may be on a full disk
            self._tell(line)

    def _start_all(self) -> None:
        self._add_broker()
        port = self._settings.health.port or self._settings.port_base + HEALTH_PORT
        health.serve(port, self._state)
        self._state.addresses["health"] = f"http://127.0.0.1:{port}"
        self._publish()
        self._add_clickhouse()
        self._prepare_tables()
        self._prepare_topics()
        self._book_ended_logs()
        for number in range(1, self._settings.processing.workers + 1):
            self._add_worker(number)
        self._add_gateway()
        if self._settings.receiver.enabled:
            self._add_beside("receiver", DOOR_HEALTH_PORT)
        if self._settings.evaluators.file is not None:
            self._add_beside("evaluator", EVALUATOR_HEALTH_PORT)
        if self._settings.board.enabled:
            self._add_board()
        self._state.ready = True
        self._publish()
        self._say("ready; look with `driftline status`, stop with Ctrl-C or `driftline down`")

    def _add_broker(self) -> None:
        external = self._settings.kafka.bootstrap_servers
        if external is not None:
            self._add_external("kafka", external)
            return
        port = self._settings.port_base + KAFKA_PORT
        log = self._home.logs / "broker.log"
        self._add(
            Component("kafka", "starting", address=f"127.0.0.1:{port}"),
            lambda: start_broker(port, log),
        )
        self._say(
            "  the broker keeps records in memory: it is for trying out, they go when it stops"
        )

    def _add_clickhouse(self) -> None:
        section = self._settings.clickhouse
        if section.url is not None:
            self._add_external("clickhouse", section.url)
            return
        port = self._settings.port_base + CLICKHOUSE_PORT
        log = self._home.logs / "clickhouse.log"
        secrets = self._home.credentials(
            revealed(section.password),
            revealed(section.reader_password),
        )
        address = f"http://127.0.0.1:{port}"
        component = Component("clickhouse", "starting", address=address, health=address)

        def begin() -> subprocess.Popen[bytes]:
            process = start_clickhouse(
                self._home.data,
                port,
                log,
                secrets.password,
                secrets.reader_password,
                section.memory_mb,
                section.other_hosts,
            )
            component.detail = f"sandbox: {sandbox_of(port)}"
            return process

        self._add(component, begin)

    def _add_worker(self, number: int) -> None:
        log = self._home.logs / f"worker-{number}.log"
        # The worker finds addresses and passwords through the home, not through its environment.
        home = {"DRIFTLINE_HOME": str(self._home.path)}
        if self._settings.board.enabled and self._settings.notify.board_url is None:
            home["DRIFTLINE_NOTIFY_BOARD_URL"] = self._board_address
        port = self._settings.port_base + WORKER_HEALTH_PORT + number - 1
        command = [sys.executable, "-m", "infra.cli", "worker", "--health-port", str(port)]
        self._add(
            Component(f"worker-{number}", "starting", health=f"http://127.0.0.1:{port}"),
            lambda: start(command, log, home),
            essential=False,
        )

    def _add_gateway(self) -> None:
        section = self._settings.gateway
        port = section.port or self._settings.port_base + GATEWAY_PORT
        address = gateway_address(section, port)
        log = self._home.logs / "gateway.log"
        # Its certificate may be of a name that we do not reach it by.
        health = None if section.tls_certfile else address
        self._add(
            Component("gateway", "starting", address=address, health=health),
            lambda: start_gateway(port, log, self._home.path),
            essential=False,
        )

    def _add_beside(self, role: str, health_port: int) -> None:
        """A command of driftline that serves nothing but its health."""
        log = self._home.logs / f"{role}.log"
        home = {"DRIFTLINE_HOME": str(self._home.path)}
        port = self._settings.port_base + health_port
        command = [sys.executable, "-m", "infra.cli", role, "--health-port", str(port)]
        self._add(
            Component(role, "starting", health=f"http://127.0.0.1:{port}"),
            lambda: start(command, log, home),
            essential=False,
        )

    @property
    def _board_address(self) -> str:
        return (
            f"http://127.0.0.1:{self._settings.board.port or self._settings.port_base + BOARD_PORT}"
        )

    def _add_board(self) -> None:
        address, log = self._board_address, self._home.logs / "board.log"
        port = address.rpartition(":")[2]
        home = {"DRIFTLINE_HOME": str(self._home.path)}
        command = [sys.executable, "-m", "infra.cli", "board", "--serve", "--port", port]
        self._add(
            Component("board", "starting", address=address),
            lambda: start(command, log, home),
            essential=False,
        )

    def _add_external(self, name: str, address: str) -> None:
        self._state.components.append(Component(name, "external", address=address))
        self._state.addresses[name] = address
        self._say(f"  {name:<11} {address} (as configured)")

    def _add(
        self,
        component: Component,
        begin: Callable[[], subprocess.Popen[bytes]],
        *,
        essential: bool = True,
    ) -> None:
        """Start a part for the first time; here a failure is for the caller to fix."""
        part = _Part(component, begin, essential)
        self._parts.append(part)
        self._state.components.append(component)
        self._begin(part)
        if component.address is not None:
            self._state.addresses[component.name] = component.address
        self._publish()
        self._say(f"  {component.name:<11} {component.address or f'pid {component.pid}'}")

    def _begin(self, part: _Part) -> None:
        part.component.detail = ""
        part.process = process = part.begin()
        part.since = time.monotonic()
        part.component.state, part.component.pid = "running", process.pid

    def _prepare_tables(self) -> None:
        config = wiring.clickhouse(self._settings)
        with wiring.client(config, database="default") as client:
            applied = migrate(client, config.database)
        if applied:
            self._say(f"  tables      {', '.join(applied)}")

    def _prepare_topics(self) -> None:
        brokers = wiring.kafka(self._settings)
        section = self._settings.kafka
        topics = driftline_topics(section.partitions, section.retention_hours)
        create_topics(brokers, topics, section.replication)
        self._state.log_id = log_id(brokers, EVENTS_TOPIC)
        self._publish()

    def _watch(self, part: _Part) -> None:
        """Notice a death, plan the return, and bring back what is due."""
        now = time.monotonic()
        if part.process is not None:
            code = part.process.poll()
            if code is None:
                return
            if now - part.since > HEALTHY_S:
                part.failures = 0
            self._has_died(part, code)
        elif part.component.state == "restarting" and now >= part.retry_at:
            self._bring_back(part)

    def _has_died(self, part: _Part, code: int) -> None:
        part.process, part.component.pid = None, None
        log = self._home.logs / f"{_log_name(part.component.name)}.log"
        reason = last_line(log) if code > 0 else f"signal {-code}" if code < 0 else "exit code 0"
        if not part.essential and code in _STAYS_DOWN:
            part.component.state, part.component.detail = "stopped", reason
            self._say(f"{part.component.name} stopped and stays down: {reason}")
        else:
            self._plan_return(part, reason or f"exit code {code}")
        self._publish()

    def _plan_return(self, part: _Part, reason: str) -> None:
        part.failures += 1
        if part.essential and part.failures > ATTEMPTS:
            raise Unavailable(
                f"{part.component.name} does not come back ({reason}); everything was stopped,"
                f" see {self._home.logs}"
            )
        pause = min(0.25 * (2 ** (part.failures - 1) - 1), 30.0)  # the first time at once
        part.retry_at = time.monotonic() + pause
        part.component.state, part.component.detail = "restarting", reason
        self._say(f"{part.component.name} died ({reason}); starting it again in {pause:g} s")

    def _bring_back(self, part: _Part) -> None:
        part.component.restarts += 1
        try:
            self._begin(part)
            if part.component.name == "kafka":
                self._start_new_log()
        except DriftlineError as error:
            self._plan_return(part, str(error))
        else:
            self._say(f"{part.component.name} is back")
        self._publish()

    def _start_new_log(self) -> None:
        """Make the topics of a new, empty log; workers read it under its own id."""
        others = [part for part in self._parts if not part.essential and part.process is not None]
        for part in others:
            part.component.state = "restarting"
        self._prepare_topics()
        for part in others:
            if part.process is not None:
                stop(part.process)
            self._begin(part)
        self._book_ended_logs()

    def _book_ended_logs(self) -> None:
        """Book what a worker stored of a log that ended before it could book it."""
        if self._settings.kafka.bootstrap_servers or self._settings.clickhouse.url:
            return  # logs of others may be in there, which go on
        from processors.clickhouse import Store
        from processors.write.ended_logs import book_ended_logs

        try:
            booked = book_ended_logs(Store(wiring.clickhouse(self._settings)), self._state.log_id)
        except DriftlineError as error:  # the next start does it
            self._say(f"  ledger      lines of a log that has ended are not booked yet: {error}")
            return
        if booked:
            self._say(f"  ledger      booked {booked} stored lines of a log that has ended")

    def _renew_log_if_due(self) -> None:
        """Begin a new log when the embedded broker's memory is above its bound."""
        broker, now = self._parts[0], time.monotonic()
        if broker.component.name != "kafka" or now < self._look_at:
            return
        self._look_at = now + rotation.LOOK_EVERY_S
        used = memory_bytes(broker.component.pid) or 0
        if used > self._settings.kafka.embedded_memory_mb << 20 and broker.process is not None:
            with self._home.alone_with_log() as alone:  # else a command still writes to it
                if alone:
                    self._renew_log(broker, used >> 20)
                    self._look_at = time.monotonic() + rotation.AGAIN_S

    def _renew_log(self, broker: _Part, used_mib: int) -> None:
        """Stop what produces, let consumers work off the rest, begin anew; or leave all as it was.

        What was paused is due again at the next tick.
        """
        self._say(f"the broker holds {used_mib} MiB: a new log begins once everything is booked")
        try:
            booked = self._work_off()
        except DriftlineError as error:
            self._say(str(error))
            booked = False
        if booked and broker.process is not None:
            stop(broker.process)
            try:
                self._begin(broker)
                self._prepare_topics()
            except DriftlineError as error:
                broker.process = None
                self._plan_return(broker, str(error))
            else:
                self._say("a new log has begun")
        else:
            self._say(f"not everything was booked within {rotation.WORK_OFF_S:g} s: the log stays")
        self._publish()

    def _work_off(self) -> bool:
        """Pause gateway, receiver and workers in this order, each when its input is booked."""
        log = rotation.Log(wiring.kafka(self._settings))
        deadline = time.monotonic() + rotation.WORK_OFF_S
        receiver = self._settings.receiver
        of_receiver = (receiver.spans_topic, receiver.logs_topic)
        of_workers = (EVENTS_TOPIC, DIRTY_TOPIC, DEAD_LETTERS_TOPIC)
        for name, topics in (
            ("gateway", of_receiver),
            ("receiver", of_workers),
            ("evaluator", of_workers),
            ("worker", of_workers),
        ):
            for part in self._parts:
                if part.component.name.startswith(name) and part.process is not None:
                    part.component.state, part.component.detail = "restarting", "for a new log"
                    stop(part.process)
                    part.process, part.component.pid, part.retry_at = None, None, 0.0
            self._publish()
            if not log.is_booked_by(deadline, topics):
                return False
        return True

    def _stop_all(self) -> None:
        """Workers first, so that they can leave their group, then what they use."""
        running = [part.process for part in reversed(self._parts) if part.process is not None]
        for part in self._parts:
            if not part.essential and part.process is not None:
                part.process.terminate()
        for process in running:
            stop(process)

    def _publish(self) -> None:
        try:
            self._home.write(self._state)
        except UsageError as error:
            if self._write_again_at is None:
                self._say(f"cannot write the state, going on without: {error}")
            self._write_again_at = time.monotonic() + _WRITE_AGAIN_S
        else:
            self._write_again_at = None


def _log_name(component: str) -> str:
    return "broker" if component == "kafka" else component
