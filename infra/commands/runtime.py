"""up, down, status, worker, migrate: running driftline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.console import Json, emit, emit_json, print_table
from ingest.core.errors import DriftlineError, Unavailable, UsageError

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of data, logs and state [default: ./.driftline]."),
]
_START_S = 90.0
_STOP_S = 45.0


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(worker)
    app.command(name="migrate")(migrate_command)


def up(
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when everything is ready.")
    ] = False,
    port_base: Annotated[
        int | None, typer.Option("--port-base", metavar="N", help="First port [default: 17200].")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Start broker, ClickHouse engine, tables, topics and workers, and watch over them.

    Parts that the settings place elsewhere are not started. Data stays in the home folder.

    Examples: driftline up
              driftline up --detach --port-base 20000 --home /tmp/try
    """
    from infra.settings import load

    given = {"port_base": port_base, "home": home}
    settings = load(given)
    if detach:
        up_in_background(settings)
        return
    from infra.embedded.supervisor import Supervisor

    emit(f"driftline starts in {settings.home.absolute()}")
    Supervisor(settings, _emit_now).run()
    emit("stopped")


def down(home: HomeOption = None) -> None:
    """Stop what `driftline up` started. Stored data stays.

    Example: driftline down
    """
    running_home = _home(home)
    state = running_home.running()
    if state is None:
        emit(f"nothing runs in {running_home.path}")
        return
    _signal(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while running_home.is_claimed():
        if time.monotonic() > deadline:
            _signal(state.pid, signal.SIGKILL)  # its children die with it
            deadline = time.monotonic() + _STOP_S
        time.sleep(0.05)
    emit(f"stopped; the data stays in {running_home.path}")


def status(home: HomeOption = None, as_json: Json = False) -> None:
    """Show what runs and where; exit code 1 when nothing does or something is down.

    Examples: driftline status
              driftline status --json | jq -r .addresses.clickhouse
    """
    running_home = _home(home)
    state = running_home.running()
    if state is None:
        if as_json:
            emit_json({"running": False, "ready": False, "home": str(running_home.path)})
        else:
            emit(f"nothing runs in {running_home.path}; start it with `driftline up`")
        raise typer.Exit(1)
    from infra.embedded.health import told_by
    from infra.embedded.process import memory_bytes

    reasons, stations = told_by(state.addresses.get("health", ""))
    memory = {part.name: memory_bytes(part.pid) for part in state.components}
    if as_json:
        emit_json(
            {
                "running": True,
                "ready": state.ready,
                "healthy": state.healthy,
                "home": str(running_home.path),
                "credentials": str(running_home.path / "credentials.json"),
                "reasons": reasons,
                "stations": stations,
                "memory_bytes": memory,
                **asdict(state),
            }
        )
    else:
        print_table(
            ("component", "state", "address", "pid", "memory", "restarts", "detail"),
            [
                (
                    *(part.name, part.state, part.address, part.pid),
                    *(_mib(memory[part.name]), part.restarts, part.detail),
                )
                for part in state.components
            ],
        )
        if stations:
            names = ("station", "lag_s", "stalled_s", "streams", "error")
            print_table(names, [tuple(station[name] for name in names) for station in stations])
        for reason in reasons:
            emit(f"not ready: {reason}")
        emit(f"home {running_home.path}" + ("" if state.ready else ", still starting"))
    if not state.healthy:
        raise typer.Exit(1)


HealthPort = Annotated[
    int | None,
    typer.Option(
        "--health-port",
        metavar="PORT",
        help="Serve /healthz, /readyz and /metrics on this port, at health.host.",
        min=1024,
        max=65535,
    ),
]


def worker(health_port: HealthPort = None) -> None:
    """Run one worker: read events, store them, compute windows, detect.

    `driftline up` runs workers by itself; run more of them beside it, or on other machines with
    DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS and DRIFTLINE_CLICKHOUSE_URL set.

    Examples: driftline worker
              driftline worker --health-port 9300
    """
    from infra import logs
    from infra.settings import load
    from infra.wiring import worker_config

    settings = load()
    logs.configure("worker", settings.log.format, settings.log.level)
    config = worker_config(settings, health_port)
    from processors.app import run_worker

    run_worker(config)


def migrate_command(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the SQL and what it costs; change nothing.")
    ] = False,
) -> None:
    """Create or update the tables and create missing topics. Safe to repeat.

    `driftline up` does this by itself; run it once before workers that use an existing Kafka and
    ClickHouse. A database that a newer version has made is refused.

    Examples: driftline migrate
              driftline migrate --dry-run
    """
    from infra import wiring
    from infra.schema import migrate
    from infra.settings import load
    from infra.topics import create_topics, driftline_topics

    settings = load()
    config, cluster = wiring.clickhouse(settings), wiring.cluster(settings)
    with wiring.client(config, database="default") as client:
        if dry_run:
            for step in migrate.dry_run(client, config.database, cluster):
                emit(f"-- {step.migration}: {step.cost}\n{step.sql.strip()};\n")
            return
        applied = migrate.migrate(client, config.database, cluster=cluster)
    kafka = settings.kafka
    created = create_topics(
        wiring.kafka(settings),
        driftline_topics(kafka.partitions, kafka.retention_hours),
        kafka.replication,
    )
    emit("applied: " + (", ".join(applied) or "nothing new"))
    emit("created: " + (", ".join(created) or "nothing new"))


def up_in_background(settings: Any, variables: Mapping[str, str] | None = None) -> None:
    """Start `driftline up` as a process of its own and return when it is ready.

    Parameters
    ----------
    settings
        Where it runs.
    variables
        Of its environment, on top of those of this process.

    Raises
    ------
    Unavailable
        It was not ready in time.
    """
    from infra.runtime_home import RuntimeHome

    home = RuntimeHome(settings.home)
    os.close(home.acquire())  # says at once when something already runs there
    log = home.logs / "supervisor.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "infra.cli", "up", "--home", str(home.path)]
    log.touch(mode=0o600)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port-base", str(settings.port_base)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(variables or {})},
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_S
    while True:
        state = home.running()
        if state is not None and state.pid == process.pid and state.ready:
            break
        if process.poll() is not None:
            raise _failure_of(process.returncode, log)
        if time.monotonic() > deadline:
            process.terminate()
            raise Unavailable(f"driftline was not ready within {_START_S:g} s; see {log}")
        time.sleep(0.05)
    for part in state.components:
        emit(f"{part.name:<11} {part.address or part.state}")
    emit(f"ready in {home.path}; stop it with `driftline down`")
    if home.path != _home(None).path:
        emit(f"other commands find it with DRIFTLINE_HOME={home.path}")


def _failure_of(exit_code: int, log: Path) -> DriftlineError:
    from infra.embedded.process import last_line

    kind = UsageError if exit_code == UsageError.exit_code else Unavailable
    return kind(last_line(log) or f"driftline up ended with exit code {exit_code}; see {log}")


def _mib(memory: int | None) -> str | None:
    return None if memory is None else f"{memory >> 20} MiB"


def _home(home: Path | None) -> Any:
    from infra.runtime_home import RuntimeHome
    from infra.settings import load

    return RuntimeHome(load({"home": home}).home)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise UsageError(f"process {pid} belongs to another user; stop it as that user") from None


def _emit_now(line: str) -> None:
    emit(line)
    sys.stdout.flush()
