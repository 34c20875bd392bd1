"""Fixtures of tests that run the pipeline's statements by hand."""

from __future__ import annotations

import pytest

from processors.clickhouse import Store
from tests.conftest import ClickHouse
from tests.integration.pipeline_harness import Pipeline
from tests.support.findings import store_of


@pytest.fixture
def pipeline(clickhouse: ClickHouse) -> Pipeline:
    return Pipeline(clickhouse)


@pytest.fixture
def store(clickhouse: ClickHouse) -> Store:
    return store_of(clickhouse)
