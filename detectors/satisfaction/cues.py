"""How users say that they are content or not, in English and Chinese."""

from __future__ import annotations

from typing import Final


def _any(*phrases: str) -> str:
    return "(?i)(?:" + "|".join(phrases) + ")"


USER_CUES: Final[dict[str, str]] = {
    "correction": _any(
        r"^\W*(?:no+|nope|wrong|incorrect|not (?:that|what|the)|that'?s (?:not|wrong)|i said"
        r"|i meant|again[,:])\b",
        r"\bthat(?:'s| is| was)(?: not|n'?t) (?:what|right|correct|it)\b",
        "不对", "不是(?:这|那)", "错了", "我(?:说的|的意思)是", "重新",
    ),
    "blame": _any(
        r"\byou (?:(?:did|do|are|were|have|would|ca)(?:n'?t| not)|never|keep|still)\b",
        "你(?:没|没有|不|老是|总是|怎么)",
    ),
    "frustration": _any(
        r"\b(?:ridiculous|useless|terrible|awful|horrible|stupid|worst|unacceptable|damn|nonsense"
        r"|pathetic|disappoint\w*|frustrat\w*|annoy\w*|angry|upset|hate|fed up|wtf)\b",
        r"\b(?:waste of time|what the hell|not help(?:ful|ing)?|did ?n[o']t help|come on)\b",
        "垃圾", "太差", "没用", "烦", "气死", "失望", "无语", "浪费时间", "投诉", "什么破",
    ),
    "thanks": _any(
        r"\b(?:thank\w*|thx|perfect|awesome|great|excellent|appreciate|wonderful|helpful|solved"
        r"|that works|works now)\b",
        "谢谢", "感谢", "太好了", "完美", "明白了", "解决了", "辛苦",
    ),
    "asks_for_human": _any(
        r"\b(?:speak|talk|transfer|connect|escalat\w*|pass)\b.{0,40}\b(?:human|agent|person"
        r"|representative|supervisor|manager|someone|operator)\b",
        r"\b(?:real|actual|live) (?:person|human|agent)\b",
        "人工", "真人", "找(?:你们)?(?:客服|经理)",
    ),
    "unclear": _any(
        r"\b(?:what do you mean|(?:do ?n[o']t|not) understand|confus\w*|makes? no sense|huh)\b",
        "什么意思", "不明白", "听不懂", "看不懂",
    ),
    "still_broken": _any(
        r"\b(?:error|not work(?:ing)?|does ?n[o']t work|did ?n[o']t work|failed|broken|still (?:not"
        r"|no|can'?t|does ?n[o']t|have|having|the same))\b",
        "报错", "不行", "还是(?:不|没)", "没反应", "失败", "不能用",
    ),
}  # fmt: skip
"""Pattern of each cue in a user's turn."""

APOLOGY: Final = _any(r"\b(?:sorry|apolog\w+|my mistake)\b", "抱歉", "对不起", "不好意思")
"""The agent apologises."""
