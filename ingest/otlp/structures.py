"""Values that senders write as JSON text, also quoted or cut short, and media in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

decode = msgspec.json.decode
encode = msgspec.json.Encoder(order="deterministic").encode

CONTAINERS: Final = (dict, list)
"""For ``isinstance``: writing ``dict | list`` there makes the union anew each time."""

_MAX_REPAIRED: Final = 32_768
"""Characters of a cut text that are looked at."""

_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[;\w=.-]*;base64,([A-Za-z0-9+/=_-]*)")
_PLACEHOLDER: Final = re.compile(r"\[[^\s\]]+ \d+ (?:KB|bytes)\]")
_MEDIA: Final = frozenset(
    {"image", "image_url", "input_image", "file", "input_file", "document", "audio", "input_audio",
     "video", "blob", "uri", "media", "image-data", "file-data", "binary", "image-url", "audio-url",
     "video-url", "document-url"}
)  # fmt: skip
_MIME_KEYS: Final = ("mime_type", "mimeType", "media_type", "mediaType", "format", "mime",
                     "contentType")  # fmt: skip
_DATA_KEYS: Final = (
    "data", "content", "image", "file_data", "bytes", "base64", "url", "uri", "image_url",
)  # fmt: skip
_INSIDE: Final = (
    "source", "image_url", "input_audio", "file", "inlineData", "inline_data", "fileData",
    "file_data", "image", "document", "video", "audio", "media",
)  # fmt: skip


def structure(value: Any) -> Any:
    """Return the value that JSON text holds, as far as the text goes; anything else as it is.

    Examples
    --------
    >>> structure('{"a": [1, 2'), structure('"[1]"'), structure("[urgent] help")
    ({'a': [1, 2]}, [1], '[urgent] help')
    """
    for _ in range(3):  # JSON may be quoted as JSON once more, and that again
        if not (isinstance(value, str) and value[:1] in ("[", "{", '"')):
            break
        try:
            value = decode(value)
        except (ValueError, RecursionError):
            if not looks_like_json(value):
                return value
            value = _mended(value)
    return value


def looks_like_json(text: str) -> bool:
    """Tell text that begins as JSON from a person's ``[urgent] please`` or ``{name}``."""
    return _JSON.match(text) is not None


_JSON: Final = re.compile(r"\s*(?:\{\s*(?:\"|\}|$)|\[\s*(?:[\[{\"\]]|-?\d|$)|\"(?:\\?[\[{]))")


class Cut(list[Any]):
    """A list within which a text ended, so that nobody knows what was the last of it.

    ``goes_on`` when something is missing behind what is here, not only of it.
    """

    def __init__(self, found: list[Any], goes_on: bool) -> None:
        super().__init__(found)
        self.goes_on = goes_on


def without_lone_surrogates(body: bytes) -> bytes:
    r"""Return JSON in which a question mark stands for each half of a character; itself if none.

    >>> without_lone_surrogates(rb'"cut \ud83e, whole \ud83e\udd7e, no escape \\ud83e"')
    b'"cut ?, whole \\ud83e\\udd7e, no escape \\\\ud83e"'
    """
    mended = _HALVES.sub(lambda match: match[0] if match[2] is None else match[1] + b"?", body)
    return body if mended == body else mended


_LOW: Final = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HIGH: Final = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"
_HALVES: Final = re.compile(rb"(?<!\\)((?:\\\\)*)(?:%b%b|(%b|%b))" % (_HIGH, _LOW, _HIGH, _LOW))
"""Characters that are escaped as two halves, or as one that stands alone: the second group."""


def _mended(text: str) -> Any:
    """Value of JSON text with half a character in it, or that was cut; None when it has none."""
    body = text.encode("utf-8", "replace")
    mended = without_lone_surrogates(body)
    if mended is not body:
        text = mended.decode()
        with suppress(ValueError, RecursionError):
            return decode(text)
    return _repaired(text)


