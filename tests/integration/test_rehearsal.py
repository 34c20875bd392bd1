"""`driftline findings simulate`: detection over what is stored, which writes nothing."""

import json
import random
import sys
from datetime import UTC, datetime, timedelta

import pytest

from infra import cli
from tests.support import results

FAILED = ("tool_failed", "search", "503")


@pytest.fixture
def simulate(clickhouse, monkeypatch, capsys):
    """Run the command on two and a half hours of traffic whose last 25 minutes fail."""
    rng, now = random.Random(3), datetime.now(UTC).replace(microsecond=0)
    rows = []
    for n in range(3000):
        failed = rng.random() < (0.4 if n >= 2500 else 0.02)
        end = now - timedelta(seconds=3 * (3000 - n))
        rows.append(
            results.interaction(n, end, agent="support", **({"reason": FAILED} if failed else {}))
        )
    with clickhouse.client() as owner:
        results.insert(owner, "interaction_results", rows)
    for name in ("url", "user", "password", "database"):
        monkeypatch.setenv(f"DRIFTLINE_CLICKHOUSE_{name.upper()}", getattr(clickhouse, name))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["driftline", "findings", "simulate", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return run, now, clickhouse


def test_it_shows_what_would_have_paged(simulate):
    run, now, clickhouse = simulate
    code, out, _ = run("--signal", "failure", "--since", "3h", "--json")
    (found,) = json.loads(out)
    assert code == 0
    assert (found["agent"], found["severity"], found["signal"]) == ("support", "page", "failure")
    began = datetime.fromisoformat(found["began"])
    assert abs(began - (now - timedelta(minutes=25))) < timedelta(minutes=2)
    assert found["baseline"] < 0.05 < 0.3 < found["observed"]
    # A longer warm-up leaves nothing to decide on.
    _, _, err = run("--since", "3h", "--agent", "support", "--warm-up", "100000")
    assert err.startswith("0 would have paged")
    with clickhouse.client() as owner:
        for table in ("findings", "station_changes", "station_state", "alert_events"):
            assert owner.command(f"SELECT count() FROM {table}") == 0


def test_a_signal_that_does_not_exist_is_refused(simulate):
    code, _, err = simulate[0]("--signal", "moods")
    assert code == 2
    assert "failure" in err
