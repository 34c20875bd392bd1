"""How the demo ends: the finding, its cluster, the page at a webhook, and the exported cases."""

import asyncio
import json
import urllib.error
import urllib.request

import pytest

from infra import demo
from infra.demo import Sent, follow, webhook
from ingest.core.errors import Unavailable
from processors.notify.incidents import Pace
from processors.notify.service import Notifier, NotifyConfig
from tests.support import results
from tests.support.board_data import FAILED, FINDING, fill
from tests.support.findings import store_of

CLUSTER = "c0ffee"


@pytest.fixture
def incident(clickhouse):
    """A store with an incident of `support` and its cluster, and what was sent."""
    store = store_of(clickhouse)
    now = fill(store)
    cell = results.floor(now, 10)
    with clickhouse.client() as owner:
        results.insert(
            owner,
            "clusters",
            [{"environment": "production", "agent": "support", "cluster": CLUSTER, "version": 1,
              "name": "search_articles 503", "status": "new", "size": 1, "first_seen": cell,
              "last_seen": now, "examples": [FAILED], "opportunities": 60}],
        )  # fmt: skip
        results.insert(
            owner,
            "cluster_members",
            [{"environment": "production", "agent": "support", "cell": cell, "version": 1,
              "interaction_id": FAILED, "cluster": CLUSTER}],
        )  # fmt: skip
    start = int((now.timestamp() - 3600) * 1e9)
    truth = {"incidents": [{"agent": "support", "start_unix_nano": start}]}
    return store, Sent(1, 1.0, truth)


def test_it_ends_with_a_page_and_cases(incident, tmp_path):
    store, sent = incident

    async def notify(hook):
        config = NotifyConfig(
            webhook_url=hook.url, webhook_secret=hook.secret, pace=Pace(0, 0),
        )  # fmt: skip
        notifier = Notifier(store, config)
        while not hook.got:
            await notifier.look()
            await asyncio.sleep(0.1)
        await notifier.on_stop()

    with webhook() as hook:
        asyncio.run(asyncio.wait_for(notify(hook), 180))
        found = follow(store, sent, hook, tmp_path / "cases.jsonl", 120)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(hook.url, b"{}", timeout=10)
        assert len(hook.got) == 1
    assert found.finding["finding_id"] == FINDING
    assert found.page["findings"][0]["finding_id"] == FINDING
    assert found.cluster == {"cluster": CLUSTER, "name": "search_articles 503", "size": 1}
    (case,) = map(json.loads, (tmp_path / "cases.jsonl").read_text().splitlines())
    assert found.cases == 1
    assert case["provenance"]["interactions"] == [FAILED]


def test_without_a_page_it_has_failed(incident, tmp_path, monkeypatch):
    store, sent = incident
    monkeypatch.setattr(demo.time, "sleep", lambda _: None)
    with webhook() as hook, pytest.raises(Unavailable, match="nobody was paged"):
        follow(store, sent, hook, tmp_path / "cases.jsonl", 0.5)
