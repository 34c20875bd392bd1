"""Waiting for a service that is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import chain, repeat
from typing import Final, TypeVar

from aiokafka.errors import KafkaError

from ingest.core import telemetry
from ingest.core.errors import Unavailable

log = logging.getLogger(__name__)

_WAITS: Final = (0.2, 0.5, 1.0, 2.0)
_LONGEST: Final = 5.0

_Value = TypeVar("_Value")


async def until_done(attempt: Callable[[], Awaitable[_Value]]) -> _Value:
    """Repeat ``attempt`` until it works, and return what it does.

    A caller that waits here holds one batch and asks for no more, so nothing piles up. Only a
    service being away is waited for; any other exception is a bug and leaves.
    """
    for wait in chain(_WAITS, repeat(_LONGEST)):
        try:
            return await attempt()
        except (Unavailable, KafkaError) as error:
            log.warning("will try again in %s s: %s", wait, error)
            telemetry.RETRIES.inc()
            with telemetry.doing(f"waiting: {str(error)[:200]}"):
                await asyncio.sleep(wait)
    raise AssertionError  # the waits never end
