"""erase: everything of a person, out of every table, and not to come back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from infra.console import Json, emit, emit_json, print_table, say


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(erase)


def erase(
    user: Annotated[str, typer.Option(help="Id of the user, as senders give it.")],
    session: Annotated[str | None, typer.Option(help="Only this session of the user.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be erased, and change nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Erase a person: words go, ids become pseudonyms, numbers stay; then search for what is left.

    There is no way back. What Kafka still holds, or a sender sends again, is stored without them
    too; what happens after this moment is kept as of anybody else. Backups are not touched: erase
    again after restoring an older one. Exit code 1 when a search still finds something.

    Examples: driftline erase --user u-1842
              driftline erase --user u-1842 --session s-77 --dry-run
    """
    from infra import erasing, wiring
    from infra.settings import load
    from ingest.core.events import Event
    from processors.clickhouse import Store
    from processors.write.erased import namer

    settings = load()
    store = Store(wiring.clickhouse(settings))
    redacting = wiring.redactor(settings)
    # An address as an id is stored as its pseudonym.
    (event,) = redacting.apply(
        [Event(event_id="-", time_unix_nano=0, agent="-", kind="interaction", user_id=user)]
    )
    users = sorted({user, event.user_id or user})
    person = erasing.find(store, users, session)
    if dry_run:
        found = {"sessions": len(person.sessions), "interactions": len(person.interactions)}
        if as_json:
            emit_json(found | {"erased": False})
        else:
            emit(f"{found['sessions']} sessions, {found['interactions']} interactions")
        return
    report = erasing.erase(store, namer(wiring.erasing_key(redacting)), person)
    if as_json:
        emit_json(asdict(report) | {"erased": not report.left})
    else:
        print_table(("table", "rows rewritten"), sorted(report.rewritten.items()))
        say(
            f"{report.sessions} sessions, {report.interactions} interactions in"
            f" {report.seconds:.1f} s; a search found "
            + ("nothing more" if not report.left else "still: " + ", ".join(report.left))
        )
    if report.left:
        raise typer.Exit(1)
