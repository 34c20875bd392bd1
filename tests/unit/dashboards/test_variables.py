"""No name of an agent, however hostile, leaves the quotes that a dashboard puts around it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import chdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.queries import _for_grafana
from tests.support.grafana_macros import ALL, back_end, front_end

SELECTED_AGENT = _for_grafana("agent", "labels", None, rule=False)
SELECTED = f"{_for_grafana('environment', 'labels', None, rule=False)} AND {SELECTED_AGENT}"
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)

HOSTILE = [
    "plain", "back\\", "\\", "it's", "\\' OR 1=1 --", "' OR '1'='1", "\\\\'", "a,b", "a&b=c",
    "100%", "%27", "a+b c", "日本語 🙂", "line\nend", "tab\t", "$agent", "${environment}",
    "$__fromTime", "(", ")", "*", "!~-_.", "\x1b[31m", "var-agent=x",
]  # fmt: skip


def chosen(
    names: list[str], choice: list[str] | None, condition: str = SELECTED_AGENT
) -> list[str]:
    """Names that the condition lets through on the real engine."""
    literals = ", ".join(f"('{n.encode().hex()}')" for n in names)
    table = f"(SELECT unhex(h) AS agent, 'e' AS environment FROM values('h String', {literals}))"
    sql = f"SELECT agent FROM {table} WHERE {condition}"
    sql = back_end(front_end(sql, {"agent": choice, "environment": ALL}), START, END)
    rows = str(chdb.query(sql, "JSONCompactEachRow")).split("\n")[:-1]
    return sorted(json.loads(row)[0] for row in rows)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_selects_itself_and_nothing_else(name: str) -> None:
    assert chosen(HOSTILE, [name]) == [name]
    assert chosen(HOSTILE, [name, "plain"], SELECTED) == sorted({name, "plain"})


def test_all_of_them() -> None:
    assert chosen(HOSTILE, HOSTILE) == sorted(HOSTILE)
    assert chosen(HOSTILE, ALL) == sorted(HOSTILE)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
        min_size=1,
    )
)
def test_any_names(names: list[str]) -> None:
    others = [f"{name}x" for name in names]
    assert chosen([*names, *others], names) == sorted(n for n in [*names, *others] if n in names)
