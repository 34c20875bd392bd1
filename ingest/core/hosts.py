"""By which name an HTTP server on loopback is addressed.

A web page can have a name of its own point to loopback, and its scripts then reach what listens
there. Their requests say that name; who knows no other secret is told apart by it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PORT: Final = re.compile(r":\d*\Z")


def is_ours(host: str, others: Collection[str] = ()) -> bool:
    """Whether a Host header names loopback, or one of ``others`` (lower case).

    >>> is_ours("LocalHost:4318"), is_ours("[::1]"), is_ours("evil.example:4318")
    (True, True, False)
    """
    name = _PORT.sub("", host.strip().lower())
    return name in LOOPBACK or name in others
