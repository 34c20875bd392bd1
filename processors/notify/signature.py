"""Signatures of webhooks: HMAC-SHA256 over ``timestamp.body``, with a replay window."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

TIMESTAMP: Final = "Driftline-Timestamp"
SIGNATURE: Final = "Driftline-Signature"
DELIVERY: Final = "Driftline-Delivery"
TOLERANCE_S: Final = 300


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """Value of the header ``Driftline-Signature``.

    >>> sign("secret", 0, b"{}")[:13]
    'v1=4bbe8d39de'
    """
    digest = hmac.new(secret.encode(), b"%d." % timestamp + body, hashlib.sha256)
    return f"v1={digest.hexdigest()}"


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether a request is ours, unchanged and no older than `TOLERANCE_S` seconds."""
    try:
        timestamp = int(headers.get(TIMESTAMP, ""))
    except ValueError:
        return False
    if abs(now - timestamp) > TOLERANCE_S:
        return False
    return hmac.compare_digest(sign(secret, timestamp, body), headers.get(SIGNATURE, ""))
