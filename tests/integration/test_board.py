"""The board's HTTP on a real engine: what it shows, and whom it refuses."""

import asyncio
import http.client
import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import pytest
from aiohttp import web

from dashboards.lookup import Lookup
from dashboards.macros import Unsupported, expand
from dashboards.web import boards
from dashboards.web.server import build
from tests.support import grafana_macros
from tests.support.board_data import FAILED, FINDING, HOSTILE, SESSION, fill
from tests.support.findings import store_of

TOKEN = "token-of-the-test"


@contextmanager
def board(lookup, token=TOKEN):
    """Serve the board in a thread; yields its port."""
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), []

    async def start():
        runner = web.AppRunner(build(lookup, token), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.append(site._server.sockets[0].getsockname()[1])
        ready.set()
        return runner

    def run():
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield port[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def ask(port, path, method="GET", token=TOKEN, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    sent = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request(method, path, headers={**sent, **headers})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def get(port, path, **options):
    answer, body = ask(port, path, **options)
    assert answer.status == 200, body
    return json.loads(body)


@pytest.fixture
def served(clickhouse):
    store = store_of(clickhouse)
    fill(store)
    with board(Lookup(store_of(clickhouse, "reader"))) as port:
        yield port


def test_every_panel_of_every_dashboard_answers(served):
    listed = get(served, "/api/boards")
    assert listed[0]["uid"] == "driftline-overview"
    rows, total = {}, 0
    for uid in (b["uid"] for b in listed):
        for panel in get(served, f"/api/board/{uid}")["panels"]:
            if "targets" in panel:
                total += 1
                rows[uid, panel["title"]] = get(
                    served, f"/api/board/{uid}/panel/{panel['id']}?from=6h"
                )
    assert total >= 40
    (success,) = rows["driftline-overview", "Success by agent and version"]
    names = [c["name"] for c in success["columns"]]
    agents = success["values"][names.index("agent")]
    assert {"support", "booking", HOSTILE} == set(agents)
    rate = "success" if "success" in names else "success_rate"
    failing = success["values"][names.index(rate)][
        success["values"][names.index("agent_version")].index("v15")
    ]
    assert failing < 0.9


def test_variables_choose_and_hostile_values_change_no_query(served):
    def agents(*values):
        query = urlencode([("from", "6h"), *(("var-agent", v) for v in values)])
        (found,) = get(served, f"/api/board/driftline-overview/panel/10?{query}")
        names = [c["name"] for c in found["columns"]]
        return set(found["values"][names.index("agent")])

    assert agents("support") == {"support"}
    assert agents("support", HOSTILE) == {"support", HOSTILE}
    for hostile in (
        "') OR 1=1 --",
        "\\",
        "\\' OR 1=1 --",
        "$__timeFilter(x)",
        "${agent:singlequote}",
    ):
        assert agents(hostile) == set()
    options = get(served, "/api/board/driftline-overview/options?from=6h")
    assert set(options["agent"]) == {"support", "booking", HOSTILE}
    assert options["environment"] == ["production"]


def test_an_interaction_has_its_calls_and_what_was_said_of_it(served):
    found = get(served, f"/api/interaction/{FAILED}")
    assert [e["kind"] for e in found["events"]] == [
        "interaction", "user_message", "llm_call", "tool_call", "agent_message",
    ]  # fmt: skip
    assert found["events_total"] == 5
    tool = next(e for e in found["events"] if e["kind"] == "tool_call")
    assert tool["status"] == "error"
    assert json.loads(tool["tool_arguments"])["query"] == HOSTILE
    assert found["interactions"][0]["failure_tool"] == "search_articles"
    assert found["evaluations"][0]["value"] == 0.0
    assert ask(served, "/api/interaction/none")[0].status == 404


def test_a_session_is_its_interactions_in_order(served):
    found = get(served, f"/api/session/{SESSION}")
    assert [one["interaction_id"] for one in found["interactions"]] == [FAILED]
    longer = get(served, "/api/session/s-0-0")["interactions"]
    starts = [one["start"] for one in longer]
    assert len(longer) == 2
    assert starts == sorted(starts)


def test_an_incident_has_cause_failures_and_course(served):
    found = get(served, f"/api/incident/{FINDING}")
    assert found["evidence"][0]["tool"] == "search_articles"
    assert found["failures"][0]["interaction_id"] == FAILED
    assert all(row["success"] == 0 for row in found["failures"])
    began = datetime.fromisoformat(found["began"])
    before = [
        t
        for t in found["timeline"]
        if datetime.fromisoformat(t["time"]) < began - timedelta(minutes=5)
    ]
    since = [t for t in found["timeline"] if datetime.fromisoformat(t["time"]) > began]
    assert sum(t["failed"] for t in before) == 0 < sum(t["failed"] for t in since)
    listed = get(served, "/api/incidents")
    assert [f["finding_id"] for f in listed] == [FINDING, "hostile"]


def test_conversations_are_searched(served):
    def ids(**query):
        return [r["interaction_id"] for r in get(served, f"/api/interactions?{urlencode(query)}")]

    assert ids(search=FAILED) == [FAILED]
    assert ids(search="NO <img") == [FAILED]
    failed = ids(outcome="0", agent="support", agent_version="v15", **{"from": "6h"})
    assert FAILED in failed
    assert len(failed) > 5
    assert ids(outcome="0", agent="booking") == []
    assert len(ids(agent=HOSTILE, **{"from": "6h"})) == 60
    assert ids(search="' OR 1=1 --") == []
    assert ask(served, "/api/interactions?from=soon")[0].status == 400


def test_what_later_versions_bring_is_said_to_be_missing(served):
    assert get(served, "/api/clusters") in ({"clusters": None}, {"clusters": []})
    assert get(served, "/api/senders") in ({"senders": None}, {"senders": []})
    assert ask(served, "/api/cluster/x")[0].status == 404


@pytest.mark.parametrize(
    ("path", "headers", "token", "status"),
    [
        ("/api/boards", {}, None, 401),
        ("/api/boards", {}, TOKEN + "x", 401),
        ("/api/boards", {}, "", 401),
        ("/api/boards", {"Host": "evil.example"}, TOKEN, 421),
        ("/api/boards", {"Host": "127.0.0.1.evil.example:1"}, TOKEN, 421),
        ("/", {"Host": "evil.example"}, TOKEN, 421),
        ("/api/boards", {"Origin": "http://evil.example"}, TOKEN, 403),
        ("/api/boards", {"Origin": "null"}, TOKEN, 403),
        ("/api/boards", {"Sec-Fetch-Site": "cross-site"}, TOKEN, 403),
        ("/api/boards", {"Sec-Fetch-Site": "same-site"}, TOKEN, 403),
        ("/static/../server.py", {}, TOKEN, 404),
        ("/static/..%2fserver.py", {}, TOKEN, 404),
        ("/static/uPlot.LICENSE", {}, TOKEN, 404),
        ("/api/nothing", {}, TOKEN, 404),
        ("/api/board/none", {}, TOKEN, 404),
        ("/api/board/driftline-overview/panel/999", {}, TOKEN, 404),
        ("/api/board/driftline-overview/panel/x", {}, TOKEN, 400),
        ("/api/board/driftline-overview/panel/1?from=1e400", {}, TOKEN, 400),
        ("/api/board/driftline-overview/panel/1?to=99999999999999999999", {}, TOKEN, 400),
    ],
)  # fmt: skip
def test_who_is_refused(clickhouse, path, headers, token, status):
    with board(Lookup(store_of(clickhouse, "reader"))) as port:
        answer, body = ask(port, path, token=token, **headers)
    assert answer.status == status
    assert set(json.loads(body)) == {"error"}
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_only_get_is_answered_and_nothing_can_be_written(clickhouse):
    store = store_of(clickhouse)
    with board(Lookup(store)) as port:  # even with the owner's login
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            assert ask(port, "/api/boards", method)[0].status == 405
        page, body = ask(port, "/anything/at/all", token=None)
        assert page.status == 200
        assert b"<script" in body
    from clickhouse_connect.driver.exceptions import ClickHouseError

    with pytest.raises(ClickHouseError, match="READONLY"):
        Lookup(store).ask("CREATE TABLE made (a UInt8) ENGINE = Memory")


def test_macros_are_those_of_the_plugin():
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    for board_json in boards.dashboards().values():
        kinds = {v["name"]: v["type"] for v in board_json["templating"]["list"]}
        if "textbox" in kinds.values():
            continue  # the plugin's twin in tests has no text
        given = {name: ["o'brien & x"] if name == "agent" else None for name in kinds}
        for panel in board_json["panels"]:
            for target in panel.get("targets", []):
                if "$'" in target["rawSql"]:
                    continue  # nor regular expressions that end in a dollar sign
                front = grafana_macros.front_end(target["rawSql"], given)
                theirs = grafana_macros.back_end(front, start, end)
                ours = expand(target["rawSql"], given, start, end, 60)
                assert ours.replace(", 'UTC')", ")") == theirs.replace(", 'UTC')", ")")


def test_values_cannot_leave_their_quotes():
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    given = {"agent": ["o'brien\\ x", "b"], "text": ["' OR 1=1 --\\"]}

    def made(sql):
        return expand(sql, given, start, end, 60)

    listed = made("$__conditionalAll(a IN (${agent:singlequote}), $agent)")
    assert listed == r"a IN ('o\'brien\\ x', 'b')"
    assert made("'${agent:queryparam}'") == "'var-agent=o%27brien%5C%20x&var-agent=b'"
    assert made("'${text:percentencode}'") == "'%27%20OR%201%3D1%20--%5C'"
    for wrong in (
        "$__adHocFilters('t')", "${agent}", "$agent", "$__timeGroup(a, b)",
        "${nobody:singlequote}", "${text:raw}",
    ):  # fmt: skip
        with pytest.raises(Unsupported):
            made(wrong)


def test_ids_with_slashes_and_markup_are_only_ids(served):
    for name in ("a/b", "<b>", "..", "%"):
        assert ask(served, f"/api/interaction/{quote(name, safe='')}")[0].status == 404
