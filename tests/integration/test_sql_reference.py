"""What analysts are told: columns have a meaning, documented queries run, no trap bites."""

import json
import os
import re
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import nbformat
import polars as pl
import pytest
from nbclient import NotebookClient

from infra import cli
from infra.commands import lookup
from infra.schema.migrate import migrate
from processors.clickhouse import ClickHouseConfig, Store
from tests.conftest import ClickHouse
from tests.integration import dashboard_data
from tests.support import results
from tests.support.common import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "sql.md"
READERS = REPOSITORY / "infra" / "deploy" / "clickhouse" / "readers.sql"
NOTEBOOK = DOCUMENT.parent / "notebooks" / "failures.ipynb"
QUESTIONS = re.findall(r"^### ([^\n]+)\n+```sql\n(.+?)```", DOCUMENT.read_text(), re.M | re.S)
TRAPS = re.findall(r"^\| .+ \| `(SELECT [^`]+)` \|$", DOCUMENT.read_text(), re.M)
# Nothing in the traffic is of the kind they ask for.
NOT_THERE = ("given up", "new version", "one conversation", "without a price", "in circles")


DDL = re.sub(r"--.*", "", READERS.read_text())
STATEMENTS = [part.strip() for part in DDL.split(";") if part.strip()]
# What holds neither content nor names of agents, or only ids.
OF_NOBODY = {
    "collisions", "ledger", "watermarks", "detector_state", "heartbeats", "dimension_values",
    "dead_letter_replays", "interaction_index", "session_index", "station_state",
    "station_progress", "station_read", "schema_migrations",
    "evaluator_versions", "evaluation_runs",
}  # fmt: skip


@pytest.fixture(scope="module")
def database(_clickhouse_port):
    now = datetime.now(UTC).replace(microsecond=0)
    made = ClickHouse(_clickhouse_port, f"reference_{uuid.uuid4().hex[:8]}")
    with ClickHouse(_clickhouse_port, "default").client() as client:
        migrate(client, made.database)
        with made.client() as owner:
            traffic = dashboard_data.traffic(now)
            dashboard_data.fill(owner, traffic)
            dashboard_data.fill_monitor(owner, now)
        config = ClickHouseConfig(made.url, "reader", made.reader_password, made.database)
        yield SimpleNamespace(store=Store(config), traffic=traffic, made=made)
        client.command(f"DROP DATABASE {made.database} SYNC")


