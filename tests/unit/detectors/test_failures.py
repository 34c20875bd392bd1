import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.failures import fingerprint

PYTHON_TRACE = (
    "Traceback (most recent call last):\n"
    '  File "/srv/app/tools.py", line {line}, in call\n'
    "    return client.get(url)\n"
    '  File "/usr/lib/python3.11/http.py", line 9, in get\n'
    "TimeoutError: no answer from {host} after {n} s"
)
JAVA_TRACE = (
    "java.io.IOException: pipe {n} broken\n\tat a.B.c(B.java:{line})\n\tat d.E.f(E.java:1)\n"
    "\t... {n} more"
)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Error: Order #W2378156 not found", "Error: Order <id> not found"),
        ("No such file: '/tmp/a b.txt'", "No such file: <str>"),
        ("cannot read /var/lib/x/data-7.csv: denied", "cannot read <path>: denied"),
        ("C:\\Users\\me\\a.txt is locked", "<path> is locked"),
        ("mail to a.b+c@mail.example.org bounced", "mail to <email> bounced"),
        ("GET https://x.example/a?b=1#c failed", "GET <url> failed"),
        ("trace 550e8400-e29b-41d4-a716-446655440000 lost", "trace <uuid> lost"),
        ("at 2026-11-22T10:11:12.5Z and 3 May 2026", "at <date> and <date>"),
        ("10.1.2.3:8080 refused", "<ip> refused"),
        ("object at 0x7f3a91 and deadbeef01", "object at <hex> and <hex>"),
        ("retry in 250ms, used 81.5%", "retry in <num>, used <num>"),
        ("items [1, 2, 3] and [4] invalid", "items [<num>] and [<num>] invalid"),
        ("user yusuf_rossi_9620 unknown", "user <id> unknown"),
        ("HTTP 503 from upstream", "HTTP 503 from upstream"),
        ('{"code": 429, "retry": 12}', "{<str>: 429, <str>: <num>}"),
        ("don't divide by zero", "don't divide by zero"),
        ("  several \n\t spaces  ", "several spaces"),
        ("", ""),
    ],
)
def test_template(message: str, expected: str):
    assert fingerprint.template(message) == expected


def test_status_codes_stay_apart_while_other_numbers_merge():
    assert fingerprint.template("HTTP 404") != fingerprint.template("HTTP 500")
    assert fingerprint.template("got 404 rows") == fingerprint.template("got 500 rows")


@pytest.mark.parametrize("trace", [PYTHON_TRACE, JAVA_TRACE])
def test_stack_frames_do_not_matter_but_the_exception_does(trace: str):
    one = fingerprint.template(trace.format(line=3, host="db-1", n=30))
    other = fingerprint.template(trace.format(line=99, host="db-22", n=5))
    assert one == other
    assert "File" not in one and ".java" not in one
    assert "TimeoutError: no answer" in one or "java.io.IOException: pipe" in one


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                ["a@b.io", "https://x.io/a", "10.0.0.1", "::1:2:3", "'q'", "“r”", "/a/b", "\\a\\b",
                 "`c`", "٣٤", "2026-01-02", "0x1f", "0X9", "error 603", "code: 404",
                 "a1b2c3d", "é5", "780.588 ms", "#W12", "_7", "x<3", "deadbee7",
                 "\tat a.B(C.java:1)\n", "goroutine 7", "HTTP 503",
                 "Traceback (most recent call last):\n x\nE", "...", "\n", " "]
            ),
            st.text(max_size=6),
        ),
        max_size=8,
    ).map("".join)
)  # fmt: skip
def test_what_is_left_out_for_speed_would_have_found_nothing(message: str):
    found = fingerprint.template(message)
    signs, masks = fingerprint._TRACE_SIGNS, fingerprint._MASKS
    try:
        fingerprint._TRACE_SIGNS = ("",)
        fingerprint._MASKS = tuple((pattern, mask, "") for pattern, mask, _ in masks)
        assert fingerprint._masked.__wrapped__(message) == found
    finally:
        fingerprint._TRACE_SIGNS, fingerprint._MASKS = signs, masks


@given(
    order=st.integers(0, 10**9),
    uuid=st.uuids(),
    path=st.lists(st.sampled_from(["var", "tmp", "a-b", "x.y"]), min_size=2, max_size=5),
    quoted=st.text("abc 123", max_size=10),
)
def test_one_problem_has_one_template(order, uuid, path, quoted):
    message = f"Order #W{order} ({uuid}) in /{'/'.join(path)} failed with '{quoted}' after {order}"
    assert fingerprint.template(message) == (
        "Order <id> (<uuid>) in <path> failed with <str> after <num>"
    )


@given(st.text(max_size=400))
def test_any_text_gives_a_bounded_single_line(message: str):
    result = fingerprint.template(message)
    assert len(result) <= fingerprint.MAX_TEMPLATE
    assert "\n" not in result
    assert result == result.strip()


@pytest.mark.parametrize(
    "hostile",
    ["a-" * 5000, '"' * 5000, "/a.." * 2000, "a." * 5000 + "@", "at \n" * 2000, "(" * 9000],
)
def test_hostile_messages_take_bounded_time(hostile: str):
    import time

    begin = time.thread_time()
    fingerprint._masked.cache_clear()
    fingerprint.template(hostile)
    assert time.thread_time() - begin < 0.5


def test_fingerprints_are_those_of_every_other_day():
    # golden: stored identities must survive upgrades
    assert fingerprint.fingerprint("tool_error", "get_order", "Order <id> not found") == (
        "2e0a2799f7ba8047"
    )
    assert fingerprint.fingerprint("", "", "") == "b8c9e440ead3ddac"


def test_parts_cannot_be_shifted_into_each_other():
    assert fingerprint.fingerprint("ab", "c", "d") != fingerprint.fingerprint("a", "bc", "d")
