"""Whose an id is, and whom an evaluation may speak of."""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.access import Grant
from ingest.codec import decode, encode
from ingest.core.events import SCOPE, Event
from processors.derive import scopes
from processors.write import rows

FAR = 4_102_444_800 * 10**9


def named(*used: tuple[str, str]) -> list[str]:
    frame = pl.DataFrame(used, schema=["trace", "scope"], orient="row")
    return frame.select(scopes.of_traces().alias("n"))["n"].to_list()


def test_an_id_of_one_scope_stays_as_it_is() -> None:
    assert named(("t", ""), ("t", ""), ("a/b", "")) == ["t", "t", "a/b"]
    assert named(("t", "production/bank"), ("u", "staging")) == ["t", "u"]


def test_of_several_the_trusted_one_keeps_it_else_the_first() -> None:
    assert named(("t", "staging/shop"), ("t", ""), ("t", "/a,b")) == [
        "t@scope:staging:shop", "t", "t@scope::a,b",
    ]  # fmt: skip
    assert named(("t", "staging"), ("t", "production/bank")) == ["t@scope:staging", "t"]


def test_nobody_bound_takes_what_looks_like_the_name_of_another() -> None:
    """Not that of a further interaction, and not that within a scope."""
    assert named(("t/e1", "staging/shop")) == ["t/e1@scope:staging:shop"]
    forged = "t@scope:production:bank"
    assert named((forged, "staging")) == [f"{forged}@scope:staging"]


SCOPES = ["", "production", "production/bank", "staging/shop", "/shop", "dev/a,b"]


@given(st.lists(st.tuples(st.sampled_from(["t", "u", "t/e"]), st.sampled_from(SCOPES)), min_size=1))
def test_no_two_scopes_share_a_name(used: list[tuple[str, str]]) -> None:
    """In any order; and a name says which id it is of."""
    names = dict(zip(used, named(*used), strict=True))
    assert len(set(names.values())) == len(names)
    assert names == dict(zip(used[::-1], named(*used[::-1]), strict=True))
    assert all(scopes.root(name) == trace for (trace, _), name in names.items())


@pytest.mark.parametrize(
    ("grant", "environment", "agent", "may"),
    [
        (Grant("t"), "production", "bank", True),
        (Grant("t", "production"), "production", "bank", True),
        (Grant("t", "staging"), "production", "bank", False),
        (Grant("t", "production", frozenset({"bank", "shop"})), "production", "bank", True),
        (Grant("t", "production", frozenset({"shop"})), "production", "bank", False),
        (Grant("t", None, frozenset({"bank"})), "anywhere", "bank", True),
        (Grant("t", None, frozenset({"bankers"})), "production", "bank", False),
    ],
)
def test_a_scope_admits_its_environment_and_agents(
    grant: Grant, environment: str, agent: str, may: bool
) -> None:
    frame = pl.DataFrame(
        {"scope": [grant.scope or ""], "environment": [environment], "agent": [agent]}
    )
    assert frame.select(scopes.admits()).item() is may


def stored(*attributes: dict[str, str] | None) -> pl.DataFrame:
    events = [
        Event(event_id=f"e{n}", time_unix_nano=1, agent="a", kind="score", attributes=given)
        for n, given in enumerate(attributes)
    ]
    place = np.zeros(1, np.uint32), np.zeros(1, np.uint64)
    return rows.event_rows(decode([encode(events)], [FAR]), "log", *place)


def test_the_attribute_becomes_a_column_where_any_event_has_it() -> None:
    assert "scope" not in stored(None).columns
    assert "scope" not in stored(None, {"note": f'"{SCOPE}":"x"'}).columns
    found = stored(None, {"a": "b", SCOPE: "staging/shop"}, {"note": "none"})
    assert found["scope"].to_list() == ["", "staging/shop", ""]
    assert rows.evaluation_rows(found)["scope"].to_list() == found["scope"].to_list()


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=4), st.text(max_size=20))
def test_no_text_of_a_sender_is_taken_for_it(others: dict[str, str], scope: str) -> None:
    tricks = {f'x"{SCOPE}': "forged", f'a,"{SCOPE}': "forged", "v": f'{{"{SCOPE}":"forged"}}'}
    event = {**tricks, **others, SCOPE: scope}
    assert stored(event, tricks)["scope"].to_list() == [scope, ""]
    assert msgspec.json.decode(stored(event)["attributes"][0])[SCOPE] == scope
