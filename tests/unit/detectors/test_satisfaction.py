"""Features, language, calibration and estimator of satisfaction."""

# ruff: noqa: RUF001

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from bench.sequences import SequenceModel
from detectors.outcomes import Traffic
from detectors.satisfaction import FEATURES, Estimator, turns
from detectors.satisfaction import features as described
from detectors.satisfaction.calibration import Calibration, Probabilities, _isotonic, expected_error
from detectors.satisfaction.features import CONTEXT, PRIOR
from detectors.satisfaction.fitting import fit, splits
from detectors.satisfaction.labels import labels
from detectors.satisfaction.language import language
from detectors.satisfaction.quality import auc, auc_interval, f1, intervals_that_cover
from tests.unit.detectors.outcome_events import agent, closing, failing, frame, tool, user

CONTENT = [user("where is my order"), agent("It is on its way."), closing()]


def features(events: pl.DataFrame) -> pl.DataFrame:
    return described(turns(Traffic(events)))


def row(*interactions: list[dict[str, Any]], number: int = 0) -> dict[str, Any]:
    return features(frame(*interactions)).row(number, named=True)


@pytest.mark.parametrize(
    ("cue", "says", "does_not"),
    [
        ("correction", "No, that is the other one", "I have no idea"),
        ("correction", "不对，我要的是另一个", "好的"),
        ("blame", "you didn't send it", "you are kind"),
        ("blame", "你没有回答", "你好"),
        ("frustration", "This is ridiculous!", "This is fine"),
        ("frustration", "太差了，浪费时间", "还可以"),
        ("thanks", "Thank you so much", "I am here"),
        ("thanks", "谢谢你", "在吗"),
        ("asks_for_human", "Let me talk to a real person", "I am a person"),
        ("asks_for_human", "转人工", "机器"),
        ("unclear", "I don't understand", "I understand"),
        ("unclear", "什么意思", "意思是这样"),
        ("still_broken", "it still doesn't work", "it works"),
        ("still_broken", "还是不能用", "可以用"),
        ("shouting", "WHERE IS IT NOW", "where is it NOW"),
        ("exclamations", "Where is it??", "Where is it?"),
    ],
)
def test_cues_of_the_users_turns(cue: str, says: str, does_not: str) -> None:
    for text, expected in ((says, 1.0), (does_not, 0.0)):
        followed = row(CONTENT, [user(text), agent("ok"), closing()])
        assert followed[f"next_{cue}"] == expected, text
        assert row([user(text), closing()])[f"request_{cue}"] == expected, text


def test_repeats_and_answers() -> None:
    again = [user("Where is my order now"), agent("It is on its way."), closing()]
    first = row(CONTENT, again)
    assert first["next_repeats"] == pytest.approx(0.8)
    assert first["answer_repeated"] == 1.0
    assert row(CONTENT)["has_next"] == 0.0
    asked = row([user("cancel"), agent("Sorry, which order do you mean?"), closing()])
    assert (asked["answer_apology"], asked["answer_question"], asked["left_after_question"]) == (
        1,
    ) * 3
    refused = row([user("cancel"), agent("I cannot help with that."), closing()])
    assert refused["answer_refusal"] == 1.0


def test_work_and_missing_answers() -> None:
    found = row([user("x"), failing("a"), failing("a"), closing(status="error")])
    assert found["failed_calls"] == pytest.approx(np.log1p(2))
    assert (found["unrecovered"], found["ended_in_error"], found["answer_missing"]) == (1, 1, 1)
    handed = row([user("x"), tool("transfer_to_human_agents"), closing()])
    assert (handed["handed_over"], handed["failed_calls"]) == (1, 0)


def test_interactions_without_a_users_turn_have_no_row() -> None:
    assert features(frame([tool("a"), closing()])).is_empty()
    assert features(frame([user(None), agent("Hi"), closing()])).is_empty()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Where is my order?", "en"),
        ("ok", "en"),
        ("我的订单在哪里", "zh"),
        ("order W123 在哪里", "zh"),
        ("注文はどこですか", "ja"),
        ("주문이 어디에 있나요", "ko"),
        ("Где мой заказ?", "ru"),
        ("Wo bleibt meine Bestellung, die gestern kommen sollte?", "other"),
        ("¿Dónde está mi pedido número siete?", "other"),
        ("12345 !!", None),
    ],
)
def test_languages(text: str, code: str | None) -> None:
    assert pl.DataFrame({"t": [text]}).select(language(pl.col("t"))).item() == code


def test_other_languages_report_low_coverage() -> None:
    estimator = Estimator.load()
    texts = {
        "hello there, where is it": 0.5,
        "你好，订单呢": 0.5,
        "Wo bleibt meine Bestellung denn heute": 0.125,
    }
    for text, coverage in texts.items():
        found = estimator.predict(features(frame([user(text), agent("ok"), closing()])))
        assert found["coverage"].to_list() == [coverage]
    followed = estimator.predict(features(frame(CONTENT, CONTENT)))
    assert followed["coverage"].to_list() == [1.0, 0.5]


