"""Text of others in lines of ours: no control characters, no direction marks, no markup."""

from __future__ import annotations

import unicodedata


def printable(text: str, longest: int) -> str:
    r"""One line of at most ``longest`` characters that displays as what it is.

    Control, format (zero-width, direction) and private-use characters become a space, angle and
    square brackets, backquotes and pipes their plain look-alikes, so that neither a terminal nor
    HTML nor Markdown reads them as anything but text.

    Examples
    --------
    >>> printable("<b>pay\n\u202enow", 80)
    '(b)pay now'
    """
    cut = text[: 4 * longest].translate(_PLAIN)
    clean = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in cut)
    line = " ".join(clean.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


_PLAIN = str.maketrans({"<": "(", ">": ")", "[": "(", "]": ")", "`": "'", "|": "/", "&": "+"})