@pytest.fixture
def driftline(database, monkeypatch, capsys, tmp_path):
    """Run a command; returns exit code, output and errors."""
    made = database.made
    for name, value in (
        ("url", made.url), ("user", made.user), ("password", made.password),
        ("database", made.database),
    ):  # fmt: skip
        monkeypatch.setenv(f"DRIFTLINE_CLICKHOUSE_{name.upper()}", value)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["driftline", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return run


class TestReference:
    def test_every_column_says_what_it_is(self, database):
        silent = {
            (table["name"], column["name"])
            for table in lookup.describe(database.store)
            for column in table["columns"]
            if not column["comment"] and table["name"] not in ("admitted_values", "refused_values")
        }
        assert silent == set()

    def test_the_document_has_the_views_as_they_are(self, database):
        _, _, written = DOCUMENT.read_text().partition("driftline tables`.\n\n")
        assert written.strip() == lookup.reference(lookup.describe(database.store)).strip(), (
            "run `driftline tables --markdown` and put it into docs/sql.md"
        )

    @pytest.mark.parametrize(("question", "sql"), QUESTIONS, ids=[q for q, _ in QUESTIONS])
    def test_worked_questions_run(self, database, question, sql):
        assert "FINAL" not in sql or re.search(r"(findings|dead_letters) FINAL", sql)
        found = database.store.query(sql)
        assert found.width > 0
        assert len(found) > 0 or any(words in question for words in NOT_THERE)

    @pytest.mark.parametrize("sql", TRAPS)
    def test_the_query_against_a_trap_runs(self, database, sql):
        assert len(database.store.query(sql)) > 0

    def test_every_trap_has_its_query(self):
        table = DOCUMENT.read_text().partition("| what | instead | a query |\n")[2]
        assert len(TRAPS) == len(table.partition("\n\n")[0].splitlines()) - 1 >= 12

    def test_rows_go_into_files(self, database, driftline, tmp_path):
        n = len(database.traffic.interactions)
        for name, read in (("a.parquet", pl.read_parquet), ("a.arrow", pl.read_ipc)):
            code, _, err = driftline("sql", "SELECT * FROM interactions", "-o", name)
            assert code == 0
            assert err.startswith(f"{name}: ")
            rows = read(tmp_path / name)
            assert len(rows) == n
            assert rows["cost_usd"].null_count() > 0
            assert rows.schema["duration_ms"] == pl.Float64
        assert driftline("sql", "SELECT 1", "-o", "a.csv")[0] == 2
        assert driftline("sql", "SELECT nothing", "-o", "b.parquet")[0] == 2
        assert driftline("sql", "DROP TABLE events", "-o", "b.parquet")[0] == 2
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.arrow", "a.parquet"]

    def test_there_are_at_least_fifteen(self):
        assert len(QUESTIONS) >= 15

    def test_tables_command(self, driftline):
        code, out, _ = driftline("tables", "--json")
        described = json.loads(out)
        assert code == 0
        views = [table["name"] for table in described if table["view"]]
        assert [t["name"] for t in described[: len(views)]] == views
        code, out, _ = driftline("tables", "feedback")
        assert "comment\tString\twords of the user" in out
        assert driftline("tables", "nothing")[0] == 2


class TestNotebook:
    def test_it_runs_and_has_its_plots(self, database, monkeypatch):
        made = database.made
        for name in ("url", "user", "password", "database"):
            monkeypatch.setenv(f"DRIFTLINE_CLICKHOUSE_{name.upper()}", getattr(made, name))
        monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        notebook = nbformat.read(NOTEBOOK, 4)
        assert all(not c.outputs for c in notebook.cells if c.cell_type == "code")
        NotebookClient(notebook, timeout=120, resources={"metadata": {"path": "."}}).execute()
        outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
        plots = [o for o in outputs if "image/png" in o.get("data", {})]
        assert len(plots) >= 3
        assert all(len(plot["data"]["image/png"]) > 5_000 for plot in plots)
        shown = " ".join(o["data"].get("text/plain", "") for o in outputs if "data" in o)
        assert "booking" in shown


class TestServer:
    """The statements for readers of a server: the engine parses them, and they name every table."""

    @pytest.mark.parametrize("statement", STATEMENTS)
    def test_a_statement_can_be_parsed(self, database, statement):
        quoted = statement.replace("\\", "\\\\").replace("'", "\\'")
        with database.made.client() as owner:
            assert owner.command(f"SELECT formatQuerySingleLine('{quoted}')")
            with pytest.raises(Exception, match="SYNTAX_ERROR"):
                owner.command(f"SELECT formatQuerySingleLine('{quoted[:-9]} ON')")

    def test_one_environment_sees_nothing_of_others(self, database):
        rows = database.store.query(
            "SELECT table, countIf(name = 'environment') AS has FROM system.columns"
            " WHERE database = currentDatabase() AND table NOT IN"
            " (SELECT name FROM system.tables WHERE engine = 'View') GROUP BY table"
        )
        tables = dict(rows.iter_rows())
        policies = [s for s in STATEMENTS if s.startswith("CREATE ROW POLICY")]
        assert len(policies) == 2
        for policy in policies:
            named = set(re.findall(r"driftline\.(\w+)", policy))
            assert named == {table for table, has in tables.items() if has}
        revoked = set(re.findall(r"ON driftline\.(\w+) FROM driftline_production", DDL))
        assert revoked | OF_NOBODY >= {table for table, has in tables.items() if not has}


class TestTraps:
    """The traps of a first look at the tables do not bite in the views."""

    def one(self, database, sql):
        return database.store.query(sql).row(0)

    def test_repeats_and_old_versions(self, database):
        n = len(database.traffic.interactions)
        assert self.one(database, "SELECT count() FROM interactions") == (n,)
        (events,) = self.one(database, "SELECT count() FROM events_current")
        assert events == len(database.traffic.calls) + len(database.traffic.feedback)

    @pytest.mark.parametrize("width", ["minute", "hour", "day"])
    def test_widths_and_units(self, database, width):
        found = self.one(
            database,
            "SELECT sum(interactions), sum(sessions), sum(succeeded), sum(success_known),"
            f" sum(cost_usd) FROM metrics_per_{width}",
        )
        known = [i["success"] for i in database.traffic.interactions if i["success"] is not None]
        cost = sum(i["cost_usd"] or 0 for i in database.traffic.interactions)
        assert found == (
            len(database.traffic.interactions), len(database.traffic.sessions), sum(known),
            len(known), pytest.approx(cost),
        )  # fmt: skip

    def test_unknown_is_null(self, database):
        (tokens, cost) = self.one(
            database,
            "SELECT sum(input_tokens), sum(cost_usd) FROM metrics_per_day WHERE agent_version = ''",
        )
        assert (tokens, cost) == (None, None)

    def test_ratings_do_not_multiply_costs(self, database):
        (cost,) = self.one(
            database, "SELECT sum(cost_usd) FROM interactions WHERE satisfaction_n > 0"
        )
        rated = [i for i in database.traffic.interactions if i["satisfaction_n"]]
        assert cost == pytest.approx(sum(i["cost_usd"] or 0 for i in rated))

    def test_views_are_rebuilt_in_place(self, database):
        with database.made.client() as owner:
            before = lookup.describe(database.store)
            owner.command("CREATE OR REPLACE VIEW feedback AS SELECT 1 AS old")
            owner.command(
                "INSERT INTO schema_migrations (name, checksum) VALUES ('view feedback', 'old')"
            )
            assert migrate(owner, database.made.database) == ["view feedback"]
        assert lookup.describe(database.store) == before


class TestConversations:
    def test_an_interaction_in_order(self, database, driftline):
        code, out, _ = driftline("interaction", "i5", "--json")
        found = json.loads(out)
        assert code == 0
        (turn,) = found["interactions"]
        assert turn["agent"] == database.traffic.interactions[5]["agent"]
        calls = [c for c in database.traffic.calls if c.interaction["interaction_id"] == "i5"]
        assert len(found["events"]) == len(calls)
        assert [e["time"] for e in found["events"]] == sorted(e["time"] for e in found["events"])
        assert [e["value"] for e in found["evaluations"]] == [turn["satisfaction"]]
        code, out, err = driftline("interaction", "i5")
        assert code == 0
        assert "retrieval" in out
        assert f"driftline session {turn['session_id']}" in err

    def test_a_session_in_order(self, database, driftline):
        code, out, _ = driftline("session", "s0-booking", "--json")
        found = json.loads(out)
        parts = [i for i in database.traffic.interactions if i["session_id"] == "s0-booking"]
        assert code == 0
        assert found["session"]["interactions"] == len(found["interactions"]) == len(parts)
        assert {e["target"] for e in found["evaluations"]} >= {"s0-booking"}
        assert driftline("session", "s0-booking")[0] == 0

    def test_a_further_interaction_of_a_trace(self, database, driftline):
        with database.made.client() as owner:
            end = database.traffic.now
            row = results.interaction(0, end, interaction_id="t1/e1", agent="z", session_id="z")
            results.insert(owner, "interaction_results", [row | {"trace_id": "t1"}])
            index = {"interaction_id": "t1", "cell": row["cell"]}
            results.insert(owner, "interaction_index", [index])
        for name in ("t1", "t1/e1"):
            code, out, _ = driftline("interaction", name, "--json")
            assert code == 0
            assert [i["interaction_id"] for i in json.loads(out)["interactions"]] == ["t1/e1"]
        with database.made.client() as owner:
            results.insert(
                owner, "interaction_results", [row | {"trace_id": "t1", "live": 0, "version": 3}]
            )

    @pytest.mark.parametrize("what", ["interaction", "session"])
    def test_what_is_not_stored(self, driftline, what):
        code, out, err = driftline(what, "' OR 1=1 --")
        assert (code, out) == (1, "")
        assert "is stored" in err

    def test_objectives(self, driftline, tmp_path):
        (tmp_path / "slo.yaml").write_text(
            "apiVersion: openslo/v1\nkind: SLO\nmetadata: {name: mine}\n"
            "spec: {service: booking, objectives: [{target: 0.99}]}\n"
        )
        code, out, _ = driftline("slo", "slo.yaml", "--json")
        (row,) = json.loads(out)
        assert code == 1  # the budget is used up
        assert (row["slo"], row["agent"]) == ("mine", "booking")
        assert row["budget_left"] < 0
        assert driftline("slo", "none.yaml")[0] == 2


class TestMetrics:
    def test_since_names_its_beginning_and_the_period_before(self, database, driftline):
        code, out, err = driftline(
            "metrics", "--since", "1h30m", "--environment", "production", "--json"
        )
        entries = json.loads(out)
        assert code == 0
        assert {e["environment"] for e in entries} == {"production"}
        begins = datetime.fromisoformat(entries[0]["since"])
        assert begins.second == 0
        assert err.startswith(f"from {entries[0]['since']} on")
        for entry in entries:
            assert entry["scope"] == "all"
            own = [
                i for i in database.traffic.interactions
                if i["agent"] == entry["agent"]
                and i["agent_version"] == (entry["agent_version"] or "")
            ]  # fmt: skip
            after = [i for i in own if i["cell"] >= begins]
            assert entry["interactions"]["n"] == len(after)
            assert entry["previous"]["interactions"]["n"] > 0

    def test_an_unpriced_model_is_named(self, driftline):
        code, out, _ = driftline("metrics", "--agent", "booking")
        assert code == 0
        rows = [line.split("\t") for line in out.splitlines()]
        assert {row[2]: row[-2] for row in rows if row[:2] == ["production", "booking"]}[
            "v2"
        ] == "unpriced (m)"

    def test_parts_only_when_asked_for(self, driftline):
        _, out, _ = driftline("metrics", "--json", "--scopes", "--agent", "search")
        scopes = {e["scope"]: e for e in json.loads(out)}
        assert scopes["retrieval:docs"]["tool_calls"] == 100
        assert scopes["all"]["input_tokens"] > 0
        _, out, _ = driftline("metrics", "--json", "--agent", "search")
        assert [e["scope"] for e in json.loads(out)] == ["all"]
        assert driftline("metrics", "--agent", "nobody")[2] == "nothing that is stored fits\n"
