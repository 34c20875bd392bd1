"""The probes over HTTP, and the documentation of the metrics."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ingest.core import telemetry
from ingest.core.errors import UsageError
from ingest.core.health.probes import Probes, serve
from ingest.core.health.verdict import Limits, PartitionHealth, Snapshot, Verdict, judge
from ingest.gateway import metrics
from tests.support.common import REPOSITORY

NOW = {"stalled_s": 0.0}


def verdict() -> Verdict:
    standing = PartitionHealth("driftline.events", 2, lag=5, stalled_s=NOW["stalled_s"])
    return judge(Snapshot(1.0, True, [standing]), 1.0, Limits(10, 60))


@pytest.fixture(scope="module")
def probes() -> Iterator[Probes]:
    server = serve(0, "worker", verdict)
    yield server
    server.close()


def get(probes: Probes, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{probes.port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_another_name_is_refused(probes: Probes) -> None:
    """A web page whose name points to loopback reads nothing."""
    url = f"http://127.0.0.1:{probes.port}/metrics"
    named = urllib.request.Request(url, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(named, timeout=60)


@pytest.mark.parametrize(
    ("stalled_s", "ready", "healthy"), [(9, 200, 200), (11, 503, 200), (61, 503, 503)]
)
def test_answers_follow_the_verdict(
    probes: Probes, stalled_s: float, ready: int, healthy: int
) -> None:
    NOW["stalled_s"] = stalled_s
    assert get(probes, "/healthz")[0] == healthy
    status, body = get(probes, "/readyz?verbose")
    assert status == ready
    told = json.loads(body)
    assert told["component"] == "worker"
    assert [reason["partition"] for reason in told["reasons"]] == ([2] if ready == 503 else [])
    families = text_string_to_metric_families(get(probes, "/metrics")[1])
    values = {s.name: s.value for family in families for s in family.samples}
    assert values["driftline_ready"] == (ready == 200)
    assert values["driftline_healthy"] == (healthy == 200)


def test_another_path_is_not_there_and_a_silent_client_harms_nobody(probes: Probes) -> None:
    assert get(probes, "/")[0] == 404
    with socket.create_connection(("127.0.0.1", probes.port)) as silent:
        silent.sendall(b"GET /hea")
        assert get(probes, "/metrics")[0] == 200


def test_a_port_in_use_is_named(probes: Probes) -> None:
    with pytest.raises(UsageError, match=rf"port {probes.port}.*DRIFTLINE_HEALTH_PORT"):
        serve(probes.port, "worker", verdict)


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    text = (REPOSITORY / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(driftline_\w+)` \| (\w+) \|(.*?)\|", text, re.MULTILINE)
    documented = {name: (kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels in rows}
    declared = {}
    for metric in (*vars(telemetry).values(), *vars(metrics).values()):
        if hasattr(metric, "_labelnames"):
            suffix = "_total" if metric._type == "counter" else ""
            declared[metric._name + suffix] = (metric._type, list(metric._labelnames))
    assert documented == declared
