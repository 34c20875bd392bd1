"""`driftline publish` and `driftline dashboards` as a person types them."""

import json
import sys

import pytest

from dashboards import publisher
from infra import cli
from tests.support.fake_grafana import PASSWORD, TOKEN, USER, serve


@pytest.fixture
def fake():
    with serve() as grafana:
        yield grafana


@pytest.fixture
def driftline(monkeypatch, capsys, tmp_path):
    """Run a command with settings; returns exit code, output and errors."""

    def run(*arguments, **settings):
        monkeypatch.chdir(tmp_path)
        for name, value in settings.items():
            monkeypatch.setenv(f"DRIFTLINE_{name.upper()}", value)
        monkeypatch.setattr(sys, "argv", ["driftline", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return run


def settings(fake, **changes):
    given = {
        "grafana_url": fake.url,
        "grafana_token": TOKEN,
        "grafana_clickhouse_url": "https://clickhouse.example",
        "grafana_clickhouse_user": "grafana_reader",
        "grafana_clickhouse_password": "hidden",
    }
    return {**given, **changes}


def test_publishes_and_says_what_it_did(fake, driftline):
    code, out, err = driftline("publish", **settings(fake))
    assert code == 0
    lines = [line.split("\t") for line in out.splitlines()]
    assert lines[0] == ["what", "name", "was", "note"]
    told = [tuple(line[:3]) for line in lines[1:]]
    assert told[:2] == [
        ("folder", "driftline", "created"),
        ("data source", "driftline-ch", "created"),
    ]
    boards = {board["uid"] for board in publisher.dashboards()}
    assert {name for what, name, _ in told if what == "dashboard"} == boards
    groups = {name for what, name, _ in told if what == "rule group"}
    assert groups == {"driftline/findings", "driftline/deadman", "driftline/pipeline"}
    assert {was for *_, was in told} == {"created"}
    assert f"open {fake.url}/d/driftline-overview" in err
    source = fake.data_sources["driftline-ch"]["jsonData"]
    assert (source["host"], source["port"], source["secure"]) == ("clickhouse.example", 8443, True)
    assert (source["username"], source["defaultDatabase"]) == ("grafana_reader", "driftline")
    assert fake.passwords["driftline-ch"] == "hidden"
    assert "hidden" not in out + err
    assert TOKEN not in out + err


def test_json_and_dry_run(fake, driftline):
    code, out, _ = driftline("publish", "--dry-run", "--json", **settings(fake))
    told = json.loads(out)
    assert code == 0
    assert (told["dry_run"], told["version"], told["works"]) == (True, "13.0.0", None)
    assert {change["action"] for change in told["changes"]} == {"created"}
    assert fake.writes == []


def test_the_address_on_the_command_line_wins(fake, driftline):
    other = settings(fake, grafana_url="http://127.0.0.1:9")
    assert driftline("publish", "--url", fake.url + "/", **other)[0] == 0
    assert fake.writes


def test_basic_authentication_and_folder(fake, driftline):
    given = settings(fake, grafana_user=USER, grafana_password=PASSWORD, grafana_folder="Agents")
    del given["grafana_token"]
    assert driftline("publish", **given)[0] == 0
    assert fake.folders["driftline"]["title"] == "Agents"


def test_without_a_reader_it_warns(fake, driftline):
    given = settings(
        fake,
        clickhouse_url="http://store.example:8124",
        clickhouse_user="writer",
        clickhouse_password="own",
        clickhouse_database="agents",
    )
    del given["grafana_clickhouse_user"], given["grafana_clickhouse_password"]
    del given["grafana_clickhouse_url"]
    code, _, err = driftline("publish", **given)
    assert code == 0
    assert "driftline's own ClickHouse user writer" in err
    source = fake.data_sources["driftline-ch"]["jsonData"]
    assert (source["host"], source["port"], source["secure"]) == ("store.example", 8124, False)
    assert (source["username"], source["defaultDatabase"]) == ("writer", "agents")
    assert fake.passwords["driftline-ch"] == "own"


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ({"grafana_token": "wrong"}, 2, "does not accept the token"),
        ({"grafana_token": ""}, 2, "needs a Grafana token"),
        ({"grafana_url": ""}, 2, "say where Grafana is"),
        ({"grafana_url": "http://127.0.0.1:9"}, 3, "127.0.0.1:9 does not answer"),
        ({"grafana_url": "127.0.0.1:9"}, 2, "DRIFTLINE_GRAFANA_URL"),
        ({"grafana_clickhouse_user": ""}, 3, "no driftline runs in"),
    ],
)
def test_what_goes_wrong_is_one_line(fake, driftline, changes, code, told):
    found, out, err = driftline("publish", **settings(fake, **changes))
    assert (found, out) == (code, "")
    assert told in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert fake.writes == []


def test_a_missing_plugin_is_one_line(fake, driftline):
    fake.plugins.clear()
    code, _, err = driftline("publish", **settings(fake))
    assert code == 2
    assert "lacks the plugin grafana-clickhouse-datasource" in err
    assert err.count("\n") == 1


def test_a_clickhouse_out_of_reach_is_told_after_the_changes(fake, driftline):
    fake.clickhouse_works = False
    code, out, err = driftline("publish", "--json", **settings(fake))
    assert code == 3
    assert json.loads(out)["works"] is False
    error = json.loads(err)["error"]
    assert "cannot query ClickHouse at clickhouse.example:8443 as grafana_reader" in error
    assert "connection refused" in error


def test_dashboards_render_and_check(driftline, tmp_path):
    code, out, err = driftline("dashboards", "check")
    assert (code, out, err) == (0, "", "")
    code, out, _ = driftline("dashboards", "check", str(tmp_path / "out"))
    assert code == 1
    n = len(publisher.rendered())
    assert len(out.splitlines()) == n
    code, out, err = driftline("dashboards", "render", str(tmp_path / "out"))
    assert (code, len(out.splitlines())) == (0, n)
    assert driftline("dashboards", "check", str(tmp_path / "out"))[0] == 0
    (tmp_path / "file").write_text("")
    code, _, err = driftline("dashboards", "render", str(tmp_path / "file"))
    assert code == 2
    assert "cannot write to" in err


def test_a_mistyped_password_is_not_shown(driftline, tmp_path):
    (tmp_path / "driftline.toml").write_text("[grafana]\nclickhouse_password = 98765\n")
    code, _, err = driftline("publish")
    assert code == 2
    assert "grafana.clickhouse_password" in err
    assert "98765" not in err


def test_objectives_come_from_a_file(fake, driftline, tmp_path):
    (tmp_path / "slo.yaml").write_text(
        "apiVersion: openslo/v1\nkind: SLO\nmetadata: {name: mine}\n"
        "spec: {objectives: [{target: 0.99}]}\n"
    )
    assert driftline("publish", "--slo", "slo.yaml", **settings(fake))[0] == 0
    assert ("driftline", "slo-burn") in fake.groups
    code, _, err = driftline("publish", "--slo", "none.yaml", **settings(fake))
    assert (code, err.count("\n")) == (2, 1)
