"""Grouping, pace and silence of notifications, without I/O."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from ingest.core.errors import Rejected
from processors.notify.finding import Finding, decode
from processors.notify.incidents import FIRING, RESOLVED, UPDATE, Pace, Rules, State
from processors.notify.outbox import _decided
from processors.notify.text import headline, inert, lines, payload
from processors.stations.rehearsal import told

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
PACES = {"webhook": Pace(5, 300)}
RULES = Rules()


def finding(name, began=0.0, environment="production", **fields):
    start = NOW + timedelta(seconds=began)
    given = {"severity": "page", "agent": f"agent-{name}", "began": start, "found": start}
    return Finding(finding_id=name, environment=environment, **{**given, **fields})


def ended(found, version=1):
    return msgspec.structs.replace(
        found, status="recovered", ended=NOW + timedelta(minutes=5), version=version
    )


class World:
    def __init__(self):
        self.state, self.quiet = State(), set()

    def at(self, seconds, *findings, paces=PACES, rules=RULES):
        now = NOW + timedelta(seconds=seconds)
        self.state.merge(findings, rules, now)
        return self.state.plan(paces, rules, lambda f: f.agent in self.quiet, now)


@pytest.fixture
def world():
    return World()


def test_findings_that_began_together_are_one_message_after_the_wait(world):
    assert world.at(0, *(finding(f"f{i:02}", i) for i in range(40))) == []
    (message,) = world.at(5)
    assert (message.event, message.seq, len(message.findings)) == (FIRING, 1, 40)
    assert world.at(6) == []


def test_another_environment_or_another_hour_is_another_incident(world):
    world.at(0, finding("a"), finding("b", environment="staging"), finding("c", -3600))
    assert len(world.at(5)) == 3


def test_members_join_their_incident_whenever_they_began(world):
    parent = finding("p", 0, members=["m1", {"finding_id": "m2"}])
    world.at(0, finding("m1", -3000), finding("m2", 3000), parent)
    (message,) = world.at(5)
    assert message.incident == "p"
    assert len(message.findings) == 3


def test_a_member_that_names_its_incident_joins_it_and_others_are_not_regrouped(world):
    world.at(
        0,
        finding("m", 0, signal="failure", incident="h"),
        finding("h", 10, signal="failure", members=["m"]),
        finding("other", 0, signal="failure"),
    )
    assert sorted((m.incident, len(m.findings)) for m in world.at(5)) == [("h", 2), ("other", 1)]


def test_a_finding_keeps_its_incident_when_the_incident_is_found_later(world):
    world.at(0, finding("m1"))
    assert world.at(5)[0].incident == "m1"
    world.at(6, finding("p", 5000, members=["m1"]))
    assert set(world.state.incidents) == {"m1"}


def test_growth_is_told_once_an_interval(world):
    world.at(0, finding("a"))
    world.at(5)
    assert world.at(10, finding("b", 10)) == []
    (message,) = world.at(306)
    assert (message.event, message.seq, len(message.findings)) == (UPDATE, 2, 2)


def test_recovery_is_told_when_the_last_finding_ends_and_return_is_told_again(world):
    world.at(0, finding("a"), finding("b"))
    world.at(5)
    assert world.at(10, ended(finding("a"))) == []
    (message,) = world.at(11, ended(finding("b")))
    assert (message.event, message.seq) == (RESOLVED, 2)
    (again,) = world.at(20, finding("a", version=2, status="regressed"))
    assert (again.event, again.seq) == (FIRING, 3)


def test_an_older_version_changes_nothing(world):
    world.at(0, finding("a"))
    world.at(5)
    world.at(6, ended(finding("a"), version=3))
    assert world.at(7, finding("a", version=2)) == []


def test_what_began_and_ended_unseen_is_told_as_resolved(world):
    (message,) = world.at(0, ended(finding("a")))
    assert (message.event, message.seq) == (RESOLVED, 1)
    assert "lasted 5 min" in headline(message)


def test_old_findings_notices_and_those_before_notifications_page_nobody(world):
    assert world.at(0, finding("old", -86_401), finding("n", severity="notice")) == []
    assert world.at(5) == []
    before = Rules(since=NOW + timedelta(hours=1))
    assert world.at(6, ended(finding("before")), rules=before) == []


def test_a_silenced_incident_is_told_when_the_silence_ends(world):
    world.quiet = {"agent-a"}
    world.at(0, finding("a"))
    assert world.at(60) == []
    world.quiet = set()
    assert [m.event for m in world.at(61)] == [FIRING]


def test_an_incident_that_ends_in_silence_is_only_noted(world):
    world.quiet = {"agent-a"}
    world.at(0, finding("a"))
    (message,) = world.at(9, ended(finding("a")))
    assert message.silenced
    world.quiet = set()
    assert world.at(10) == []


def test_mute_and_acknowledgement_hold_back_until_they_end(world):
    until = NOW + timedelta(minutes=1)
    world.at(
        0, finding("a", muted_until=until), finding("b", environment="e", status="acknowledged")
    )
    assert world.at(59) == []
    assert [m.incident for m in world.at(61)] == ["a"]


@pytest.mark.parametrize(
    ("own", "of_cluster", "status", "muted"),
    [
        (None, None, "open", False),
        (None, {"decided": "ack"}, "acknowledged", False),
        (None, {"decided": "ack", "decided_at": NOW - timedelta(hours=1)}, "open", False),
        (None, {"decided": "accept"}, "open", False),
        ({"decided": "open"}, {"decided": "ack"}, "open", False),
        ({"decided": "ack"}, None, "acknowledged", False),
        (None, {"muted_until": NOW + timedelta(days=7)}, "open", True),
        ({"muted_until": NOW - timedelta(days=7)}, {"muted_until": NOW + timedelta(1)}, "open", 1),
    ],
)
def test_what_is_said_of_a_cluster_holds_for_its_findings(own, of_cluster, status, muted):
    """An acknowledgement for those that were there, so that a relapse is told."""
    plain = {"decided": "", "decided_at": NOW, "muted_until": None}
    said = {"f": own, "c": of_cluster}
    actions = {subject: plain | given for subject, given in said.items() if given}
    found = _decided(finding("f", cluster="c"), actions)
    assert found.status == status
    assert found.is_muted(NOW) == bool(muted or status == "acknowledged")
    assert _decided(finding("x"), actions) == finding("x")


def test_a_restart_repeats_nothing_and_goes_on_counting(world):
    world.at(0, finding("a"))
    world.at(5)
    told = world.state.incidents["a"].told["webhook"]
    again = World()
    again.state.restore("a", "webhook", told)
    assert again.at(20, finding("a")) == []
    (message,) = again.at(30, ended(finding("a")))
    assert (message.incident, message.seq, message.event) == ("a", 2, RESOLVED)


def test_every_receiver_has_its_own_pace(world):
    paces = {"alertmanager": Pace(0, 0), **PACES}
    assert [m.receiver for m in world.at(0, finding("a"), paces=paces)] == ["alertmanager"]
    later = world.at(5, finding("b"), paces=paces)
    assert sorted((m.receiver, m.event) for m in later) == [
        ("alertmanager", UPDATE), ("webhook", FIRING),
    ]  # fmt: skip


def test_ended_incidents_are_forgotten_after_a_while(world):
    world.at(0, ended(finding("a")))
    world.state.forget(RULES, NOW + timedelta(hours=1))
    assert world.state.incidents
    world.state.forget(RULES, NOW + timedelta(hours=25))
    assert not world.state.incidents


TODAY = (
    b'{"finding_id":"x","version":5,"detector":"failure_rate","kind":"failure_rate_up",'
    b'"environment":"production","agent":"support","status":"open","severity":"critical",'
    b'"began":"2026-11-20T12:00:00Z","found":"2026-11-20T12:01:00Z","ended":null,"e_value":1e9,'
    b'"baseline":0.01,"observed":0.271,"n":900,"title":"support: failure rate rose",'
    b'"evidence":[{"fingerprint":"f","reason":"tool_failed","tool":"search_articles",'
    b'"template":"503","since":13,"before":0}]}'
)


def test_the_record_of_today_reads_and_its_text_names_the_tool(world):
    world.at(0, decode(TODAY))
    (message,) = world.at(120)
    assert headline(message) == "support: failure rate rose (production)"
    text = lines(message, "http://127.0.0.1:1")
    assert "1.0% -> 27.1%" in text
    assert "cause: 13x tool_failed in search_articles: 503" in text
    assert "n = 900, e-value 1e+09" in text
    assert text.endswith("http://127.0.0.1:1/incident/x")
    assert payload(message)["findings"][0]["began"] == "2026-11-20T12:00:00Z"


@pytest.mark.parametrize("record", [b"", b"[]", b"{}", b'{"finding_id":1,"began":"soon"}', b"\xff"])
def test_a_damaged_record_is_refused_by_name(record):
    with pytest.raises(Rejected) as refused:
        decode(record)
    assert refused.value.code == "bad_finding"


@pytest.mark.parametrize(
    "hostile",
    [
        "\x1b[31mred", "a\u202eb", "<!channel>", "@everyone", "[x](http://evil.example)",
        "=HYPERLINK(1)", "-1+1", "<@U1>", "line\nbreak", "&lt;script&gt;", "https://evil.example",
    ],
)  # fmt: skip
def test_names_are_inert_in_chats(hostile, world):
    world.at(0, finding("a", title=hostile, causes=[{"attribute": "tool", "value": hostile}]))
    (message,) = world.at(5)
    for text in (headline(message), lines(message)):
        assert hostile not in text
        assert not any(live in text for live in ("\x1b", "\u202e", "<!", "@e", "](", "://", "<@"))
    assert payload(message)["findings"][0]["title"] == hostile  # as it is, for programs


def test_text_that_is_long_is_cut():
    assert len(inert("x" * 10_000)) == 300


def test_a_member_is_told_as_part_of_its_incident():
    def row(name, incident="", signal="failure", agent="support"):
        return {"finding_id": name, "incident": incident, "signal": signal, "agent": agent,
                "found": name}  # fmt: skip

    found = [row("c", "a"), row("a"), row("b", "a", signal="tool_error"), row("d", "e", agent="x")]
    ids = [[r["finding_id"] for r in told(found, *asked)] for asked in (
        (None, None), ("failure", None), ("tool_error", None), (None, "x"),
    )]  # fmt: skip
    assert ids == [["a", "d"], ["a", "d"], ["b"], ["d"]]
