"""The notifier on a real store, with receivers that share no code with it."""

import asyncio
import contextlib
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from infra import cli
from ingest.core import telemetry
from ingest.core.errors import Unavailable, UsageError
from processors.findings import Cause, Finding
from processors.notify.incidents import Pace, Rules
from processors.notify.outbox import Outbox, Silence
from processors.notify.receivers import Webhook, http
from processors.notify.service import Notifier, NotifyConfig
from tests.support.common import REPOSITORY, eventually, free_port
from tests.support.findings import finding_row, insert_findings, recovered, store_of
from tests.support.receivers import webhook

SECRET = "a-secret-of-the-test"


class Clock:
    """A clock that only moves when somebody waits."""

    def __init__(self):
        self.time = datetime.now(UTC)

    def now(self):
        return self.time

    async def sleep(self, seconds):
        self.time += timedelta(seconds=seconds)
        await asyncio.sleep(0)


def config(hook, **fields):
    given = {"pace": Pace(0, 0), "rules": Rules(), "board_url": "http://127.0.0.1:17205"}
    return NotifyConfig(webhook_url=hook.url, webhook_secret=SECRET, **{**given, **fields})


@contextlib.asynccontextmanager
async def notifying(store, given, **options):
    """A notifier whose looks are taken by the test."""
    notifier = Notifier(store, given, **options)
    try:
        yield notifier
    finally:
        await notifier.on_stop()


async def until(check, notifier=None, within_s=10):
    for _ in range(int(within_s / 0.05)):
        if notifier is not None:
            await notifier.look()
        if check():
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"not within {within_s} s")


def states(store):
    rows = store.query(
        "SELECT event, state, attempts FROM notifications FINAL WHERE incident != '' ORDER BY seq"
    )
    return rows.rows()


def test_an_incident_is_told_once_signed_and_its_end_too(clickhouse):
    store = store_of(clickhouse)

    async def run(hook):
        async with notifying(store, config(hook)) as notifier:
            await notifier.look()
            row = finding_row("a", datetime.now(UTC))
            insert_findings(store, row, finding_row("b", datetime.now(UTC)))
            await until(lambda: hook.got, notifier)
            insert_findings(store, recovered(row), recovered(finding_row("b", datetime.now(UTC))))
            await until(lambda: len(hook.got) == 2, notifier)
            await until(lambda: [s[1] for s in states(store)] == ["sent", "sent"])

    with webhook(secret=SECRET) as hook:
        asyncio.run(run(hook))
        assert not hook.refused
    first, last = (request.json for request in hook.got)
    assert (first["event"], last["event"]) == ("firing", "resolved")
    assert [f["finding_id"] for f in first["findings"]] == ["a", "b"]
    assert first["link"] == "http://127.0.0.1:17205/incident/a"
    assert first["agents"] == ["agent-a", "agent-b"]
    ids = {request.headers["Driftline-Delivery"] for request in hook.got}
    assert len(ids) == 2


