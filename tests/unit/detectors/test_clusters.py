import json
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, v_measure_score

from bench import planted
from detectors.failures.clusters import FailureClusters
from detectors.failures.features import Failure, FailureFeatures
from detectors.failures.lineage import Transition
from detectors.failures.slices import over_represented
from detectors.failures.terms import Profiles, Rarity, Usage, terms_of
from detectors.failures.unassigned import Pool


@pytest.fixture(scope="module")
def fitted() -> tuple[FailureClusters, planted.Planted]:
    data = planted.stream(2000, 1)
    clusters = FailureClusters()
    clusters.assign_many(data.failures)
    clusters.refit(data.failures)
    return clusters, data


def labels(clusters: FailureClusters, failures) -> list[str]:
    found = [clusters.lookup(f) for f in failures]
    return [name or f"alone {i}" for i, name in enumerate(found)]


def test_planted_modes_are_recovered_where_the_fingerprint_cannot(fitted):
    clusters, data = fitted
    by_fingerprint = [f.fingerprint for f in data.failures]
    assert adjusted_rand_score(data.truth, by_fingerprint) <= 0.6
    found = labels(clusters, data.failures)
    assert adjusted_rand_score(data.truth, found) >= 0.85
    assert v_measure_score(data.truth, found) >= 0.90
    assert 32 <= len({name for name in found if " " not in name}) <= 60


def test_unseen_failures_of_known_modes_go_where_they_belong(fitted):
    clusters, _ = fitted
    again = FailureClusters.restore(clusters.snapshot())
    fresh = planted.stream(600, 99)
    found = again.assign_many(fresh.failures)
    alone = [name or f"alone {i}" for i, name in enumerate(found)]
    assert adjusted_rand_score(fresh.truth, alone) >= 0.85


def test_ids_survive_a_refit_and_a_restart(fitted):
    clusters, data = fitted
    before = labels(clusters, data.failures)
    again = FailureClusters.restore(json.loads(json.dumps(clusters.snapshot())))
    assert labels(again, data.failures) == before
    more = planted.stream(200, 5).failures
    clusters = FailureClusters.restore(clusters.snapshot())
    for restored in (clusters, again):
        restored.assign_many(more)
        restored.refit([*data.failures, *more])
    assert again.snapshot() == clusters.snapshot()  # deterministic
    after = labels(clusters, data.failures)
    members = Counter(name for name in before if " " not in name)
    kept = []
    for name in (n for n, size in members.items() if size >= 10):
        now = Counter(b for a, b in zip(before, after, strict=True) if a == name)
        kept.append(now.most_common(1)[0][0] == clusters.current(name))
    assert len(kept) >= 20
    assert np.mean(kept) >= 0.98


def test_a_new_mode_is_founded_between_refits():
    said = [
        "the drone battery was swapped for a kite",
        "a kite came in place of the drone battery",
        "drone battery replaced by kite again",
        "asked for drone battery, got kite",
    ]
    clusters = FailureClusters(min_new=4)
    found = [clusters.assign(Failure(tool="ship", text=text)) for text in said]
    assert found[:3] == ["", "", ""]
    assert found[3] != ""
    assert clusters.clusters[found[3]].size == 4
    assert clusters.assign(Failure(tool="ship", text=said[0])) == found[3]
    assert "kite" in clusters.name(found[3])
    assert clusters.novelty(Failure(text="qwertz asdf")) > 0.7


def test_an_exact_repeat_does_not_count_as_another_failure_of_its_kind():
    clusters = FailureClusters(min_new=3)
    same = Failure(tool="t", text="one odd thing happened to the printer")
    assert clusters.assign_many([same] * 10) == [""] * 10


def test_clusters_are_described(fitted):
    clusters, data = fitted
    for name in {x for x in labels(clusters, data.failures) if " " not in x}:
        cluster = clusters.clusters[name]
        assert cluster.name
        assert cluster.medoid is not None
        assert clusters.lookup(cluster.medoid) == name
        assert len({f.key for f in (cluster.medoid, *cluster.examples)}) == 1 + len(
            cluster.examples
        )


def test_merging_keeps_the_old_id_as_an_alias():
    clusters = FailureClusters(min_new=3)
    first, second = (
        [clusters.assign(Failure(tool=tool, reason=tool, text=text)) for text in said][-1]
        for tool, said in (
            ("fly", ["red kite torn", "torn kite red", "kite torn red again"]),
            ("sail", ["blue boat sunk", "sunk boat blue", "boat sunk blue again"]),
        )
    )
    clusters._follow([Transition("merged", first, second)])
    assert clusters.current(second) == first
    assert clusters.clusters[first].parents == [second]
    assert clusters.clusters[first].size == 6
    assert second not in clusters.clusters


