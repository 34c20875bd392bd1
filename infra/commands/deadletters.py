"""deadletters list, show, replay, take: what could not become an event, and going on with it."""

from __future__ import annotations

import re
import time
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands import open_store
from infra.commands.report import seconds
from infra.console import Json, emit, emit_json, print_table, say
from ingest.core.errors import UsageError

if TYPE_CHECKING:
    from infra.settings import Settings
    from processors.write.dead_letters import Selection, Trial

Code = Annotated[str | None, typer.Option("--code", help="Only this reason, such as invalid_json.")]
Topic = Annotated[
    str | None, typer.Option("--topic", help="Only of this topic, such as otlp_spans.")
]
Since = Annotated[
    str | None, typer.Option(metavar="AGE", help="Only what came this recently: 90s, 30m, 7d.")
]
Places = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TOPIC/]PARTITION/OFFSET/LINE...", help="Certain ones; else all."),
]
_SHOWN = 2_000  # characters of a text that a person is shown; --json has all of them
_PLACE = re.compile(r"(?:[^/\s]+/)?\d+/\d+/\d+")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(
        help="Lines that did not become events: list, show, replay, take.\n\n"
        "Examples: driftline deadletters list --since 1h\n"
        "driftline deadletters show --code invalid_field",
        no_args_is_help=True,
    )
    group.command(name="list")(list_command)
    group.command()(show)
    group.command()(replay)
    group.command()(take)
    app.add_typer(group, name="deadletters")


def list_command(
    code: Code = None, topic: Topic = None, since: Since = None, as_json: Json = False
) -> None:
    """Count dead letters by reason, topic and agent, with their first and last time.

    Examples: driftline deadletters list --since 1h
              driftline deadletters list --code invalid_field --json
    """
    from processors.write.dead_letters import listed

    rows = listed(open_store(reader=False), _selection(code, topic, since))
    if as_json:
        emit_json(rows)
        return
    names = ("code", "topic", "environment", "agent", "letters", "with_text", "replayed")
    print_table(
        (*names, "first", "last"),
        [
            (*(row[name] or None for name in names[:4]), *(row[name] for name in names[4:]),
             _clock(row["first"]), _clock(row["last"]))
            for row in rows
        ],
    )  # fmt: skip
    if not rows:
        say("no dead letters")


def show(
    places: Places = None,
    code: Code = None,
    topic: Topic = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 20,
    as_json: Json = False,
) -> None:
    """Show dead letters one by one: where each stood, why it was refused, its redacted text.

    Untouched originals are not shown, whether they are kept or not.

    Examples: driftline deadletters show --code invalid_json --limit 3
              driftline deadletters show driftline.events/2/1041/17 --json
    """
    from processors.write.dead_letters import shown

    selection = _selection(code, topic, since, places, limit)
    rows = [_told(row) for row in shown(open_store(reader=False), selection)]
    if as_json:
        emit_json(rows)
        return
    for row in rows:
        about = ", ".join(
            part
            for part in (
                row["code"] + (f": {row['detail']}" if row["detail"] else ""),
                f"{row['bytes']} bytes",
                f"of {row['environment'] or '?'}/{row['agent']}" if row["agent"] else "",
                _clock(row["ingested"]),
                f"log {row['log_id']}",
                "original kept" if row["original_kept"] else "",
                f"sent again as {row['sent_as']}" if row["sent_as"] else "",
            )
            if part
        )
        emit(f"{row['place']}  {about}")
        emit(f"  {row['text'][:_SHOWN]}" if row["text"] else "  (no text)")
        if row["note"]:
            emit(f"  [{row['note']}]")
    if not rows:
        say("no dead letters")


