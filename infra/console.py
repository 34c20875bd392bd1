"""How commands speak to a person and to a program.

Results go to standard output, everything else to standard error. With ``--json`` a command prints
one JSON value, and an error is one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def say(line: str) -> None:
    """Tell the person something that is not the result."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def emit(line: str) -> None:
    """Write a line of the result."""
    sys.stdout.write(line + "\n")


def emit_json(value: Any) -> None:
    """Print the result as one JSON value; whatever JSON does not know becomes text."""
    emit(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def fail(message: str, exit_code: int, *, as_json: bool) -> None:
    """Print an error as one line, or as one JSON object."""
    line = " ".join(message.split())
    if as_json:
        line = json.dumps({"error": line, "exit_code": exit_code}, ensure_ascii=False)
    else:
        line = f"driftline: {line}"
    say(line)


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
            emit("\t".join(_plain(value) for value in row))
        return
    from rich.table import Table

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


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | int | float | list | tuple | dict):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return " ".join(str(value).split())
