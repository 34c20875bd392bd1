"""Values that senders write as JSON text, also quoted or cut short, and media in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

decode = msgspec.json.decode
encode = msgspec.json.Encoder(order="deterministic").encode

CONTAINERS: Final = (dict, list)
"""For ``isinstance``: writing ``dict | list`` there makes the union anew each time."""

_MAX_REPAIRED: Final = 32_768
"""Characters of a cut text that are looked at."""

_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[;\w=.-]*;base64,([A-Za-z0-9+/=_-]*)")
_MEDIA: Final = frozenset(
    {"image", "image_url", "input_image", "file", "input_file", "document", "audio", "input_audio",
     "video", "blob", "uri", "media", "image-data", "file-data"}
)  # fmt: skip
_MIME_KEYS: Final = ("mime_type", "mimeType", "media_type", "mediaType", "format", "mime")
_DATA_KEYS: Final = (
    "data", "content", "image", "file_data", "bytes", "base64", "url", "uri", "image_url",
)  # fmt: skip
_INSIDE: Final = (
    "source", "image_url", "input_audio", "file", "inlineData", "inline_data", "fileData",
    "file_data",
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
            return value if not looks_like_json(value) else _repaired(value)
    return value


def looks_like_json(text: str) -> bool:
    """Tell text that begins as JSON from a person's ``[urgent] please`` or ``{name}``."""
    return _JSON.match(text) is not None


_JSON: Final = re.compile(r"\s*(?:\{\s*(?:\"|\}|$)|\[\s*(?:[\[{\"\]]|-?\d|$)|\"(?:\\?[\[{]))")


def _repaired(text: str) -> Any:
    """Value of a text that was cut: open strings and brackets are closed; None when it is none."""
    text = text[:_MAX_REPAIRED]
    closers: list[str] = []
    last_comma, closers_there, in_string, skip = 0, "", False, False
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
            last_comma, closers_there = place, "".join(reversed(closers))
    end = "".join(reversed(closers))
    whole = (text[:-1] if skip else text) + ('"' if in_string else "") + end
    for attempt in (whole, text[:last_comma] + closers_there):
        try:
            return decode(attempt)
        except (ValueError, RecursionError):
            continue
    return None


def media(part: Mapping[str, Any]) -> str | None:
    """Placeholder of a part that is no text, such as ``[image/png 51 KB]``; None when it is text.

    >>> media({"type": "image", "mime_type": "image/png", "data": "A" * 4096})
    '[image/png 3 KB]'
    """
    inside = next((part[key] for key in _INSIDE if isinstance(part.get(key), dict)), None)
    if part.get("type") not in _MEDIA and inside is None:
        return None
    found = {**part, **(inside or {})}
    mime = next((found[key] for key in _MIME_KEYS if isinstance(found.get(key), str)), None)
    data = next((found[key] for key in _DATA_KEYS if isinstance(found.get(key), str)), "")
    url = _DATA_URL.match(data)
    if url is not None:
        mime, data = url[1] or mime, url[2]
    name = mime or str(part.get("type") or "file").removeprefix("input_").removesuffix("_url")
    if data.startswith(("http:", "https:", "gs:", "s3:", "file:")):
        data = ""
    return f"[{name} {_size(data)}]" if data else f"[{name}]"


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