def test_a_finding_is_a_log_event_with_the_fields_of_its_schema(clickhouse):
    cause = Cause("tool", "search_articles", 13, 9, 20, 0.9)
    found = Finding(
        finding_id="f", version=1_800_000_060, kind="failure_up", signal="failure",
        severity="page", status="open", environment="production", agent="shop",
        began=1_800_000_000, found=1_800_000_060, e_value=1e9, baseline=0.02, observed=0.3,
        n=41, causes=[cause], examples=["i1", "i2"],
    )  # fmt: skip
    over = replace(found, status="recovered", ended=1_800_000_900)

    async def run(hook):
        given = NotifyConfig(otlp_url=f"http://127.0.0.1:{hook.port}")
        tried = []

        async def sleep(seconds):
            tried.append(seconds)
            hook.status = 200

        async with notifying(store_of(clickhouse), given, sleep=sleep) as notifier:
            hook.status = 503
            await notifier.handle(found.message())
            await notifier.handle(b'{"finding_id": "not a finding"}')
            await notifier.handle(over.message())
        assert len(tried) == 1

    with webhook() as hook:
        asyncio.run(run(hook))
    assert [request.path for request in hook.got] == ["/v1/logs"] * 2
    events = []
    for request in hook.got:
        read = json_format.Parse(request.body, ExportLogsServiceRequest())
        (event,) = read.resource_logs[0].scope_logs[0].log_records
        events.append(event)
    first, last = events
    assert (first.event_name, first.severity_text, last.severity_text) == (
        "driftline.finding", "ERROR", "INFO",
    )  # fmt: skip
    assert first.body.string_value == found.title
    assert first.time_unix_nano == 1_800_000_060 * 10**9
    values = {a.key: a.value for a in first.attributes}
    schema = json.loads((REPOSITORY / "docs" / "schemas" / "finding.json").read_text())
    fields = json.loads(found.message())
    assert {k.removeprefix("driftline.finding.") for k in values if k.startswith("drift")} == {
        name for name in schema["properties"] if fields[name] is not None
    }
    assert values["gen_ai.agent.name"].string_value == "shop"
    assert values["driftline.finding.n"].int_value == 41
    assert values["driftline.finding.observed"].double_value == 0.3
    (told,) = values["driftline.finding.causes"].array_value.values
    assert {kv.key: kv.value.string_value for kv in told.kvlist_value.values}[
        "value"
    ] == cause.value


def test_a_signature_fails_for_another_body_key_or_time():
    with webhook(secret="another secret of the other") as hook:
        receiver = Webhook(http(hook.url), SECRET, Pace())
        from processors.notify.receivers import Delivery

        async def send():
            try:
                await receiver.send(Delivery("d", "i", "firing", "page", "h", "l", b"{}"))
            finally:
                await receiver.close()

        with pytest.raises(Unavailable, match="401"):
            asyncio.run(send())
        (request,) = hook.refused
        hook.secret = SECRET
        assert hook.is_signed(request)
        request.body = b"{ }"
        assert not hook.is_signed(request)
        request.body = b"{}"
        request.headers["Driftline-Timestamp"] = str(int(request.at) - 301)
        assert not hook.is_signed(request)


def test_a_receiver_that_is_down_for_an_hour_loses_nothing(clickhouse):
    """A simulated clock; the port is really closed, and attempts really made, until it opens."""
    store, clock, port = store_of(clickhouse), Clock(), free_port()
    begun = clock.time

    async def run(hook):
        async with notifying(store, hook, now=clock.now, sleep=clock.sleep) as notifier:
            await notifier.look()
            first = finding_row("a", clock.now())
            insert_findings(store, first)
            await notifier.look()
            insert_findings(
                store, recovered(first), finding_row("late", clock.now(), environment="staging")
            )
            await notifier.look()
            await until(lambda: clock.time - begun > timedelta(hours=1), within_s=60)
            with webhook(port, SECRET) as open_hook:
                await until(lambda: len(open_hook.got) == 3, within_s=20)
                await asyncio.sleep(0)
                return [(r.json["event"], r.json["incident"]) for r in open_hook.got]

    class Closed:
        url = f"http://127.0.0.1:{port}/hook"

    got = asyncio.run(run(config(Closed)))
    assert got[0] == ("firing", "a")
    assert sorted(got[1:]) == [("firing", "late"), ("resolved", "a")]
    attempts = store.query("SELECT max(attempts) AS n FROM notifications")["n"][0]
    assert 60 <= attempts <= 75  # once a minute in the end, not a storm


