"""What agents are called does not reach the terminal as commands."""

from __future__ import annotations

import json

import pytest

from infra import console

NAME = "shop\x1b]0;owned\x07\x1b[2J\u202egnp.exe\x9b31m"
SHOWN = r"shop\x1b]0;owned\x07\x1b[2J\u202egnp.exe\x9b31m"


def test_tables_and_messages_write_controls_out(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(("a", "b"), [(NAME, [NAME])], NAME, narrated=True)
    console.print_table(("a",), [(NAME,)])
    console.emit(NAME)
    console.say(NAME)
    console.fail(NAME, 2, as_json=False)
    out, err = capsys.readouterr()
    for text in (out, err):
        assert not set(text) & set("\x1b\x07\x9b\u202e")
    assert out.splitlines()[-2:] == [SHOWN, SHOWN]
    assert err.splitlines() == [SHOWN, f"driftline: {SHOWN}"]


def test_json_is_exact(capsys: pytest.CaptureFixture[str]) -> None:
    console.emit_json({"name": NAME})
    console.fail(NAME, 2, as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out) == {"name": NAME}
    assert json.loads(err) == {"error": NAME, "exit_code": 2}
    assert "\x1b" not in out + err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('=HYPERLINK("http://evil.example")', '\'=HYPERLINK("http://evil.example")'),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("\t=1+1", "'=1+1"),
        ("-2.5", "-2.5"), (-2.5, "-2.5"), ("+1.5 of 30", "+1.5 of 30"), ("a=b", "a=b"),
    ],
)  # fmt: skip
def test_formulas_are_no_formulas_in_a_pipe(
    text: object, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console.print_table(("a",), [(text,)])
    assert capsys.readouterr().out.splitlines() == ["a", shown]


def test_other_languages_stay() -> None:
    text = "é 日本語 می‌خواهم שלום 🙂 a\tb\nc"
    assert console.harmless(text) == text
