"""The command line: a table of contents of `infra.commands`, and how errors reach people.

Exit codes: 0 done, 1 the answer is no, 2 wrong use, 3 a service is away, 4 data refused.
"""

from __future__ import annotations

import errno
import logging
import os
import sys

import typer
from typer.exceptions import TyperException

from infra.commands import (
    deadletters,
    demo,
    door,
    gateway,
    ingest,
    looking,
    measuring,
    publishing,
    reading,
    runtime,
    tokens,
)
from infra.console import fail
from ingest.errors import DriftlineError, Unavailable, UsageError

app = typer.Typer(
    name="driftline",
    help="Streaming analytics and monitoring for AI agents in production.\n\n"
    "Try it: `driftline demo`. Run it: `driftline up`, feed it with `driftline replay` or"
    " `driftline simulate`, look with `driftline metrics`, `findings` and `alerts`.",
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
    door,
    tokens,
    ingest,
    reading,
    deadletters,
    looking,
    publishing,
    measuring,
):
    module.register(app)


def main() -> None:
    """Entry point of the command ``driftline``."""
    as_json = "--json" in sys.argv
    # It logs what it raises; people get the error once, as one line.
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    try:
        code = app(prog_name="driftline", standalone_mode=False)
    except DriftlineError as error:
        fail(str(error), error.exit_code, as_json=as_json)
        code = error.exit_code
    except TyperException as error:
        message = error.format_message()
        if message:  # empty when the help was printed for want of a command
            fail(f"{message} (see --help)", UsageError.exit_code, as_json=as_json)
        code = UsageError.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        # Whoever read our output has had enough; what Python flushes at exit must go somewhere.
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