def _repaired(text: str) -> Any:
    """Value of a text that was cut: open strings and brackets are closed; None when it is none."""
    text = text[:_MAX_REPAIRED]
    whole, depth, last_comma = _closed(text)
    with suppress(ValueError, RecursionError):
        return _marked(decode(whole), depth, goes_on=False)
    whole, depth, _ = _closed(text[:last_comma])
    with suppress(ValueError, RecursionError):
        return _marked(decode(whole), depth, goes_on=True)
    return None


def _closed(text: str) -> tuple[str, int, int]:
    """Return a text with what is open in it closed, how much was, and where its last comma is."""
    closers: list[str] = []
    last_comma, in_string, skip = 0, False, False
    for place, char in enumerate(text):
        if skip:
            skip = False
        elif in_string:
            skip, in_string = char == "\\", char != '"'
        elif char == '"':
            in_string = True
        elif char in "{[":
            closers.append("}" if char == "{" else "]")
        elif char in "}]" and closers:
            closers.pop()
        elif char == ",":
            last_comma = place
    end = ('"' if in_string else "") + "".join(reversed(closers))
    return (text[:-1] if skip else text) + end, len(closers), last_comma


def _marked(value: Any, depth: int, goes_on: bool) -> Any:
    """Return a value of which the lists that the text ended within, ``depth`` in all, are `Cut`."""
    if not depth or not value or not isinstance(value, CONTAINERS):
        return value
    last = len(value) - 1 if isinstance(value, list) else next(reversed(value))
    value[last] = _marked(value[last], depth - 1, goes_on)
    return Cut(value, goes_on and depth == 1) if isinstance(value, list) else value


def media(part: Mapping[str, Any]) -> str | None:
    """Placeholder of a part that is no text, such as ``[image/png 51 KB]``; None when it is text.

    >>> media({"type": "image", "mime_type": "image/png", "data": "A" * 4096})
    '[image/png 3 KB]'
    """
    inside = next((part[key] for key in _INSIDE if isinstance(part.get(key), dict)), None)
    if part.get("type") not in _MEDIA and inside is None:
        return None
    found = {**part, **(inside or {})}
    if inside is not None and isinstance(inside.get("source"), dict):  # as Bedrock has it
        found |= inside["source"]
    mime = next((found[key] for key in _MIME_KEYS if isinstance(found.get(key), str)), None)
    data = next((found[key] for key in _DATA_KEYS if isinstance(found.get(key), str)), "")
    if _PLACEHOLDER.fullmatch(data):
        return data
    url = _DATA_URL.match(data)
    if url is not None:
        mime, data = url[1] or mime, url[2]
    name = mime or str(part.get("type") or "file").removeprefix("input_")
    name = name.removesuffix("_url").removesuffix("-url")
    if data.startswith(("http:", "https:", "gs:", "s3:", "file:")):
        data = ""
    return f"[{name} {_size(data)}]" if data else f"[{name}]"


HIDDEN: Final = frozenset(
    {"", "[REDACTED]", "<REDACTED>", "__REDACTED__", "<elided>", "redacted-by-litellm"}
)
"""What senders write in place of words that they do not say."""


def shown(text: str) -> str | None:
    """Return what was said, without media; None where its sender hides it."""
    return None if text.strip() in HIDDEN else without_media(text)


def without_media(text: str) -> str:
    """Return a text in which a placeholder stands for each data URL."""
    if ";base64," not in text:
        return text
    return _DATA_URL.sub(lambda match: f"[{match[1] or 'file'} {_size(match[2])}]", text)


def _size(base64: str) -> str:
    size = len(base64) * 3 // 4
    return f"{size // 1024} KB" if size >= 1024 else f"{size} bytes"


def mapping(value: Any) -> dict[str, Any]:
    """Return an object, empty when it is none."""
    return value if isinstance(value, dict) else {}


def array(value: Any) -> list[Any]:
    """Return a list, empty when it is none."""
    return value if isinstance(value, list) else []