_TURNS = st.sampled_from(
    [user("please cancel it"), user("不对"), agent("Sorry?"), tool("a"), failing("a"), closing()]
)


@settings(max_examples=30, deadline=None)
@given(
    interactions=st.lists(st.lists(_TURNS, max_size=8), min_size=1, max_size=3),
    seed=st.integers(0, 2**31),
)
def test_neither_row_order_nor_repeats_matter(
    interactions: list[list[dict[str, Any]]], seed: int
) -> None:
    events = frame(*interactions)
    shuffled = pl.concat([events, events]).sample(fraction=1.0, shuffle=True, seed=seed)
    assert features(shuffled).equals(features(events))


def test_alone_an_estimate_does_not_depend_on_the_other_interactions() -> None:
    estimator = Estimator.load()
    angry = [user("No! This is useless"), agent("ok"), closing()]
    found = [
        estimator.predict(features(frame(CONTENT, *more)), alone=True).row(0, named=True)
        for more in ([], [CONTENT, angry])
    ]
    assert found[0] == found[1]
    assert found[0]["coverage"] == 0.5


def test_an_angry_turn_is_more_dissatisfied_than_a_content_one() -> None:
    estimator = Estimator.load()
    angry = [user("No! This is useless, connect me to a human"), agent("ok"), closing()]
    thankful = [user("thank you"), agent("Bye"), closing()]
    found = [
        estimator.predict(features(frame(CONTENT, turn)))["p"][0] for turn in (angry, thankful)
    ]
    assert found[0] > found[1] + 0.1


def test_the_shipped_weights_have_the_sign_of_what_they_mean() -> None:
    estimator = Estimator.load()
    for score in (estimator.within, estimator.alone):
        assert score.weights
        for name, weight in score.weights.items():
            assert weight * PRIOR.get(name, weight) >= 0, name
    assert not set(estimator.alone.weights) & set(CONTEXT)


def test_an_estimator_survives_its_text() -> None:
    estimator = Estimator.load()
    again = Estimator.load(estimator.dump())
    assert again.dump() == estimator.dump()
    table = features(frame(CONTENT, CONTENT))
    assert again.predict(table).equals(estimator.predict(table))


@pytest.mark.parametrize(
    "change",
    [
        {"weights": {"no_such_feature": 1.0}},
        {"weights": {"next_blame": 1.0}},
        {"weights": [1.0]},
        {"intercept": "high"},
        {"calibration": {"edges": [0.0], "p": [0.1], "low": [0.0], "high": [1.0]}},
        {"calibration": {"edges": [1.0, 0.0], "p": [0, 0, 0], "low": [0, 0, 0], "high": [1, 1, 1]}},
        {"calibration": {}},
    ],
)
def test_what_is_no_estimator_is_refused(change: dict[str, Any]) -> None:
    body = json.loads(Estimator.load().dump())
    with pytest.raises(ValueError, match="not an estimator"):
        Estimator.load(json.dumps(body | {"format": 1}))
    body["alone"] |= change
    with pytest.raises(ValueError, match="not an estimator"):
        Estimator.load(json.dumps(body))
    with pytest.raises(ValueError, match="not an estimator"):
        Estimator.load("[1")


def test_isotonic_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        n = rng.integers(1, 9, 30).astype(float)
        yes = rng.binomial(n.astype(int), 0.4).astype(float)
        expected = IsotonicRegression().fit_transform(np.arange(30), yes / n, sample_weight=n)
        assert _isotonic(yes, n) == pytest.approx(expected)


def test_calibrated_probabilities_are_right_and_their_intervals_cover() -> None:
    rng = np.random.default_rng(2)
    score = rng.normal(size=6000)
    truth = 1 / (1 + np.exp(-(2 * score - 1)))
    y = rng.random(6000) < truth
    found = Calibration.fit(score[:3000], y[:3000])(score[3000:])
    assert expected_error(found.p, y[3000:]) < 0.03
    inside = (found.low <= truth[3000:]) & (truth[3000:] <= found.high)
    assert inside.mean() > 0.9
    assert (found.low <= found.p).all() and (found.p <= found.high).all()
    assert intervals_that_cover(found, y[3000:]).value == 1.0
    wrong = Probabilities(found.p + 0.2, found.low + 0.2, found.high + 0.2)
    assert (intervals_that_cover(wrong, y[3000:]).value or 0) < 0.5


def test_few_points_give_wide_intervals() -> None:
    few = Calibration.fit([0.0, 1.0], [0, 1])([0.5])
    assert few.high[0] - few.low[0] > 0.7
    with pytest.raises(ValueError, match="nothing to calibrate"):
        Calibration.fit([], [])


