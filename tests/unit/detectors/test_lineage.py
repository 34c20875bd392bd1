"""What becomes of clusters at a refit."""

import numpy as np

from detectors.failures.lineage import Transition, absorb, match
from detectors.failures.regroup import Window, regroup
from detectors.failures.terms import Usage, affinity


def matched(before, after, weights=None, few=1):
    fresh = iter(["new1", "new2", "new3"])
    weights = weights or [1] * len(before)
    return match(list(before), after, weights, lambda group: next(fresh), few)


def test_a_split_gives_the_id_to_the_larger_part():
    names, transitions = matched("aaaaaaa", [0, 0, 0, 0, 1, 1, 1])
    assert names == {0: "a", 1: "new1"}
    assert transitions == [Transition("survived", "a"), Transition("split", "new1", "a")]


def test_a_merge_keeps_the_id_of_the_larger_one():
    names, transitions = matched("aaabb", [0] * 5)
    assert names == {0: "a"}
    assert transitions == [Transition("survived", "a"), Transition("merged", "a", "b")]


def test_what_few_failures_say_ends_no_cluster():
    names, transitions = matched("aaaaaab", [0] * 7, few=5)
    assert (names, transitions) == ({0: "a"}, [Transition("survived", "a")])


def test_the_most_failures_keep_their_id_not_the_purest_cluster():
    # a part of 4 that is all of its group, and a part of 5 in a group that others joined
    names, _ = matched("aaaaaaaaa", [0, 0, 0, 0, 1, 1, 1, 1, 1])
    assert names == {1: "a", 0: "new1"}
    names, _ = matched(["a"] * 9 + [""] * 3, [0] * 4 + [1] * 8)
    assert names == {1: "a", 0: "new1"}


def test_weights_count():
    names, _ = matched("aa", [0, 1], weights=[1, 9])
    assert names == {1: "a", 0: "new1"}


def test_nothing_known_and_nothing_found():
    assert matched(["", ""], [0, 0]) == ({0: "new1"}, [Transition("born", "new1")])
    assert matched("aa", [-1, -1]) == ({}, [])


def test_aliases_follow_a_chain_of_merges():
    aliases: dict[str, str] = {}
    absorb(aliases, "a", "b")
    absorb(aliases, "b", "c")
    assert aliases == {"a": "c", "b": "c"}


def test_a_core_that_mixes_two_known_clusters_does_not_mix_them():
    torn = [frozenset(["kite", "torn", f"w{i}"]) for i in range(8)]
    sunk = [frozenset(["boat", "sunk", f"v{i}"]) for i in range(8)]
    other = [frozenset(["pin", "lost", f"u{i}"]) for i in range(8)]
    window = Window(
        [*torn, *sunk, *other],
        ["a"] * 8 + ["b"] * 8 + [""] * 8,
        {"a": Usage.of(torn), "b": Usage.of(sunk)},
        few=5,
    )
    cores = np.array([0] * 16 + [1] * 8)
    groups, limit = regroup(window, cores, join=0.4, limit=0.3)
    assert len({tuple(groups[i : i + 8]) for i in (0, 8, 16)}) == 3
    assert all(len(set(groups[i : i + 8])) == 1 for i in (0, 8, 16))
    assert 0.15 <= limit <= 0.35


def test_affinity_is_a_similarity():
    usages = [Usage.of([frozenset(t.split())]) for t in ("a b c", "a b d", "e f", "")]
    near = affinity(usages)
    assert np.allclose(near, near.T)
    assert np.allclose(np.diag(near)[:3], 1)
    assert 0 < near[0, 1] < 1
    assert near[0, 2] == 0
    assert not near[3].any()
    assert not affinity([Usage(), Usage()]).any()


def test_words_out_of_use_fade():
    old, new = Usage.of([frozenset(["old"])] * 4), Usage.of([frozenset(["new"])] * 4)
    usage = new.plus(old, 0.5)
    assert usage == Usage({"new": 4.0, "old": 2.0}, 6.0)
    for _ in range(6):
        usage = new.plus(usage, 0.3)
    assert set(usage.counts) == {"new"}
