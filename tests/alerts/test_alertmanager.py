"""A real Alertmanager between driftline and a webhook; `make test-alerts`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.common import eventually, free_port
from tests.support.findings import finding_row, insert_findings, recovered, store_of
from tests.support.receivers import alertmanager, webhook

pytestmark = pytest.mark.alerts


@contextmanager
def notifier(clickhouse, url, **settings):
    """The notifying process; it looks every two seconds and beats every 20."""
    given = {
        "CLICKHOUSE_URL": clickhouse.url,
        "CLICKHOUSE_USER": "driftline",
        "CLICKHOUSE_PASSWORD": clickhouse.password,
        "CLICKHOUSE_DATABASE": clickhouse.database,
        "NOTIFY_ALERTMANAGER_URL": url,
        "NOTIFY_HEARTBEAT_S": "20",
        **settings,
    }
    environment = {**os.environ, **{f"DRIFTLINE_{name}": value for name, value in given.items()}}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.alerts.notifier"],
        stdout=subprocess.PIPE, env=environment, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "started\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def world(clickhouse, tmp_path):
    with webhook() as hook, alertmanager(tmp_path, free_port(), hook.url) as url:
        yield hook, url, store_of(clickhouse)


def fleet(now):
    return [finding_row(f"s{i:02}", now, agent=f"agent-{i:02}") for i in range(40)]


def test_forty_streams_are_one_notification_resolved_and_never_repeated(world, clickhouse):
    hook, url, store = world
    with notifier(clickhouse, url) as first:
        time_found, rows = time.time(), fleet(datetime.now(UTC))
        insert_findings(store, *rows)
        eventually(lambda: hook.got, 15)
        assert hook.got[0].at - time_found < 15
        (group,) = [r.json for r in hook.got]
        assert group["status"] == "firing"
        assert len(group["alerts"]) == 40
        assert group["commonLabels"]["incident"] == "s00"
        began = {alert["annotations"]["began"] for alert in group["alerts"]}
        assert began == {rows[0]["began"].isoformat(timespec="milliseconds").replace("+00:00", "Z")}
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    with notifier(clickhouse, url):
        # It outlives what Alertmanager was told of its end, so it was told again ...
        alive = time.monotonic() + 66
        eventually(lambda: time.monotonic() > alive, 70, 1.0)
        assert len(alerts(url)) == 40
        assert len(hook.got) == 1  # ... and nobody was notified again
        insert_findings(store, *(recovered(row) for row in rows))
        eventually(lambda: len(hook.got) == 2, 20)
        end = hook.got[1].json
        assert end["status"] == "resolved"
        assert {a["status"] for a in end["alerts"]} == {"resolved"}
        assert len(end["alerts"]) == 40
        eventually(lambda: len(sent(store)) == 2, 10)
    assert sent(store) == ["firing", "resolved"]


def test_a_silence_in_alertmanager_and_one_of_driftline_are_honoured(world, clickhouse):
    from processors.notify.outbox import Outbox, Silence

    hook, url, store = world
    now = datetime.now(UTC)
    matchers = [{"name": "agent", "value": "agent-theirs", "isRegex": False, "isEqual": True}]
    post(
        f"{url}/api/v2/silences",
        {
            "matchers": matchers, "comment": "test", "createdBy": "test",
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
        },
    )  # fmt: skip
    Outbox(store).silence(Silence("s", {"agent": "agent-ours"}, now, now + timedelta(hours=1)), now)
    with notifier(clickhouse, url):
        insert_findings(
            store,
            *(finding_row(n, datetime.now(UTC), environment=n) for n in ("theirs", "ours", "loud")),
        )
        eventually(lambda: hook.got, 15)
        eventually(
            lambda: {a["labels"]["agent"] for a in alerts(url)} == {"agent-theirs", "agent-loud"},
            10,
        )
        loud = hook.got[0].json
        assert [a["labels"]["agent"] for a in loud["alerts"]] == ["agent-loud"]
        # A second incident that is not silenced comes through; the silenced ones still do not.
        insert_findings(store, finding_row("more", datetime.now(UTC), environment="more"))
        eventually(lambda: len(hook.got) == 2, 15)
    assert {a["labels"]["agent"] for r in hook.got for a in r.json["alerts"]} == {
        "agent-loud",
        "agent-more",
    }


def test_an_alertmanager_that_is_away_is_told_when_it_is_back(clickhouse, tmp_path):
    store, port = store_of(clickhouse), free_port()
    with webhook() as hook, notifier(clickhouse, f"http://127.0.0.1:{port}"):
        insert_findings(store, finding_row("a", datetime.now(UTC)))
        eventually(
            lambda: store.query("SELECT max(attempts) AS n FROM notifications")["n"][0] >= 2, 20
        )
        with alertmanager(tmp_path, port, hook.url):
            eventually(lambda: hook.got, 30)
            assert hook.got[0].json["alerts"][0]["labels"]["finding_id"] == "a"


def test_an_alert_whose_labels_change_ends_under_its_former_ones(world, clickhouse):
    _, url, store = world
    row = finding_row("a", datetime.now(UTC), tool="search")

    def tools():
        return [alert["labels"].get("tool") for alert in alerts(url)]

    with notifier(clickhouse, url):
        insert_findings(store, row)
        eventually(lambda: tools() == ["search"], 15)
        insert_findings(store, {**row, "version": 2, "tool": "refund"})
        eventually(lambda: "refund" in tools(), 45)
        assert tools() == ["refund"]  # the other ended in the same request, not a minute later


def sent(store):
    return store.query(
        "SELECT event FROM notifications FINAL WHERE incident != '' AND state = 'sent' ORDER BY seq"
    )["event"].to_list()


def alerts(url):
    with urllib.request.urlopen(f"{url}/api/v2/alerts?active=true", timeout=5) as answer:
        return json.load(answer)


def post(url, body):
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=5).close()
