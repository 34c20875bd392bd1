"""Fixtures of tests that run the pipeline's statements by hand."""

from __future__ import annotations

import pytest

from tests.conftest import ClickHouse
from tests.integration.pipeline_harness import Pipeline


@pytest.fixture
def pipeline(clickhouse: ClickHouse) -> Pipeline:
    return Pipeline(clickhouse)
