"""`driftline mcp` driven by the official client."""

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

from mcp import Client, StdioServerParameters

from tests.support.board_data import FAILED, FINDING, HOSTILE, SESSION, fill
from tests.support.common import eventually, free_port
from tests.support.findings import store_of
from tests.support.receivers import is_listening

TOOLS = {
    "what_is_wrong", "incident", "cluster", "interaction", "session", "compare", "sql",
    "regression_export",
}  # fmt: skip


def environment(clickhouse, tmp_path):
    # Even the owner's login only reads.
    return {
        **os.environ,
        "DRIFTLINE_HOME": str(tmp_path / "home"),
        "DRIFTLINE_CLICKHOUSE_URL": clickhouse.url,
        "DRIFTLINE_CLICKHOUSE_USER": "driftline",
        "DRIFTLINE_CLICKHOUSE_PASSWORD": clickhouse.password,
        "DRIFTLINE_CLICKHOUSE_DATABASE": clickhouse.database,
    }


async def call(client, name, **arguments):
    answer = await client.call_tool(name, arguments)
    assert not answer.is_error, answer.content
    return json.loads(answer.content[0].text)


async def refused(client, name, **arguments):
    answer = await client.call_tool(name, arguments)
    assert answer.is_error
    return answer.content[0].text


def test_an_assistant_goes_from_the_page_to_the_failing_cases(clickhouse, tmp_path):
    fill(store_of(clickhouse))
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "infra.cli", "mcp"],
        env=environment(clickhouse, tmp_path),
    )

    async def run():
        async with Client(command) as client:
            listed = (await client.list_tools()).tools
            assert {tool.name for tool in listed} == TOOLS
            assert all(tool.annotations.read_only_hint and tool.description for tool in listed)

            wrong = await call(client, "what_is_wrong", hours=6)
            assert [f["finding_id"] for f in wrong["open_incidents"]] == [FINDING]
            assert wrong["agents"][0]["agent_version"] == "v15"
            assert wrong["failures"][0]["tool"] == "search_articles"

            found = await call(client, "incident", finding_id=FINDING)
            assert found["evidence"][0]["since"] == 13
            case = found["failures"][0]["interaction_id"]
            assert case == FAILED
            told = await call(client, "interaction", interaction_id=case)
            failed = [e for e in told["events"] if e["status"] == "error"]
            assert {e["name"] for e in failed} == {"search_articles", "answer"}
            assert json.loads(failed[-1]["tool_arguments"] or '{"query": 0}')["query"] in (
                HOSTILE,
                0,
            )
            assert (await call(client, "session", session_id=SESSION))["interactions"]

            exported = await call(client, "regression_export", subject=FINDING, limit=3)
            assert len(exported["cases"]) == 3
            exported = await call(client, "regression_export", subject=FINDING, limit=50)
            one = next(c for c in exported["cases"] if case in c["provenance"]["interactions"])
            assert one["messages"] == [{"role": "user", "content": "Where is my parcel?"}]
            assert one["failure"]["tool"] == "search_articles"
            assert "search_articles" in one["rubric"]
            compared = await call(
                client, "compare", agent="support", baseline="v14", candidate="v15"
            )
            rates = {v["agent_version"]: v for v in compared["versions"]}
            assert rates["v15"]["high"] < rates["v14"]["low"]
            assert rates["v14"]["known"] == 60

            rows = await call(client, "sql", query="SELECT number FROM numbers(1000);", limit=5)
            assert rows == {"rows": [{"number": n} for n in range(5)], "more": True}
            assert (await call(client, "sql", query="DESCRIBE interactions"))["rows"]
            await refusals(client)

    asyncio.run(run())


async def refusals(client):
    for statement in (
        "DROP TABLE events", "INSERT INTO events (name) VALUES ('x')", "TRUNCATE events",
        "SELECT 1; DROP TABLE events", "SELECT nothing FROM nowhere",
        "SELECT * FROM (SELECT 1) ) LIMIT 1 INTO OUTFILE '/tmp/x' --",
        "WITH 1 AS x INSERT INTO events (name) SELECT 'x'", "SYSTEM FLUSH LOGS",
        "SELECT * FROM url('http://127.0.0.1:1')",
    ):  # fmt: skip
        assert await refused(client, "sql", query=statement)
    assert (await call(client, "sql", query="SELECT count() AS n FROM events"))["rows"][0][
        "n"
    ] == 1205
    assert "no incident" in await refused(client, "incident", finding_id="none")
    assert "no interaction" in await refused(client, "interaction", interaction_id="' OR 1=1 --")
    assert "no cluster" in await refused(client, "cluster", cluster="none")
    assert "v14" in await refused(
        client, "compare", agent="support", baseline="v14", candidate="v99"
    )
    assert "720" in await refused(client, "what_is_wrong", hours=1e9)


def test_over_http_it_needs_the_token_and_this_host(clickhouse, tmp_path):
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "mcp", "--http", str(port)],
        env=environment(clickhouse, tmp_path), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        token = process.stderr.readline().rpartition("Bearer ")[2].strip()
        eventually(lambda: is_listening(port), 30)
        asked = {
            "jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": {"protocolVersion": "2025-06-18", "capabilities": {},
                       "clientInfo": {"name": "test", "version": "1"}},
        }  # fmt: skip

        def post(**headers):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/mcp", json.dumps(asked).encode(),
                {"Content-Type": "application/json",
                 "Accept": "application/json, text/event-stream", **headers},
            )  # fmt: skip
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, None

        good = {"Authorization": f"Bearer {token}"}
        status, answer = post(**good)
        assert (status, answer["result"]["serverInfo"]["name"]) == (200, "driftline")
        assert post()[0] == 401
        assert post(Authorization=f"Bearer {token}x")[0] == 401
        assert post(**good, Host="evil.example")[0] == 421
        assert post(**good, Origin="http://evil.example")[0] == 403
    finally:
        process.terminate()
        process.wait(60)
        process.stderr.close()