def test_an_embedder_takes_the_place_of_the_svd():
    calls = []

    def embed(texts):
        calls.append(len(texts))
        return np.array([[len(t), t.count("a") + 1, 1.0] for t in texts])

    failures = planted.stream(50, 1).failures
    vectors = FailureFeatures(embed=embed).fit(failures).transform(failures)
    assert calls == [50]
    assert vectors.shape[0] == 50
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_profiles_and_rarity():
    a, b = (frozenset(x.split()) for x in ("red car stuck", "blue car lost"))
    profiles = Profiles({"a": Usage.of([a]), "b": Usage.of([b])})
    assert profiles.best(frozenset(["red"]))[0] == "a"
    assert profiles.best(frozenset(["unheard"])) == ("", 0.0)
    assert "car" not in profiles.label("a")  # both use it
    seen = Rarity()
    for _ in range(50):
        seen.add(frozenset(["common"]))
    weights = seen.weights(frozenset(["common", "rare"]))
    assert weights["rare"] > 10 * weights["common"]
    assert "tool=t" in terms_of(Failure(tool="t"))


def test_the_pool_forgets_the_oldest(monkeypatch):
    monkeypatch.setattr("detectors.failures.unassigned.CAPACITY", 2)
    pool = Pool()
    for key in "abc":
        pool.add(key, Failure(text=key), {"x": 1.0})
    assert len(pool) == 2
    assert pool.pop("a") is None
    assert sorted(pool.resembling("b", 0.5)) == ["b", "c"]
    assert pool.pop("b") is not None
    assert pool.resembling("c", 0.5) == ["c"]


def test_a_restart_at_any_time_changes_nothing():
    """Also between refits, when clusters were founded since the terms were weighed."""
    failures = planted.stream(900, 3).failures
    whole, parted = FailureClusters(), FailureClusters()
    for at in range(0, 900, 60):
        parted = FailureClusters.restore(json.loads(json.dumps(parted.snapshot())))
        for clusters in (whole, parted):
            clusters.assign_many(failures[at : at + 60])
            if at == 420:
                clusters.refit(failures[:480])
    assert parted.snapshot() == whole.snapshot()


def test_a_foreign_snapshot_is_refused():
    with pytest.raises(ValueError, match="not a snapshot"):
        FailureClusters.restore({"detector": "FailureClusters", "version": 7})


def test_a_small_cluster_survives_sparse_days(fitted):
    clusters, data = fitted
    again = FailureClusters.restore(clusters.snapshot())
    found = again.assign_many(data.failures)
    small = min((name for name in set(found) if name and found.count(name) >= 10), key=found.count)
    its = [f for f, name in zip(data.failures, found, strict=True) if name == small]
    others = [f for f, name in zip(data.failures, found, strict=True) if name != small][:600]
    for window in ([*others, *its[:2]], others, [*others, *its[2:4]]):
        again.refit(window)
        assert again.current(small) == small
    assert again.lookup(its[5]) == small


def test_tiny_windows_change_nothing():
    clusters = FailureClusters()
    assert clusters.refit([Failure(text="x")]) == []


def test_attributes_of_a_cluster_stand_out_with_their_interval(fitted):
    clusters, data = fitted
    found = labels(clusters, data.failures)
    main = Counter(name for name in found if " " not in name).most_common(1)[0][0]
    inside = [f for f, name in zip(data.failures, found, strict=True) if name == main]
    outside = [f for f, name in zip(data.failures, found, strict=True) if name != main]
    counted = [Counter(f"tool={f.tool}" for f in group) for group in (inside, outside)]
    lifts = over_represented(counted[0], len(inside), counted[1], len(outside))
    tools = Counter(f.tool for f in inside)
    assert lifts[0].attribute == f"tool={tools.most_common(1)[0][0]}"
    assert 1 < lifts[0].low < lifts[0].lift < lifts[0].high


def test_what_resembles_nothing_is_more_novel_than_what_is_known(fitted):
    clusters, data = fitted
    known = [clusters.novelty(f) for f in data.failures[:300] if clusters.lookup(f)]
    alien = [clusters.novelty(Failure(text=f"zorp {w} quux {w}ish")) for w in ("flim", "brax")]
    assert 0 <= min(known) <= max(known) < min(alien) <= 1
