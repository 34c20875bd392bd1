"""The report as a file: what it says, and that nothing in it is live."""

import json
import sys
from html.parser import HTMLParser

import pytest

from infra import cli
from tests.support.board_data import HOSTILE, fill
from tests.support.findings import store_of


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def driftline(clickhouse, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = {
        "URL": clickhouse.url, "USER": "reader", "PASSWORD": clickhouse.reader_password,
        "DATABASE": clickhouse.database,
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(f"DRIFTLINE_CLICKHOUSE_{name}", value)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["driftline", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return run


def test_a_report_says_what_is_wrong_and_loads_nothing(clickhouse, driftline, tmp_path):
    fill(store_of(clickhouse))
    code, out, _ = driftline("report", "-o", "r.html", "--since", "6h", "--json")
    assert (code, json.loads(out)) == (
        0,
        {"file": "r.html", "interactions": 241, "open_incidents": 1},
    )
    page = (tmp_path / "r.html").read_text()
    read = Elements()
    read.feed(page)
    words = " ".join(read.words)
    for said in (
        "support: failure rate rose from 1.0% to 27.0%", "13x tool_failed in search_articles",
        "1 open incident", "v15", "search_articles", "unknown",
    ):  # fmt: skip
        assert said in words
    assert not {"script", "img", "link", "iframe", "a", "object"} & set(read.tags)
    assert not [
        name for name, _ in read.attributes if name.startswith("on") or name in ("src", "href")
    ]
    assert "<img src=x onerror=alert(1)>" in words
    assert not {"\x1b", "\u202e"} & set(page)
    assert HOSTILE not in page


def test_a_report_of_one_agent_and_of_nothing(clickhouse, driftline, tmp_path):
    assert driftline("report", "-o", "empty.html")[0] == 0
    assert "Nothing is stored" in (tmp_path / "empty.html").read_text()
    fill(store_of(clickhouse))
    _, out, _ = driftline("report", "-o", "b.html", "--agent", "booking", "--since", "6h", "--json")
    assert json.loads(out)["interactions"] == 60
    assert json.loads(out)["open_incidents"] == 0
    assert driftline("report", "-o", "/no/such/r.html")[0] == 2
    assert driftline("report", "-o", "x.html", "--since", "soon")[0] == 2
    assert driftline("report")[0] == 2
