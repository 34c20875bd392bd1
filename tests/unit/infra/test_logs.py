"""Structured logs: the keys, and nothing that an exception quotes."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from infra.embedded.process import last_line
from infra.logs import JsonLines
from ingest.core.errors import Unavailable


def line_of(
    message: str, *args: object, error: BaseException | None = None, **extra: object
) -> dict[str, object]:
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("x.y", logging.WARNING, __file__, 1, message, args, info)
    record.__dict__.update(extra)
    text = JsonLines("worker").format(record)
    assert "\n" not in text
    return dict(json.loads(text))


def test_a_line_has_five_keys() -> None:
    line = line_of("stored %s rows", 7, fields={"partition": 3})
    assert list(line) == ["time", "level", "component", "event", "fields"]
    assert line["level"] == "warning"
    assert line["event"] == "stored 7 rows"
    assert line["fields"] == {"logger": "x.y", "partition": 3}
    assert str(line["time"]).endswith("Z")


@pytest.mark.parametrize("secret", ["4111 1111 1111 1111", "line\nbreak", '"quoted"'])
def test_an_exception_does_not_quote_what_it_was_about(secret: str) -> None:
    try:
        int(secret.join("xy"))
    except ValueError as error:
        line = line_of("it failed", error=error)
    assert secret not in json.dumps(line)
    fields = line["fields"]
    assert isinstance(fields, dict)
    assert fields["error"] == "ValueError"
    assert fields["at"][0].startswith("test_logs.py:")


def test_errors_of_our_own_are_told() -> None:
    line = line_of("away", error=Unavailable("ClickHouse at http://x: refused"))
    assert line["fields"]["message"] == "ClickHouse at http://x: refused"  # type: ignore[index]


def test_the_cause_of_a_death_is_told_not_its_consequences(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"

    def lines(*told: tuple[int, str, str]) -> None:
        log.write_text(
            "OK ^\n"
            + "".join(
                json.dumps(
                    {"time": f"2026-01-01T00:00:{second:02}.000Z", "level": level, "event": event}
                )
                + "\n"
                for second, level, event in told
            )
        )

    lines((1, "error", "an earlier life"), (20, "info", "x"), (21, "error", "the cause"),
          (22, "error", "a consequence"), (23, "critical", "the end"))  # fmt: skip
    assert last_line(log) == "the cause"
    lines((1, "info", "just this"))
    assert last_line(log) == "just this"
    log.write_text('{"time": 1}\n{"half')
    assert last_line(log) == '{"half'
    log.write_text("{}\ndriftline: no broker answers\n")
    assert last_line(log) == "no broker answers"


@pytest.mark.parametrize("form", ["auto", "json", "text"])
def test_a_pipe_gets_json_lines_unless_told_otherwise(form: str) -> None:
    code = (
        "import logging; from infra.logs import configure;"
        f"configure('door', {form!r}); logging.getLogger('a').info('hello');"
        "\ntry: 1 / 0\nexcept ZeroDivisionError: logging.exception('oh')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    if form == "text":
        assert lines[0].endswith("INFO a hello")
        assert "division by zero" not in done.stderr
    else:
        assert [json.loads(line)["event"] for line in lines] == ["hello", "oh"]
        assert {json.loads(line)["component"] for line in lines} == {"door"}
