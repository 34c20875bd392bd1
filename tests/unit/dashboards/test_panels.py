import itertools

from hypothesis import given
from hypothesis import strategies as st

from dashboards import panels

SIZES = st.tuples(st.integers(1, 24), st.integers(1, 9))


@given(st.lists(st.lists(SIZES, max_size=8), max_size=5))
def test_panels_never_overlap_and_keep_their_order(rows):
    numbers = itertools.count(1)
    wanted = [
        (f"row {n}", [{"id": next(numbers), "gridPos": {"w": w, "h": h}} for w, h in sizes])
        for n, sizes in enumerate(rows)
    ]
    placed = panels.arrange(wanted)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in placed)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(0 <= x < 24 for x, _ in cells)
    reading = [(p["gridPos"]["y"], p["gridPos"]["x"]) for p in placed]
    assert reading == sorted(reading)
    assert [p["id"] for p in placed if p["id"] < 1000] == list(range(1, sum(map(len, rows)) + 1))


def test_builders_do_not_share_state():
    one, other = (
        panels.stat(n, "a", "b", "agents.success_now", "none", ((None, "red"),)) for n in (1, 2)
    )
    one["fieldConfig"]["defaults"]["mappings"][0]["type"] = "changed"
    assert other["fieldConfig"]["defaults"]["mappings"][0]["type"] == "special"


def test_a_link_quotes_what_it_carries():
    led = panels.link(
        "There", "board", ("agent",), version=".agent_version", tool="@tool", kind="x"
    )
    assert led["url"] == (
        "/d/board?${__url_time_range}&${agent:queryparam}"
        "&var-version=${__data.fields.agent_version:percentencode}"
        "&var-tool=${__field.labels.tool:percentencode}&var-kind=x"
    )
