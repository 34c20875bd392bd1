"""The command line: a table of contents of `infra.commands`, and how errors reach people.

Exit codes: 0 done, 1 the answer is no, 2 wrong use, 3 a service is away, 4 data refused.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from infra import extras
from infra.commands import (
    bench,
    board,
    deadletters,
    demo,
    doctor,
    erase,
    evaluators,
    findings,
    gateway,
    grafana,
    ingest,
    inspect,
    label,
    lookup,
    mcp,
    notify,
    planning,
    prices,
    receiver,
    regressions,
    report,
    runtime,
    satisfaction,
    saving,
    senders,
    tokens,
)
from infra.console import emit, fail
from ingest.core.errors import DriftlineError, Unavailable, UsageError

app = typer.Typer(
    name="driftline",
    help="Streaming analytics and monitoring for AI agents in production.\n\n"
    "Try it with the demo. Or run it, feed it with `replay`, `simulate` or your own agents, and"
    " look.\n\n"
    "Examples: driftline demo\n"
    "driftline up --detach\n"
    "driftline simulate --duration 10m\n"
    "driftline metrics",
    epilog="Every command explains itself with --help. Settings: `driftline settings`.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for module in (
    demo,
    runtime,
    gateway,
    receiver,
    tokens,
    ingest,
    board,
    report,
    findings,
    regressions,
    deadletters,
    senders,
    inspect,
    label,
    prices,
    lookup,
    mcp,
    notify,
    grafana,
    bench,
    doctor,
    evaluators,
    planning,
    satisfaction,
    saving,
    erase,
):
    module.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        emit(version("driftline"))
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    pass


def command_line() -> Any:
    """All commands, with their examples a line each and summaries that are whole."""
    whole = get_command(app)
    _lay_out(whole)
    return whole


def _lay_out(command: Any) -> None:
    text, *examples = re.split(r"\n\nExamples?: ", command.help or "", maxsplit=1)
    command.short_help = text.split("\n\n")[0]
    if examples:
        lines = "\n".join(f"  {line.strip()}" for line in examples[0].splitlines())
        # The mark keeps lines as they are; what follows would be filled into one paragraph.
        command.help = f"{text}\n\n\b\nExamples:\n{lines}"
    for part in getattr(command, "commands", {}).values():
        _lay_out(part)


def main() -> None:
    """Entry point of the command ``driftline``."""
    as_json = "--json" in sys.argv
    # It logs what it raises; people get the error once, as one line.
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    try:
        code = command_line()(prog_name="driftline", standalone_mode=False)
    except DriftlineError as error:
        fail(str(error), error.exit_code, as_json=as_json)
        code = error.exit_code
    except TyperException as error:
        message = error.format_message()
        if message.startswith("Usage:"):  # the help, for want of a command
            emit(message)
        else:
            fail(f"{message} (see --help)", UsageError.exit_code, as_json=as_json)
        code = UsageError.exit_code
    except ModuleNotFoundError as error:
        needed = extras.advice(error.name)
        if needed is None:
            raise
        fail(needed, UsageError.exit_code, as_json=as_json)
        code = UsageError.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        # The reader of our output has closed it; what Python flushes at exit must go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        fail("the disk is full; free some space and try again", 3, as_json=as_json)
        code = Unavailable.exit_code
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
