"""A version for agents that name none, from what their model calls show of them."""

from __future__ import annotations

import re
from typing import Any, Final

from xxhash import xxh3_64_hexdigest, xxh3_128_digest

from ingest.otlp.structures import array, encode, structure

_CHANGES_DAILY: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"
    r"|\b\d\d:\d\d(?::\d\d)?\b"
    r"|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
    r"|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? \d{1,2}[a-z]{0,2},? \d{4}"
    r"|\b\d{1,2} (?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* \d{4}"
    r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b",
    re.IGNORECASE,
)
"""Dates, times and ids that a program writes into a prompt whose author changed nothing."""


def version_of(system: str | None, tools: Any, model: str | None) -> str | None:
    """Identify a version of an agent by its system prompt, tools and model.

    Parameters
    ----------
    system
        The prompt; dates, times and ids in it do not count.
    tools
        Their definitions, as JSON text or structured, or a list of such; none means no tools.
    model
        The model that was asked for.

    Returns
    -------
    str or None
        ``auto-`` and 16 hexadecimal digits, xxh3-64 of the three; None when prompt or model is not
        visible, for what is not seen may have changed.

    Examples
    --------
    >>> version_of("Today is 2025-08-01.", None, "m") == version_of("Today is 2026-01-31.", [], "m")
    True
    """
    if not system or not model:
        return None
    # Every call of an agent says the same again: a digest of what it says finds the version.
    said = xxh3_128_digest(encode([system, tools, model]))
    version = _versions.get(said)
    if version is None:
        prompt = " ".join(_CHANGES_DAILY.sub("#", system).split())
        definitions = [structure(tool) for tool in array(structure(tools))]
        version = f"auto-{xxh3_64_hexdigest(encode([prompt, definitions, model]))}"
        if len(_versions) >= _REMEMBERED:
            _versions.clear()
        _versions[said] = version
    return version


_versions: dict[bytes, str] = {}
_REMEMBERED: Final = 10_000
