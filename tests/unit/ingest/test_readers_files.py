"""From bytes to records, and from records to their format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import codec
from ingest.core.errors import Rejected, UsageError
from ingest.core.events import Event
from ingest.otlp.truncation import MAX_ATTRIBUTES, attributes, capped, ns_from_iso
from ingest.replay import Format, Options, detect, format_of, load_info, read
from ingest.replay.files import records
from tests.support.common import data_file


def event(**fields: object) -> Event:
    return Event(**{"event_id": "a", "time_unix_nano": 1, "agent": "x", "kind": "score", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n\n", []),
        (b'{"a":1}', [b'{"a":1}']),
        (b'{"a":1}\r\n{"a":2}\r\n', [b'{"a":1}', b'{"a":2}']),
        (b'\n{"a":1}\n\n{"a":2}', [b'{"a":1}', b'{"a":2}']),
        (b'{\n"a":1}\n', [b'{\n"a":1}\n']),
        (b"[\n1,\n2]", [b"[\n1,\n2]"]),
        (b'nonsense\n{"a":2}\n', [b"nonsense", b'{"a":2}']),
    ],
)
def test_records(tmp_path: Path, content: bytes, expected: list[bytes]) -> None:
    path = tmp_path / "file.txt"
    for stored in (content, gzip.compress(content)):
        path.write_bytes(stored)
        assert list(records(path)) == expected
        with path.open("rb") as file:
            assert list(records(path, progress=file)) == expected
            assert file.tell() == len(stored)


def test_unreadable_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        list(records(tmp_path / "absent"))
    with pytest.raises(UsageError, match="folder"):
        list(records(tmp_path))
    whole = gzip.compress(b'{"a":1}\n' * 1000)
    for broken in (whole[:-9], whole[:20] + b"\0" * 9 + whole[29:], b"\x1f\x8b not gzip at all"):
        path = tmp_path / "broken.gz"
        path.write_bytes(broken)
        with pytest.raises(Rejected, match=r"broken_gzip: .*fetch it again") as caught:
            list(records(path))
        assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tau2_retail_gpt41_vs_sft_simulations.jsonl.gz", Format.TAU2),
        ("tau2_telecom_gpt4o_simulations.jsonl.gz", Format.TAU2),
        ("agentrx_tau_retail_trajectories.jsonl.gz", Format.AGENTRX),
        ("sweagent_trajectories.jsonl.gz", Format.SWEAGENT),
        ("any_agent_otel_traces.jsonl.gz", Format.OTEL),
    ],
)
def test_the_format_is_told_by_content(name: str, expected: Format) -> None:
    assert format_of(data_file(name)) is expected


@pytest.mark.parametrize(
    "name",
    [
        "tau2_tasks.jsonl.gz",
        "tau2_run_info.jsonl.gz",
        "betold_valid.jsonl.gz",
        "README.md",
    ],
)
def test_what_is_none_of_ours_is_refused(name: str) -> None:
    with pytest.raises(Rejected, match=r"unknown_format: .*--format") as caught:
        list(read(data_file(name)))
    assert caught.value.exit_code == 4


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_detection_never_fails(sample: list[bytes]) -> None:
    assert detect(sample) in (None, *Format)


def test_info_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="not a file of tau2 info records"):
        load_info(data_file("tau2_tasks.jsonl.gz"))
    assert len(load_info(data_file("tau2_run_info.jsonl.gz"))) == 7


def test_canonical_lines_are_held_to_the_contract(tmp_path: Path) -> None:
    good = event(content="é", attributes={"a": "b"})
    lines = [
        codec.encode([good]),
        b"{",
        b'{"event_id":"b"}',
        b'{"event_id":"c","time_unix_nano":-1,"agent":"x","kind":"score"}',
        b'{"event_id":"c","time_unix_nano":1,"agent":"x","kind":"secret"}',
        b"[" * 5000,
        b'"' + b"x" * 300_000 + b'"',
        b'"\xff"',
        codec.encode([good]),
    ]
    path = tmp_path / "events.ndjson"
    path.write_bytes(b"\n".join(lines))
    items = list(read(path))
    assert items[0] == items[-1] == good
    codes = [str(item.code) for item in items if isinstance(item, Rejected)]
    assert codes == [
        "invalid_json",
        "missing_field",
        "invalid_field",
        "invalid_field",
        "not_an_object",
        "line_too_long",
        "invalid_utf8",
    ]
    assert not any("secret" in str(item) for item in items if isinstance(item, Rejected))


def test_canonical_events_can_be_renamed(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson.gz"
    path.write_bytes(gzip.compress(codec.encode([event(), event(event_id="b")])))
    (first, second) = read(path, Options(agent="y", environment="e"))
    assert first == event(agent="y", environment="e")
    assert second == event(event_id="b", agent="y", environment="e")


def test_iso_times() -> None:
    assert ns_from_iso("1970-01-01T00:00:00.000001") == 1000
    assert ns_from_iso("1970-01-01T02:00:00+02:00") == 0
    assert ns_from_iso("2025-08-01T16:16:37.053887Z") == 1754064997053887000
    with pytest.raises(ValueError, match="not ISO 8601"):
        ns_from_iso("yesterday")


@given(st.text(max_size=200), st.integers(60, 120))
def test_capped_text_fits_and_still_differs(text: str, limit: int) -> None:
    short = capped(text, limit)
    assert len(short) <= limit
    if len(text) <= limit:
        assert short == text
    else:
        assert capped(text + "!", limit) != short
        assert capped(text, limit) == short


def test_lone_surrogates_become_question_marks() -> None:
    assert capped(json.loads('"a\\ud800b"')) == "a?b"


def test_attributes_are_capped_in_number_and_length() -> None:
    kept = attributes({f"k{n:03}": "v" * 5000 for n in range(100)} | {"none": None, "empty": ""})
    assert kept is not None
    assert len(kept) == MAX_ATTRIBUTES
    assert kept["driftline.attributes_dropped"] == str(100 - (MAX_ATTRIBUTES - 1))
    assert max(map(len, kept.values())) == 1024
    assert attributes({"none": None}) is None


def test_the_largest_event_of_a_reader_fits_a_line() -> None:
    worst = "\x01" * 100_000  # six bytes each in JSON
    line = codec.encode(
        [
            event(
                content=capped(worst),
                attributes=attributes({f"{n}" * 300: worst for n in range(9)}),
            )
        ]
    )
    assert codec.decode([line], [10**18]).rejections == []
