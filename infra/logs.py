r"""Logs: JSON lines for machines, plain lines for a person at a terminal; never content.

A line has ``time`` (UTC), ``level``, ``component``, ``event`` and ``fields``. Our own calls name
what happened in the message and pass numbers and names as arguments or as ``extra={"fields":
{...}}``; of an exception the kind, the place and, where it cannot quote data, the message are told.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from ingest.core.errors import DriftlineError

_TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_FRAMES = 12


class JsonLines(logging.Formatter):
    """One JSON object per record.

    Parameters
    ----------
    component
        Which part of driftline speaks, such as ``worker``.
    """

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        fields: dict[str, Any] = {"logger": record.name, **getattr(record, "fields", {})}
        if record.exc_info and record.exc_info[1] is not None:
            fields |= describe(record.exc_info[1])
        line = {
            "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3]
            + "Z",
            "level": record.levelname.lower(),
            "component": self._component,
            "event": record.getMessage(),
            "fields": fields,
        }
        return msgspec.json.encode(line, enc_hook=str).decode()


class _Lines(logging.Formatter):
    """Plain lines, as careful about exceptions."""

    def formatException(self, ei: Any) -> str:
        """See `logging.Formatter.formatException`."""
        return msgspec.json.encode(describe(ei[1])).decode() if ei[1] is not None else ""


def describe(error: BaseException) -> dict[str, Any]:
    """Tell of an exception without what it may quote of the data.

    Examples
    --------
    >>> describe(ValueError("the user said: secret"))
    {'error': 'ValueError', 'at': []}
    """
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    told: dict[str, Any] = {"error": type(error).__name__, "at": places}
    # Messages of our own name codes and addresses, those of the system files and sockets.
    if isinstance(error, DriftlineError | OSError):
        told["message"] = str(error)[:500]
    # ClickHouse numbers its errors; what else it says may quote a value.
    if isinstance(code := getattr(error, "code", None), int):
        told["code"] = code
    return told


def configure(
    component: str, form: Literal["auto", "json", "text"] = "auto", level: str = "info"
) -> None:
    """Set up logging of this process, to standard error.

    Parameters
    ----------
    component
        Which part of driftline this process is.
    form
        ``auto`` writes plain lines to a terminal and JSON lines to anything else.
    level
        Least severe level that is written.
    """
    handler = logging.StreamHandler(sys.stderr)
    as_json = form == "json" or (form == "auto" and not os.isatty(sys.stderr.fileno()))
    handler.setFormatter(JsonLines(component) if as_json else _Lines(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Its client logs statements; Kafka's tell of every connection.
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    if level != "debug":
        for name in ("kafka", "aiokafka"):
            logging.getLogger(name).setLevel(max(logging.WARNING, logging.root.level))
