"""The little of ClickHouse's Native format that the embedded server writes by itself."""

from __future__ import annotations

from collections.abc import Sequence


def empty_block(columns: Sequence[tuple[str, str]]) -> bytes:
    """Return a block of no rows with these names and types."""
    named = b"".join(string(name) + string(kind) for name, kind in columns)
    return varint(len(columns)) + varint(0) + named


def hello(version: str) -> bytes:
    """Return the answer to clickhouse-go's first query: revision 0, so later blocks are plain.

    Its driver decodes this one block at revision 54460: block info first, and a byte for each
    column after its type.
    """
    columns = [
        ("displayName()", "String", string("driftline")),
        ("version()", "String", string(version)),
        ("revision()", "UInt32", bytes(4)),
        ("timezone()", "String", string("UTC")),
    ]
    block_info = bytes.fromhex("010002ffffffff00")
    named = [string(name) + string(kind) + b"\0" + value for name, kind, value in columns]
    return block_info + varint(len(columns)) + varint(1) + b"".join(named)


def string(text: str) -> bytes:
    """Text as Native writes a string: length, bytes."""
    raw = text.encode()
    return varint(len(raw)) + raw


def varint(number: int) -> bytes:
    """Unsigned LEB128.

    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
