"""The language of a text: by script, and English among Latin scripts by its commonest words."""

from __future__ import annotations

from typing import Final

import polars as pl

COVERED: Final = ("en", "zh")
"""Languages whose cues are known. Of others only what needs no words is read."""

_SCRIPTS: Final = {
    "ja": r"[\p{Hiragana}\p{Katakana}]",
    "zh": r"\p{Han}",
    "ko": r"\p{Hangul}",
    "ru": r"\p{Cyrillic}",
    "ar": r"\p{Arabic}",
    "he": r"\p{Hebrew}",
    "th": r"\p{Thai}",
    "hi": r"\p{Devanagari}",
    "el": r"\p{Greek}",
}
_ENGLISH: Final = (
    r"(?i)\b(?:the|is|are|was|i|you|it|to|and|of|my|what|how|do|does|can|for|this|that|not|have"
    r"|yes|no|please|thanks?|hi|hello|ok|okay|me|your|in|on|with)\b"
)


def language(text: pl.Expr) -> pl.Expr:
    """Language code of a text column; ``other`` for unknown Latin text, null for no letters.

    Cyrillic counts as ``ru`` and so on: the script decides, because all that matters is whether the
    language is among `COVERED`. A single English word in twelve is enough for ``en``.
    """
    head = text.str.head(400)
    words = head.str.count_matches(" ", literal=True) + 1
    scripts = pl.coalesce(
        pl.when(head.str.contains(pattern)).then(pl.lit(code)) for code, pattern in _SCRIPTS.items()
    )
    english = head.str.count_matches(_ENGLISH) * 12 >= words
    latin = pl.when(head.str.contains(r"\p{Latin}")).then(
        pl.when(english).then(pl.lit("en")).otherwise(pl.lit("other"))
    )
    foreign = head.str.len_bytes() > head.str.len_chars()
    # plain ASCII is nearly all of English: it needs no look at the scripts
    return pl.when(foreign).then(pl.coalesce(scripts, latin)).otherwise(latin)
