import itertools

from hypothesis import given
from hypothesis import strategies as st

from dashboards import panels
from dashboards.query import layout

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
    one, other = (panels.stat(n, "a", "b", "SELECT 1", "none", ((None, "red"),)) for n in (1, 2))
    one["fieldConfig"]["defaults"]["mappings"][0]["type"] = "changed"
    assert other["fieldConfig"]["defaults"]["mappings"][0]["type"] == "special"


def test_layout_follows_the_brackets():
    sql = """
            SELECT a,
        b
      FROM (
                SELECT count(
            c) AS a FROM t
        ) WHERE x
    """
    assert layout(sql).split("\n") == [
        "SELECT a,",
        "    b",
        "FROM (",
        "    SELECT count(",
        "            c) AS a FROM t",
        ") WHERE x",
    ]