def replay(
    places: Places = None,
    code: Code = None,
    topic: Topic = None,
    since: Since = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done; so does no --yes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Really send.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also those sent before; they still count once.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Decode dead letters again with the rules of now, and send those that have become events.

    Without --yes nothing is sent. An event keeps its id, so sending it twice counts once. A line
    whose ids redaction may have changed, or of which only a part was kept, cannot be sent unless
    its original is kept (processing.keep_originals_hours). Exit code 1 when nothing can be sent.

    Examples: driftline deadletters replay --code future_time
              driftline deadletters replay --code future_time --yes
    """
    from processors.write.dead_letters import note_sent, shown, tried

    if dry_run and yes:
        raise UsageError("--dry-run and --yes contradict each other")
    from infra.settings import load

    settings, store = load(), open_store(reader=False)
    letters = shown(store, _selection(code, topic, since, places))
    now_ns = time.time_ns()
    trials = [tried(letter, now_ns, again=again) for letter in letters]
    good = [trial for trial in trials if trial.event is not None]
    if yes and good:
        _send(settings, good)
        note_sent(store, good)
    _report(trials, sent=yes, as_json=as_json)
    if not good:
        raise typer.Exit(1)


def take(
    partition: Annotated[int, typer.Argument(help="Of the events topic, as `status` says.", min=0)],
    as_json: Json = False,
) -> None:
    """Read on a partition that was parked because too many of its lines were no events.

    A partition of which more than 200 of 1,000 lines in a row are bad is read no further, so that a
    broken producer is noticed; other partitions are. This takes what waits on it now: its events
    are stored, its bad lines become dead letters. Later lines are counted again.

    Examples: driftline deadletters take 3
    """
    import polars as pl

    from infra import topics, wiring
    from infra.settings import load
    from ingest.core.events import EVENTS_TOPIC

    settings = load()
    kafka, store = wiring.kafka(settings), open_store(reader=False)
    until = topics.end_offset(kafka, EVENTS_TOPIC, partition)
    row = {
        "log_id": topics.log_id(kafka, EVENTS_TOPIC), "partition": partition, "until": until,
    }  # fmt: skip
    schema = {"log_id": pl.String, "partition": pl.UInt32, "until": pl.UInt64}
    store.insert("released_partitions", pl.DataFrame([row], schema=schema))
    if as_json:
        emit_json(row)
        return
    say(f"{EVENTS_TOPIC} partition {partition} is taken up to offset {until}, bad lines and all")


def _send(settings: Settings, trials: list[Trial]) -> None:
    """Redact like everything that is produced; returns when Kafka has all of it."""
    from infra import wiring

    events = [trial.event for trial in trials if trial.event is not None]
    with wiring.producer(settings) as producer:
        producer.send(wiring.redactor(settings).apply(events))


def _report(trials: list[Trial], *, sent: bool, as_json: bool) -> None:
    good = sum(trial.event is not None for trial in trials)
    reasons = Counter(trial.why_not for trial in trials if trial.event is None)
    if as_json:
        emit_json(
            {
                "dry_run": not sent,
                "letters": len(trials),
                "sent" if sent else "would_send": good,
                "not_sent": dict(reasons.most_common()),
                "rows": [
                    {
                        "place": _place(trial.letter),
                        "code": trial.letter["code"],
                        "event_id": trial.event.event_id if trial.event else None,
                        "why_not": trial.why_not or None,
                    }
                    for trial in trials
                ],
            }
        )
        return
    print_table(
        ("place", "code", "sent as" if sent else "would be sent as", "why not"),
        [
            (
                _place(trial.letter), trial.letter["code"],
                trial.event.event_id if trial.event else None, trial.why_not or None,
            )
            for trial in trials
        ],
    )  # fmt: skip
    done = f"{good} of {len(trials)} dead letters"
    if sent:
        say(f"sent {done}")
    else:
        say(f"would send {done}" + ("; nothing was sent, --yes sends them" if good else ""))


def _told(row: dict[str, Any]) -> dict[str, Any]:
    from ingest.core.dead_letters import WHY_NOT

    original = row.pop("original")
    return {
        "place": _place(row),
        **row,
        "original_kept": bool(original),
        "note": "" if original else WHY_NOT.get(row["kept"], ""),
    }


def _place(row: dict[str, Any]) -> str:
    return "/".join(str(row[name]) for name in ("topic", "partition", "offset", "line"))


def _selection(
    code: str | None,
    topic: str | None,
    since: str | None,
    places: list[str] | None = None,
    limit: int | None = None,
) -> Selection:
    from ingest.core.events import EVENTS_TOPIC
    from processors.write.dead_letters import Selection

    for place in places or ():
        if not _PLACE.fullmatch(place):
            raise UsageError(f"{place!r} is no place; write it as TOPIC/PARTITION/OFFSET/LINE")
    return Selection(
        code=code,
        topic=topic,
        since=None if since is None else int(time.time()) - seconds(since),
        places=[p if p.count("/") == 3 else f"{EVENTS_TOPIC}/{p}" for p in places or ()],
        limit=limit,
    )


def _clock(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")
