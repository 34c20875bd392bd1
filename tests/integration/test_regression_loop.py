"""The loop: a failure of production becomes cases, a fix, and a page when it comes back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
from typer.testing import CliRunner

from infra.cli import app
from processors.derive.result_store import ResultStore
from processors.notify.incidents import Pace, Rules
from processors.notify.service import Notifier, NotifyConfig
from processors.stations.clusters import Clusters, ClustersConfig
from processors.stations.detection import Detection, DetectionConfig
from processors.stations.incidents import Incidents
from processors.stations.runner import Stations
from processors.stations.storage import ClickHouseStations
from tests.integration.test_stations import LOG, insert, seal
from tests.support.receivers import webhook
from tests.support.stations import T0, failed, results, run

HOUR = 3600
REQUESTS = ("refund order {}", "where is order {}", "change the address of order {}")
AGENT = '''
def agent(version, messages):
    """A stub: it cannot refund when an order is old, except in its second version."""
    request = messages[-1]["content"]
    if "refund" in request and version != "v2":
        raise RuntimeError("amount exceeds the payment of order <id>")
    return "done: " + request
'''
CONFTEST = """
import os
import pytest
from stub import agent as stub

@pytest.fixture
def agent():
    return lambda messages: stub(os.environ["VERSION"], messages)

@pytest.fixture
def judge():
    return lambda case, answer: answer.startswith("done")
"""


def traffic(agent, version, hours):
    """What the stub makes of an hour's requests: an interaction a cell."""
    rng = np.random.default_rng(hours[0])
    rows = []
    for cell in range(hours[0] * HOUR, hours[1] * HOUR, 10):
        request = REQUESTS[rng.integers(3)].format(rng.integers(9))
        values = {"agent_version": version, "request": request, "interaction_id": f"i{cell}",
                  "session_id": f"s{cell}"}  # fmt: skip
        try:
            agent(version, [{"content": request}])
        except RuntimeError as error:
            values |= failed("tool_failed", "refund", str(error)) | {"tools": ["refund"]}
        rows.append((T0 + cell, values))
    return results(rows)


def test_incident_cluster_cases_fix_and_regression(store, clickhouse, monkeypatch, tmp_path):
    names: dict = {}
    exec(AGENT, names)
    agent = names["agent"]
    for name in ("url", "user", "password", "database"):
        monkeypatch.setenv(f"DRIFTLINE_CLICKHOUSE_{name.upper()}", getattr(clickhouse, name))
    monkeypatch.chdir(tmp_path)
    real = ClickHouseStations(store, LOG, ResultStore(store))
    made = [
        Detection(DetectionConfig(warm_up=600)), Clusters(ClustersConfig(warm_up=300)), Incidents()
    ]  # fmt: skip
    stations = Stations(real, made, save_every_s=0)

    def ask(*arguments, code=0):
        done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    def live(version, hours):
        insert(store, traffic(agent, version, hours))
        seal(store, hours[1] * HOUR)
        run(store, stations)

    def cases_of(version, code):
        """Run the exported cases over a version of the stub and read the results back."""
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=out.xml"],
            cwd=tmp_path / "cases", env={"VERSION": version, "PATH": ""}, capture_output=True,
            text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return ask(
            "regressions", "check", "cases/out.xml", "--agent-version", version, code=code
        )  # fmt: skip

    # 1. Version 1 fails in one way: a cluster, and cases of it.
    live("v1", (0, 1))
    (cluster,) = ask("clusters", "list", "--agent", "shop")
    assert (cluster["tool"], cluster["status"]) == ("refund", "new")
    exported = CliRunner().invoke(
        app, ["regressions", "export", "--agent", "shop", "--cluster", cluster["cluster"],
              "--format", "pytest", "-o", "cases"],
    )  # fmt: skip
    assert exported.exit_code == 0, exported.output
    (tmp_path / "cases" / "stub.py").write_text(AGENT)
    (tmp_path / "cases" / "conftest.py").write_text(CONFTEST)
    lines = (tmp_path / "cases" / "cases.jsonl").read_text().splitlines()
    assert len(lines) == 9  # as many orders, each once
    assert {row["status"] for row in cases_of("v1", code=1)} == {"open"}

    # 2. Version 2 fixes it: the cases pass, and by its absence the cluster is resolved.
    assert {row["status"] for row in cases_of("v2", code=0)} == {"fixed"}
    live("v2", (1, 3))
    assert ask("clusters", "show", cluster["cluster"])["status"] == "resolved"
    listed = ask("regressions", "list", "--agent", "shop")
    assert {row["status"] for row in listed} == {"fixed"}
    assert not [f for f in ask("findings", "list") if f["severity"] == "page"]

    # 3. Version 3 breaks it again: the same cluster, the cases fail, and somebody is paged.
    live("v3", (3, 4))
    again = ask("clusters", "show", cluster["cluster"])
    assert (again["status"], again["episode"], again["versions"]) == (
        "regressed", 1, ["v1", "v3"],
    )  # fmt: skip
    assert {row["status"] for row in cases_of("v3", code=1)} == {"regressed"}
    (found,) = [f for f in ask("findings", "list") if f["severity"] == "page"]
    assert (found["status"], found["cluster"], found["agent_version"]) == (
        "regressed", cluster["cluster"], "v3",
    )  # fmt: skip

    async def notify(hook):
        config = NotifyConfig(
            webhook_url=hook.url, webhook_secret="secret", pace=Pace(0, 0),
            rules=Rules(max_age=timedelta(days=10_000)),
        )  # fmt: skip
        notifier = Notifier(store, config, now=lambda: datetime.now(UTC))
        try:
            for _ in range(200):
                await notifier.look()
                if hook.got:
                    return
                await asyncio.sleep(0.05)
        finally:
            await notifier.on_stop()

    with webhook() as hook:
        asyncio.run(notify(hook))
        (page,) = [r.json for r in hook.got]
    assert page["event"] == "firing"
    assert "amount exceeds the payment" in page["title"]
    assert "version v3" in page["title"]
    (told,) = [f for f in page["findings"] if f["finding_id"] == found["finding_id"]]
    assert (told["cluster"], told["agent_version"]) == (cluster["cluster"], "v3")


def test_of_more_failures_than_are_read_the_newest_are(store, clickhouse, monkeypatch):
    for name in ("url", "user", "password", "database"):
        monkeypatch.setenv(f"DRIFTLINE_CLICKHOUSE_{name.upper()}", getattr(clickhouse, name))
    requests = ["a refund"] * 3 + ["an address", "a refund"]
    rows = [
        (T0 + 60 * n, {"request": r, "session_id": f"s{n}"} | failed())
        for n, r in enumerate(requests)
    ]
    insert(store, results(rows))

    def listed(*options):
        done = CliRunner().invoke(
            app, ["regressions", "list", "--agent", "shop", *options, "--json"],
            catch_exceptions=False,
        )  # fmt: skip
        return {r["messages"][-1]["content"]: r["last_seen"] for r in json.loads(done.stdout)}, done

    every, done = listed()
    assert "not read" not in done.stderr
    newest, done = listed("--limit", "2")
    assert newest == every
    assert "3 older failures were not read" in done.stderr
    assert listed("--limit", "5")[1].stderr == ""
