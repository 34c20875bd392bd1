"""Chromium, the board on an engine with data, and axe-core from npm."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from dashboards.lookup import Lookup
from infra.embedded.clickhouse import start_clickhouse
from infra.embedded.process import stop
from infra.schema.migrate import migrate
from tests.conftest import PASSWORD, READER_PASSWORD, ClickHouse
from tests.integration.test_board import TOKEN, board
from tests.support.board_data import fill
from tests.support.common import free_port
from tests.support.findings import store_of

AXE = "axe-core@4.14.1"


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """The script of axe-core."""
    folder = tmp_path_factory.mktemp("axe")
    packed = subprocess.run(
        ["npm", "pack", "--silent", AXE], cwd=folder, check=True, capture_output=True, text=True
    )
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """Address of a board with data."""
    folder, port = tmp_path_factory.mktemp("engine"), free_port()
    process = start_clickhouse(
        folder / "data", port, folder / "clickhouse.log", PASSWORD, READER_PASSWORD
    )
    database = ClickHouse(port, "driftline")
    try:
        with ClickHouse(port, "default").client() as client:
            migrate(client, "driftline")
        fill(store_of(database))
        with board(Lookup(store_of(database, "reader"))) as listening:
            yield f"http://127.0.0.1:{listening}"
    finally:
        stop(process)


def chromium(profile: Path, *arguments: str) -> webdriver.Chrome:
    """Headless Chromium that reaches nothing but loopback."""
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--disable-background-networking", "--hide-scrollbars", *arguments,
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


@pytest.fixture(scope="session")
def _driver(tmp_path_factory):
    driver = chromium(tmp_path_factory.mktemp("profile"))
    driver.set_script_timeout(150)  # axe-core on a busy machine
    yield driver
    driver.quit()


@pytest.fixture
def page(_driver, served):
    """A browser that has opened the board with its token."""
    _driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    _driver.get(f"{served}/#token={TOKEN}")
    _driver.get_log("browser")
    return _driver
