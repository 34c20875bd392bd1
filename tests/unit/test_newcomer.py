"""What ARCHITECTURE tells a newcomer is true: its files exist, and its recipes work.

Each recipe is carried out on a copy of the source exactly as the page says, a new file or an entry
in a list, and what was added is then used by a process of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
PACKAGES = ("ingest", "detectors", "processors", "dashboards", "infra")
WAYS = {"An event, from socket to row": 14, "An alert, from sealed cell to notification": 10}
RECIPES = ("A signal", "A dialect", "A panel", "A station")
USES = {
    "A signal": """
import polars as pl
from processors.signals import BY_NAME
from processors.stations.base import Sealed
from processors.stations.detection import Detection, DetectionConfig
from tests.support.stations import T0, results
rows = results([(T0 + 20, {"steps": 12}), (T0 + 20, {"steps": 2})])
station = Detection(DetectionConfig())
state, _ = station.step(Sealed(T0, T0 + 60, rows, rows.clear()), station.begin())
assert ("many_steps", "production", "shop", "") in state.rates.register.index
assert rows.select(BY_NAME["many_steps"].value).to_series().to_list() == [1.0, 0.0]
""",
    "A dialect": """
import json
from ingest.otlp import events_of_traces
from ingest.limits import Limits
say = lambda **values: [{"key": k.replace("_", "."), "value": {"stringValue": v}}
    for k, v in values.items()]
span = {"traceId": "a" * 32, "spanId": "b" * 16, "name": "s", "startTimeUnixNano": "10",
    "endTimeUnixNano": "20", "attributes": say(toy_type="brain", toy_brain="m-1")}
body = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
(event, *_) = events_of_traces(json.dumps(body).encode(), encoding="json", limits=Limits()).events
assert (event.kind, event.model) == ("llm_call", "m-1"), event
""",
    "A panel": """
from dashboards import publisher, queries
found = {p["title"]: p for board in publisher.dashboards() for p in board["panels"]}
sql = found["Given up"]["targets"][0]["rawSql"]
assert queries.name_of(sql) == "toy.given_up"
assert "sum(unfinished)" in sql and "{" not in sql.replace("${", "")
""",
    "A station": """
from processors.stations.detection import DetectionConfig
from processors.stations.runner import Stations
from processors.stations.service import all_stations
from processors.stations.storage import MemoryStations
from tests.support.stations import T0, results, run
store = MemoryStations()
store.feed(results([(T0 + 20, {}), (T0 + 30, {"agent": "bank"})]), T0 + 600)
stations = Stations(store, all_stations(DetectionConfig()), save_every_s=0)
run(store, stations)
position, buckets, streams = stations.held()["toy"]
assert (position, buckets, streams) == (T0 + 600, 8, 2)
again = Stations(store, all_stations(DetectionConfig()), save_every_s=0)
run(store, again)
assert again.held()["toy"] == stations.held()["toy"]
""",
}


@pytest.mark.parametrize("way", WAYS)
def test_the_files_of_a_way_are_as_many_as_it_says_and_exist(way: str) -> None:
    told = re.search(rf"\*\*{way}\*\* \((\d+) files\): (.*?)\n\n", PAGE, re.DOTALL)
    assert told
    folder, files = Path(), []
    for name in re.findall(r"`([\w/.]+)`", told[2]):
        folder = Path(name).parent if "/" in name else folder
        files.append(folder / Path(name).name)
    assert len(set(files)) == len(files) == int(told[1]) <= WAYS[way]
    assert [file for file in files if not (ROOT / file).is_file()] == []


def recipe(name: str) -> str:
    return re.search(rf"\n### {name}\n(.*?)(?=\n###? |\nOperating it)", PAGE, re.DOTALL)[1]  # type: ignore[index]


def blocks(name: str) -> list[str]:
    return re.findall(r"```\w+\n(.*?)```", recipe(name), re.DOTALL)


def enter(file: Path, opening: str, entry: str) -> None:
    """Write an entry behind the opening of a list."""
    text = file.read_text()
    assert text.count(opening) == 1, opening
    file.write_text(text.replace(opening, f"{opening}{entry}", 1))


def signal(tree: Path) -> None:
    (line,) = blocks("A signal")
    enter(tree / "processors/signals.py", "SIGNALS: Final = (\n", line)


def dialect(tree: Path) -> None:
    (table,) = blocks("A dialect")
    file = tree / "ingest/otlp/dialects.py"
    enter(file, "\n\nDIALECTS: Final = (\n", "    TOY,\n")
    text = file.read_text()
    file.write_text(text.replace("\n\nDIALECTS: ", f"\n\n{table}\nDIALECTS: ", 1))


def panel(tree: Path) -> None:
    statement, made = blocks("A panel")
    (tree / "dashboards/queries/toy.sql").write_text(statement)
    enter(tree / "dashboards/boards/failures.py", '("Examples", [', made)


def station(tree: Path) -> None:
    (module,) = blocks("A station")
    (tree / "processors/stations/toy.py").write_text(f"import json\n\n\n{module}")
    file = tree / "processors/stations/service.py"
    file.write_text(file.read_text() + "\n\nfrom processors.stations.toy import Toy\n")
    enter(file, "    return [", "Toy(), ")


@pytest.mark.parametrize("name", RECIPES)
def test_a_newcomer_adds_one(name: str, tmp_path: Path) -> None:
    lines = [line for line in recipe(name).splitlines() if line and not line.startswith("```")]
    assert len(lines) <= 10
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copytree(ROOT / "tests/support", tmp_path / "tests/support")
    (tmp_path / "tests/__init__.py").touch()
    add = {"A signal": signal, "A dialect": dialect, "A panel": panel, "A station": station}
    use = ["import processors\nassert processors.__file__.startswith(" + repr(str(tmp_path)) + ")"]

    def run(program: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True,
            timeout=600, check=False,
        )  # fmt: skip

    assert run(USES[name]).returncode != 0  # not yet
    add[name](tmp_path)
    done = run("\n".join([*use, USES[name]]))
    assert done.returncode == 0, done.stderr
