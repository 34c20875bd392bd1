"""Lengths of time as people write them."""

from __future__ import annotations

import re
from typing import Final

from ingest.core.errors import UsageError

_NUMBER: Final = r"(\d+(?:\.\d+)?)"
_FORM: Final = re.compile("".join(rf"(?:{_NUMBER}{unit})?" for unit in "dhms"), re.ASCII)
_UNITS: Final = (86_400, 3600, 60, 1)


def seconds(text: str, or_none: bool = False) -> float:
    """Length of a span of time such as 90s, 1.5h, 5h45m or 7d; ``or_none`` allows 0s as well.

    Raises
    ------
    UsageError
        When it is of another form, or no time at all.

    Examples
    --------
    >>> seconds("1.5h"), seconds("5h45m")
    (5400.0, 20700.0)
    """
    match = _FORM.fullmatch(text.strip())
    parts = match.groups("0") if match else ("0",) * len(_UNITS)
    total = sum(float(n) * unit for n, unit in zip(parts, _UNITS, strict=True))
    if not total and not (or_none and match and match[0]):
        raise UsageError(
            f"{text!r} is no span of time: numbers with d, h, m or s, as in 7d, 5h45m or 90s"
        )
    return total
