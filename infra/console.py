r"""How commands speak to a person and to a program.

Results go to standard output, everything else to standard error. With ``--json`` a command prints
one JSON value, and an error is one JSON object.

Names and texts come from agents. What a terminal would obey, or would show in another order than it
stands, is written out instead (``\x1b``). In tab-separated lines a text that a spreadsheet would
take for a formula begins with an apostrophe. JSON is exact.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def say(line: str) -> None:
    """Tell the person something that is not the result."""
    sys.stderr.write(harmless(line) + "\n")
    sys.stderr.flush()


def emit(line: str) -> None:
    """Write a line of the result."""
    sys.stdout.write(harmless(line) + "\n")


def harmless(text: str) -> str:
    r"""Write out control characters but line ends and tabs, and marks of direction.

    >>> print(harmless("a\x1b[31mb\u202ec"))
    a\x1b[31mb\u202ec
    """
    return text if text.isascii() and text.isprintable() else _OBEYED.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


_OBEYED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)


def emit_json(value: Any) -> None:
    """Print the result as one JSON value; whatever JSON does not know becomes text."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    sys.stdout.write(text + "\n")


def fail(message: str, exit_code: int, *, as_json: bool) -> None:
    """Print an error as one line, or as one JSON object."""
    line = " ".join(message.split())
    if as_json:
        line = json.dumps({"error": line, "exit_code": exit_code}, ensure_ascii=False)
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    else:
        say(f"driftline: {line}")


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    title: str | None = None,
    *,
    narrated: bool = False,
) -> None:
    """Print a table for a person; for a pipe, tab-separated lines under a line of names.

    What is ``narrated`` is for a person wherever it goes.
    """
    if not (narrated or sys.stdout.isatty()):
        emit("\t".join(columns))
        for row in rows:
            emit("\t".join(_inert(_plain(value)) for value in row))
        return
    from rich.table import Table

    title = None if title is None else harmless(title)
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_shown(value) for value in row))
    stdout().print(table)


def stdout() -> Console:
    """Rich console on standard output."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 130)


def _shown(value: Any) -> str:
    from rich.markup import escape

    return "[dim]-[/dim]" if value is None else escape(_plain(value))


def _inert(text: str) -> str:
    """A cell that no spreadsheet computes.

    >>> _inert("=1+1"), _inert("-0.5"), _inert("+1.5 of 30")
    ("'=1+1", '-0.5', '+1.5 of 30')
    """
    return "'" + text if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


_FORMULA: Final = re.compile(r"[=@+-]")
_NUMBER: Final = re.compile(r"[+-][\d.,]+(e[+-]?\d+)?%?( of \d+)?")


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | int | float | list | tuple | dict):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return harmless(" ".join(str(value).split()))
