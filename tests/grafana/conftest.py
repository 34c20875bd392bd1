"""What the tests of this folder are built from; `make test-grafana` builds it with Go and npm."""

from __future__ import annotations

import os

import pytest

from tests.deploy.rendering import TOOLS

DRIVER = TOOLS / "bin" / "driver"
SCHEMA = TOOLS / "grafana" / "dashboard.schema.json"
_NEEDED = {"test_driver.py": DRIVER, "test_schema.py": SCHEMA}


@pytest.fixture(autouse=True)
def _built(request: pytest.FixtureRequest) -> None:
    needed = _NEEDED[request.path.name]
    if not needed.exists():
        message = f"{needed.name} is not built: make test-grafana builds it with Go and npm"
        if os.environ.get("DRIFTLINE_REQUIRE_SERVICES"):
            pytest.fail(message)
        pytest.skip(message)