def test_what_was_not_sent_before_a_restart_is_sent_after_it_with_the_same_bytes(clickhouse):
    store, port = store_of(clickhouse), free_port()

    class Closed:
        url = f"http://127.0.0.1:{port}/hook"

    async def before():
        async with notifying(store, config(Closed)) as notifier:
            await notifier.look()
            insert_findings(store, finding_row("a", datetime.now(UTC)))
            await notifier.look()
            await until(lambda: states(store) and states(store)[0][2] > 0)

    async def after(hook):
        async with notifying(store, config(hook)) as notifier:
            await until(lambda: hook.got, notifier)
            await until(lambda: states(store)[0][1] == "sent")
            for _ in range(3):
                await notifier.look()

    asyncio.run(before())
    planned = store.query("SELECT body FROM notifications FINAL WHERE incident = 'a'")["body"][0]
    with webhook(port, SECRET) as hook:
        asyncio.run(after(hook))
    (request,) = hook.got
    assert request.body.decode() == planned


def test_silences_hold_back_and_are_made_by_command(clickhouse, monkeypatch, capsys):
    store = store_of(clickhouse)
    outbox = Outbox(store)
    now = datetime.now(UTC)
    outbox.silence(Silence("s1", {"agent": "agent-quiet"}, now, now + timedelta(hours=1)), now)

    async def run(hook):
        async with notifying(store, config(hook)) as notifier:
            await notifier.look()
            quiet = finding_row("quiet", datetime.now(UTC), environment="a")
            insert_findings(store, quiet, finding_row("loud", datetime.now(UTC), environment="b"))
            await until(lambda: hook.got, notifier)
            assert [r.json["incident"] for r in hook.got] == ["loud"]
            monkeypatch.setenv("DRIFTLINE_CLICKHOUSE_URL", clickhouse.url)
            monkeypatch.setenv("DRIFTLINE_CLICKHOUSE_USER", "driftline")
            monkeypatch.setenv("DRIFTLINE_CLICKHOUSE_PASSWORD", clickhouse.password)
            monkeypatch.setenv("DRIFTLINE_CLICKHOUSE_DATABASE", clickhouse.database)
            code, out = command(monkeypatch, capsys, "notify", "unsilence", "s1")
            assert (code, out) == (0, "silence s1 has ended\n")
            await until(lambda: len(hook.got) == 2, notifier)
            await until(lambda: [s[1] for s in states(store)] == ["sent", "sent"])

    with webhook(secret=SECRET) as hook:
        asyncio.run(run(hook))
    assert hook.got[1].json["incident"] == "quiet"
    code, out = command(
        monkeypatch, capsys, "notify", "silence", "agent=x", "--for", "1h", "--json"
    )
    assert code == 0
    assert json.loads(out)["matchers"] == {"agent": "x"}
    assert command(monkeypatch, capsys, "notify", "unsilence", "nope")[0] == 1
    assert command(monkeypatch, capsys, "notify", "silence", "colour=x", "--for", "1h")[0] == 2
    listed = json.loads(command(monkeypatch, capsys, "notify", "list", "--json")[1])
    assert {row["state"] for row in listed} == {"sent"}


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["driftline", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr().out


def test_the_test_command_tells_every_receiver(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, capsys, "notify", "test")[0] == 2
    with webhook(secret=SECRET) as hook:
        monkeypatch.setenv("DRIFTLINE_NOTIFY_WEBHOOK_URL", hook.url)
        monkeypatch.setenv("DRIFTLINE_NOTIFY_WEBHOOK_SECRET", SECRET)
        monkeypatch.setenv("DRIFTLINE_NOTIFY_SERVICES", f"json://127.0.0.1:{hook.port}/chat")
        hook.secret = None
        code, out = command(monkeypatch, capsys, "notify", "test", "--json")
        assert code == 0
        assert [r["receiver"].partition(":")[0] for r in json.loads(out)] == ["webhook", "json"]
        assert len(hook.got) == 4  # a start and an end each
        chat = [r.json for r in hook.got if r.path == "/chat"]
        assert "Test message of driftline" in chat[0]["title"]
        hook.status = 500
        assert command(monkeypatch, capsys, "notify", "test", "--receiver", "webhook")[0] == 1


def test_what_people_decide_about_a_finding_holds_it_back(clickhouse):
    store = store_of(clickhouse)
    store.command(
        "CREATE TABLE IF NOT EXISTS finding_actions (subject String, action LowCardinality(String),"
        " at DateTime64(3, 'UTC'), until Nullable(DateTime64(3, 'UTC')), note String)"
        " ENGINE = ReplacingMergeTree ORDER BY (subject, action, at)"
    )
    store.command(
        "INSERT INTO finding_actions VALUES ('acked', 'ack', now64(3), NULL, ''),"
        " ('muted', 'mute', now64(3), now64(3) + INTERVAL 1 HOUR, ''),"
        " ('reopened', 'ack', now64(3) - 10, NULL, ''), ('reopened', 'open', now64(3), NULL, '')"
    )

    async def run(hook):
        async with notifying(store, config(hook)) as notifier:
            names = ("acked", "muted", "reopened", "plain")
            now = datetime.now(UTC)
            insert_findings(store, *(finding_row(n, now, environment=n) for n in names))
            await until(lambda: len(hook.got) == 2, notifier)
            for _ in range(3):
                await notifier.look()

    with webhook(secret=SECRET) as hook:
        asyncio.run(run(hook))
    assert sorted(r.json["incident"] for r in hook.got) == ["plain", "reopened"]


def test_a_refused_message_is_given_up_and_named(clickhouse):
    store = store_of(clickhouse)

    async def run(hook):
        hook.status = 422
        async with notifying(store, config(hook)) as notifier:
            await notifier.look()
            insert_findings(store, finding_row("a", datetime.now(UTC)))
            await until(lambda: states(store) and states(store)[0][1] == "refused", notifier)

    with webhook(secret=SECRET) as hook:
        asyncio.run(run(hook))
    assert len(hook.refused) == 1


def test_a_receiver_that_cannot_work_is_said_at_the_start(clickhouse):
    with pytest.raises(UsageError, match="nosuch://"):
        Notifier(store_of(clickhouse), NotifyConfig(services=("nosuch://secret@host",)))


def test_active_findings_are_a_metric_while_the_worker_leads(clickhouse):
    store, leads = store_of(clickhouse), [True]

    def active():
        return [
            (s.labels["agent"], s.value)
            for m in telemetry.FINDINGS_ACTIVE.collect() for s in m.samples
        ]  # fmt: skip

    async def run():
        async with notifying(store, NotifyConfig(), leads=lambda: leads[0]) as notifier:
            insert_findings(store, finding_row("a", datetime.now(UTC)))
            await notifier.look()
            assert active() == [("agent-a", 1.0)]
            leads[0] = False
            await notifier.look()
            assert active() == []

    asyncio.run(run())


@pytest.mark.slow
def test_a_worker_notifies_of_a_record_on_the_topic(tmp_path_factory):
    """Wiring: broker, worker, agent on driftline.findings, webhook."""
    from kafka import KafkaProducer

    from tests.conftest import Runtime, run_driftline

    home, base = tmp_path_factory.mktemp("runtime") / "home", free_port(16)
    with webhook(secret=SECRET) as hook:
        environment = {
            "DRIFTLINE_NOTIFY_WEBHOOK_URL": hook.url,
            "DRIFTLINE_NOTIFY_WEBHOOK_SECRET": SECRET,
            "DRIFTLINE_NOTIFY_GROUP_WAIT_S": "0",
        }
        started = run_driftline(
            "up", "--detach", home=home, port_base=base, environment=environment
        )
        assert started.returncode == 0, started.stderr
        running = Runtime(home, base)
        try:
            producer = KafkaProducer(bootstrap_servers=running.kafka.bootstrap_servers)
            row = finding_row("topic", datetime.now(UTC))
            record = json.dumps({**row, "evidence": []}, default=lambda t: t.isoformat()).encode()

            def told():
                producer.send("driftline.findings", record, key=b"topic").get(10)
                return [r for r in hook.got if r.json["incident"] == "topic"]

            (request,) = eventually(told, 30, 0.5)
            assert request.json["event"] == "firing"
            producer.close()
        finally:
            running.driftline("down")