def test_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    y = rng.random(200) < 0.3
    scores = np.round(y + rng.normal(size=200), 1)  # with ties
    assert auc(scores, y) == pytest.approx(roc_auc_score(y, scores))
    found = auc_interval(scores, y, np.arange(200) // 4, seed=1)
    assert found.low is not None and found.high is not None and found.value is not None
    assert found.low < found.value < found.high
    assert auc([1, 2], [1, 1]) is None
    assert f1([True, True, False], [True, False, True]) == pytest.approx(0.5)
    assert f1([False], [False]) is None


def labelled(n: int, seed: int) -> tuple[pl.DataFrame, np.ndarray[Any, Any], list[str]]:
    rng = np.random.default_rng(seed)
    table = pl.DataFrame({name: np.zeros(n) for name in FEATURES})
    blame, thanks = rng.random(n) < 0.3, rng.random(n) < 0.3
    odds = -1 + 2.0 * blame - 2.0 * thanks
    y = (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(int)
    table = table.with_columns(
        next_blame=pl.Series(blame).cast(pl.Float64), next_thanks=pl.Series(thanks).cast(pl.Float64)
    )
    return table, y, [f"s{i // 3}" for i in range(n)]


def test_a_fit_finds_what_is_there_and_keeps_what_is_believed_elsewhere() -> None:
    table, y, groups = labelled(3000, 4)
    estimator = fit(table, y, groups, {"made up": 3000})
    assert estimator.within.weights["next_blame"] == pytest.approx(2.0, abs=0.4)
    assert estimator.within.weights["next_thanks"] == pytest.approx(-2.0, abs=0.4)
    assert estimator.within.weights["next_frustration"] == pytest.approx(PRIOR["next_frustration"])
    assert "seconds_to_next" not in estimator.within.weights
    assert fit(table, y, groups, {"made up": 3000}).dump() == estimator.dump()


def test_labels_against_what_is_believed_stop_at_zero() -> None:
    table, y, groups = labelled(3000, 5)
    estimator = fit(table, 1 - y, groups, {})
    assert estimator.within.weights.get("next_blame", 0.0) == 0.0


def test_shares_of_sources_do_not_become_weights() -> None:
    table, y, groups = labelled(2000, 6)
    source = np.array(["a", "b"]).repeat(1000)
    rng = np.random.default_rng(7)
    y = np.where(source == "b", rng.random(2000) < 0.9, rng.random(2000) < 0.1).astype(int)
    table = table.with_columns(turn_number=pl.Series((source == "b").astype(float) * 2))
    with_sources = fit(table, y, groups, {}, sources=source)
    without = fit(table, y, groups, {})
    assert (
        abs(with_sources.within.weights["turn_number"])
        < 0.2
        < without.within.weights["turn_number"]
    )


def test_too_few_labels_are_refused() -> None:
    table, _, groups = labelled(30, 8)
    with pytest.raises(ValueError, match="at least 5"):
        fit(table, np.zeros(30), groups, {})


def test_folds_keep_groups_together() -> None:
    groups = np.arange(100) // 5
    for train, test in splits(np.arange(100) % 2, groups, seed=1):
        assert not set(groups[train]) & set(groups[test])


def test_labels_come_from_the_interaction_else_from_its_session() -> None:
    events = frame(CONTENT, CONTENT, CONTENT)

    def said(target: str, kind: str, value: float | None) -> pl.DataFrame:
        new = {"event_id": f"f{target}{value}", "kind": kind, "target": target, "value": value}
        return pl.DataFrame([new], schema_overrides={"value": pl.Float64})

    told = pl.concat(
        [
            events,
            said("1", "feedback", 1.0),
            said("s", "outcome", 0.0),
            said("2", "feedback", None),
        ],
        how="diagonal",
    )
    assert labels(told).rows() == [("0", "s", 1), ("1", "s", 0), ("2", "s", 1)]
    assert labels(pl.concat([events, said("1", "score", 0.0)], how="diagonal")).is_empty()


def test_sequences_learn_an_order() -> None:
    rng = np.random.default_rng(9)
    dialogues, y = [], []
    for _ in range(400):
        acts = rng.choice(["a", "b", "c"], size=8).tolist()
        bad = bool(rng.random() < 0.5)
        at = int(rng.integers(7))
        acts[at : at + 2] = ["ask", "negate"] if bad else ["negate", "ask"]
        dialogues.append(tuple(acts))
        y.append(bad)
    model = SequenceModel.fit(dialogues[:300], y[:300])
    found = model.predict(dialogues[300:])
    assert (auc(found.p, y[300:]) or 0) > 0.95
    assert expected_error(found.p, y[300:]) < 0.15
