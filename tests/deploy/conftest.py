"""What the validators need; without them a test is skipped, or fails where they are required."""

from __future__ import annotations

import os

import pytest

from tests.deploy.rendering import TOOLS

_NEEDED = {
    "test_chart.py": TOOLS / "bin" / "helm",
    "test_compose.py": TOOLS / "bin" / "compose",
}


@pytest.fixture(autouse=True)
def _tools(request: pytest.FixtureRequest) -> None:
    tool = _NEEDED.get(request.path.name)
    if tool is not None and not tool.exists():
        message = f"{tool.name} is not built: make test-deploy builds it where there is Go"
        if os.environ.get("DRIFTLINE_REQUIRE_SERVICES"):
            pytest.fail(message)
        pytest.skip(message)
