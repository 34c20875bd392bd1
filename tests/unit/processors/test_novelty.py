"""Requests unlike the known ones, in scripts with and without spaces."""

from __future__ import annotations

import numpy as np
import pytest

from processors.stations.novelty import LEARNT, Novelty
from tests.support.stations import T0, results

PIECES = {
    "en": ["where is", "please cancel", "my parcel", "the blue shirt", "return", "since monday",
           "for my sister", "from last order", "card", "what about", "shoes", "how long until"],
    "zh": ["请问", "我想取消", "包裹", "到哪里了", "蓝色衬衫", "订单", "退货", "上个月", "鞋子",
           "会员积分", "给我妹妹", "还要多久"],
    "ja": ["すみません", "荷物は", "どこですか", "注文を", "取り消したい", "靴の", "返品", "先月の",
           "ポイント", "残高", "妹に", "いつまで"],
    "th": ["ขอถามว่า", "พัสดุ", "อยู่ที่ไหน", "ยกเลิก", "คำสั่งซื้อ", "เสื้อสีฟ้า", "คืน", "รองเท้า",
           "เดือนก่อน", "คะแนน", "ให้น้องสาว", "อีกนานไหม"],
}  # fmt: skip
NEW = {
    "en": "compare mortgage interest against inflation",
    "zh": "比较房贷利率与通货膨胀",
    "ja": "住宅ローン金利とインフレ率を比較",
    "th": "เปรียบเทียบดอกเบี้ยบ้านกับเงินเฟ้อ",
}


def usual(language, n):
    """Requests of known matters, hardly two of them alike."""
    rng, pieces = np.random.default_rng(1), PIECES[language]
    space = " " if language == "en" else ""
    return [space.join(rng.permutation(pieces)[: rng.integers(4, 9)]) for _ in range(n)]


def new_requests(novelty, requests):
    """Requests that count as new, and those that were judged."""
    rows = results([(T0 + n, {"request": text}) for n, text in enumerate(requests)])
    found = novelty.step(rows)
    return found["total"].sum(), found["n"].sum()


@pytest.mark.parametrize("language", PIECES)
def test_requests_of_a_new_kind_are_told_from_known_ones(language):
    novelty, asked = Novelty(), usual(language, 2 * LEARNT + 100)
    assert new_requests(novelty, asked[: 2 * LEARNT]) == (0, 0)  # still learning
    assert new_requests(novelty, asked[2 * LEARNT :]) == (0, 100)
    assert new_requests(novelty, [NEW[language]] * 20) == (20, 20)


def test_a_stored_state_judges_as_before():
    novelty, known = Novelty(), usual("zh", 2 * LEARNT)
    new_requests(novelty, known)
    again = Novelty().load(novelty.dump())
    asked = [NEW["zh"], known[0]]
    assert new_requests(again, asked) == new_requests(novelty, asked) == (1, 2)
