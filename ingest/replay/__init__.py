"""Files of other tools become canonical events; errors are data, one record at a time.

``files`` cuts a file into JSON records, ``tau2``, ``agentrx``, ``sweagent``, ``otel`` and
``canonical`` turn a record into events or rejections, and `read` puts them together with the format
found by content.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Final

import msgspec

from ingest import codec
from ingest.core.errors import Rejected, UsageError
from ingest.core.events import Event, RejectionCode
from ingest.replay import agentrx, canonical, otel, sweagent, tau2
from ingest.replay.files import records


class Format(StrEnum):
    """Formats that `read` understands."""

    AUTO = "auto"
    TAU2 = "tau2"
    AGENTRX = "agentrx"
    SWEAGENT = "sweagent"
    OTEL = "otel"
    EVENTS = "events"


_MODULES: Final[dict[Format, ModuleType]] = {
    Format.EVENTS: canonical,
    Format.TAU2: tau2,
    Format.AGENTRX: agentrx,
    Format.SWEAGENT: sweagent,
    Format.OTEL: otel,
}

SAMPLE: Final = 20
"""Records that are tried before a file's format counts as unknown."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller knows better than the file.

    Attributes
    ----------
    format
        Format of the file, `Format.AUTO` to look.
    agent, environment
        Override what the records say.
    infos
        Info records of tau2 runs, from `load_info`.
    """

    format: Format = Format.AUTO
    agent: str | None = None
    environment: str | None = None
    infos: Mapping[tau2.Source, tau2.Info] = field(default_factory=dict)


def load_info(path: Path) -> dict[tau2.Source, tau2.Info]:
    """Read the info records of tau2 runs.

    Raises
    ------
    UsageError
        When the file cannot be read or holds something else.
    """
    try:
        return tau2.load_info(records(path))
    except Rejected as rejected:
        raise UsageError(f"{path}: not a file of tau2 info records ({rejected.detail})") from None


def read(
    path: Path, options: Options = Options(), progress: IO[bytes] | None = None
) -> Iterator[Event | Rejected]:
    """Events and rejections of a file, in its order.

    Parameters
    ----------
    path
        Plain or gzip, JSON Lines or one JSON document.
    options
        See `Options`.
    progress
        See `ingest.replay.files.records`.

    Raises
    ------
    UsageError
        When the file cannot be opened.
    Rejected
        When the file as a whole is none of ours: ``unknown_format`` or ``broken_gzip``.
    """
    format_ = format_of(path, options)
    found = records(path, progress=progress)
    for item in _items(_reader(format_, options), found):
        yield _overridden(item, options) if format_ is Format.EVENTS else _checked(item, options)


def format_of(path: Path, options: Options = Options()) -> Format:
    """Format of a file: the one the options name, else by its first `SAMPLE` records.

    Raises
    ------
    UsageError, Rejected
        As `read`.
    """
    with closing(records(path)) as found:
        sample = list(itertools.islice(found, SAMPLE))
    format_ = detect(sample) if options.format is Format.AUTO else options.format
    if format_ is None:
        known = ", ".join(format_ for format_ in Format if format_ is not Format.AUTO)
        raise Rejected(
            "unknown_format", f"{path} is none of {known}; if it should be, say which with --format"
        )
    return format_


def detect(sample: Iterable[bytes]) -> Format | None:
    """Format of the first record that is one of ours; None when there is none."""
    for record in sample:
        try:
            value = msgspec.json.decode(record)
        except (ValueError, RecursionError):
            continue
        for format_, module in _MODULES.items():
            if module.recognises(value):
                return format_
    return None


_Reader = Callable[[bytes], Iterator[Event | Rejected]]


def _reader(format_: Format, options: Options) -> _Reader:
    match format_:
        case Format.TAU2:
            return partial(tau2.read, infos=options.infos, agent=options.agent)
        case Format.AGENTRX:
            return partial(agentrx.read, agent=options.agent)
        case Format.SWEAGENT:
            return partial(sweagent.read, agent=options.agent)
        case Format.OTEL:
            return partial(otel.read, agent=options.agent)
        case _:
            return canonical.read


def _items(reader: _Reader, found: Iterable[bytes]) -> Iterator[Event | Rejected]:
    for record in found:
        try:
            yield from reader(record)
        except msgspec.ValidationError as error:
            yield Rejected(RejectionCode.INVALID_FIELD, str(error))
        except RecursionError:
            yield Rejected(RejectionCode.TOO_DEEP, "nested too deeply")
        except ValueError as error:
            yield Rejected(RejectionCode.INVALID_JSON, str(error))


def _overridden(item: Event | Rejected, options: Options) -> Event | Rejected:
    changes: dict[str, Any] = {
        name: value
        for name, value in (("agent", options.agent), ("environment", options.environment))
        if value is not None
    }
    return item if isinstance(item, Rejected) or not changes else _replace(item, changes)


def _replace(event: Event, changes: dict[str, Any]) -> Event:
    return msgspec.structs.replace(event, **changes)


def _checked(item: Event | Rejected, options: Options) -> Event | Rejected:
    """Hold a translated event to the contract, as the worker will."""
    item = _overridden(item, options)
    if isinstance(item, Rejected):
        return item
    return next(canonical.read(codec.encode([item])))
