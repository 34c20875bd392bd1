"""How refusals, apologies, claims of success and error texts are worded, in English and Chinese.

Every pattern is one alternation for a linear-time engine. Agents that speak other languages are
judged by what does not depend on words.
"""

from __future__ import annotations

from typing import Final

import polars as pl


def _any(*phrases: str) -> str:
    return "(?i)(?:" + "|".join(phrases) + ")"


REFUSAL: Final = _any(
    r"\bI(?:'m| am) (?:sorry,? (?:but )?I (?:can't|cannot|can not|am unable|am not able))",
    r"\bI(?:'m| am) (?:unable|not able|not allowed|not permitted) to\b",
    r"\bI (?:can't|cannot|can not|won't|will not) (?:help|assist|do|provide|fulfil|comply|answer)",
    r"\b(?:can't|cannot|unable to) (?:help|assist|comply)\b",
    r"against (?:our|my|company) polic(?:y|ies)",
    "抱歉.{0,6}(?:无法|不能|没办法)",
    "我(?:无法|不能)(?:帮|提供|回答|协助|处理|满足)",
    "很遗憾.{0,6}(?:无法|不能)",
)
"""The agent says that it will not or cannot do what was asked."""

ERROR_ADMITTED: Final = _any(
    r"traceback \(most recent call last\)",
    r"\b\w+(?:Error|Exception): ",
    r"\b(?:HTTP|status(?: code)?) ?[45]\d\d\b",
    r"\b(?:internal server error|bad gateway|service unavailable|gateway timeout)\b",
    r"\bsomething went wrong\b",
    r"\b(?:technical|system|server) (?:issue|error|problem|difficult)",
    r"\ban? (?:unexpected |internal )?error (?:occurred|has occurred|came up)",
    r"\bI (?:could not|couldn't|was unable to|wasn't able to) (?:look up|reach|access|retrieve"
    r"|load)\b",
    "(?:系统|服务器|网络)(?:错误|异常|故障|繁忙)",
    "出(?:了点|现了?)?(?:问题|错误|错了)",
    "服务(?:暂时)?不可用",
)
"""The answer shows the text of an error or says that something technical failed."""

SUCCESS_CLAIMED: Final = _any(
    r"\bsuccessful(?:ly)?\b",
    r"\b(?:has|have|is|are) (?:now )?(?:been )?(?:updated|cancell?ed|processed|completed|changed"
    r"|modified|booked|created|sent|submitted|refunded|fixed|resolved|confirmed|set up)\b",
    r"\bI(?:'ve| have) (?:now )?(?:updated|cancell?ed|processed|completed|changed|modified|booked"
    r"|created|sent|submitted|refunded|fixed|resolved|confirmed|opened|set)\b",
    r"\ball (?:set|done)\b",
    "已(?:经)?(?:成功|完成|为您|帮您|取消|修改|更新|提交|处理|退款|发送|创建|预订)",
    "(?:成功|办理好|处理好)了?",
)
"""The answer says that something was done."""

FAILURE_ADMITTED: Final = _any(
    r"\b(?:un(?:able|fortunately|successful)|sorry|apologi[sz]e|fail(?:ed|s|ure)?|error|cannot"
    r"|can't|could ?n[o']t|did ?n[o']t|was ?n[o']t|not (?:possible|found|available))\b",
    "抱歉|对不起|很遗憾|失败|无法|不能|错误|未能",
)
"""The answer says that something was not done: then it claims no success."""

PROBLEM: Final = _any(
    r"\b(?:failed|failure|error|cannot|can't|can not|could not|unable)\b",
    "失败|无法|不能|错误",
)
"""A short result of a check says that what it checked does not work."""

PROBLEM_CHARACTERS: Final = 300
"""A longer result is data that may hold such words for other reasons."""

HUMAN: Final = _any(
    r"human", r"live[_ -]?(?:agent|person|chat)", r"representative", r"operator", r"escalat",
    "人工", "转接",
)  # fmt: skip
"""Name of a hand-over tool or target that is a person."""

UNKNOWN_TOOL: Final = _any(
    r"\b(?:unknown|unrecogni[sz]ed|undefined|invalid|no such|non-?existent) (?:tool|function)\b",
    r"\b(?:tool|function) [^.]{0,80}?(?:not found|does not exist|is not (?:defined|available"
    r"|registered|a (?:valid|known)))",
    "(?:工具|函数).{0,40}(?:不存在|未找到)",
)

BAD_ARGUMENTS: Final = _any(
    r"\b(?:missing|unexpected|unknown|required|invalid|unrecogni[sz]ed) (?:\w+ ){0,4}"
    r"(?:argument|parameter|field|property|keyword)",
    r"\b(?:argument|parameter|field)s? [^.]{0,80}?(?:missing|required|invalid|must be|not valid)",
    r"\bvalidation(?:_| )?error\b",
    r"^validation$",
    r"\b(?:schema|json) (?:validation|decode|parse)",
    r"\binvalid (?:json|arguments|type|format)\b",
    "参数.{0,20}(?:错误|缺失|无效|不正确)",
)

LIMIT_REACHED: Final = _any(
    r"(?:max|too_many|limit)[_ ]?(?:steps|iterations|turns|tokens|errors|calls|time|budget)",
    r"(?:recursion|step|iteration|turn|token|cost|time|budget)[_ ]?(?:limit|exceeded|exhausted)",
    r"^(?:GraphRecursionError|MaxTurnsExceeded|ContextWindowExceededError|exit_cost"
    r"|exit_context)$",
)
"""Type of an error with which a run was stopped at a limit."""

TRUNCATED: Final = (
    r"(?i)finish_reasons?\"?[\s:=\[\\\"']{1,10}(?:length|max_tokens|max_output_tokens|MAX_TOKENS)"
)
"""Attributes of a model call that ended at its output limit."""

GREETING: Final = _any(
    r"^\W*(?:hi|hello|welcome|good (?:morning|afternoon|evening))\b",
    r"\bhow (?:can|may) I (?:help|assist)",
    "^\\W*(?:您好|你好|欢迎)",
    "有什么可以帮",
)
"""An opening message of the agent."""

QUESTION: Final = "[?\uff1f]\\W*$"


def words(text: pl.Expr) -> pl.Expr:
    """Hashes of the distinct words; of Chinese, Japanese and Korean text of the characters."""
    found = text.str.to_lowercase().str.extract_all(
        r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]|[\p{L}\p{N}]+"
    )
    return found.list.eval(pl.element().hash()).list.unique()


def overlap(back: int, within: str) -> pl.Expr:
    """Jaccard similarity of a row's ``words`` with those ``back`` rows before it, same session."""
    earlier = pl.col("words").shift(back)
    same = pl.col(within) == pl.col(within).shift(back)
    common = pl.col("words").list.set_intersection(earlier).list.len().cast(pl.Float64)
    either = pl.col("words").list.len() + earlier.list.len() - common
    return pl.when(same).then(common / either)
