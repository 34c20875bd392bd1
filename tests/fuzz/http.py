"""Send a running gateway what its OpenAPI description allows, and what it does not.

``python -m tests.fuzz.http --seconds 600``. Every answer must be one of those described, of its
media type and shape, never a 5xx, and come within `SLOWEST_S`.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from ingest.gateway.openapi import openapi
from ingest.redaction import RedactionConfig, Redactor
from tests.unit.ingest.gateway_harness import served

SLOWEST_S = 5.0
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_schema_conformance",
)  # fmt: skip


class Enough(Exception):
    """The time is over, or the requests are made."""


def fuzz(seconds: float, requests: int) -> Counter[str]:
    """Return how often each route gave each status; raises what a check found."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import schemathesis
        from schemathesis import checks

    checks.load_all_checks()
    must_hold = [checks.CHECKS.get_one(name) for name in CHECKS]
    schema = schemathesis.openapi.from_dict(openapi("0"))
    cases = st.one_of(
        found.ok().as_strategy(generation_mode=mode)
        for found in schema.get_all_operations()
        for mode in schemathesis.GenerationMode
    )
    seen: Counter[str] = Counter()
    end = time.monotonic() + seconds
    redact = Redactor(RedactionConfig(key=b"key")).apply
    with served(redact=redact) as gateway:
        base = f"http://127.0.0.1:{gateway.port}"

        @settings(
            max_examples=10**9,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),
        )
        @hypothesis.given(cases)
        def send(case: schemathesis.Case) -> None:
            if time.monotonic() > end or seen.total() >= requests:
                raise Enough
            start = time.monotonic()
            answer = case.call(base_url=base, timeout=2 * SLOWEST_S)
            assert time.monotonic() - start < SLOWEST_S
            case.validate_response(answer, checks=must_hold)
            seen[f"{case.operation.path} {answer.status_code}"] += 1
            gateway.producer.stored.clear()

        with suppress(Enough):
            send()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--requests", type=int, default=10**9, help="stop after so many")
    given = parser.parse_args()
    seen = fuzz(given.seconds, given.requests)
    for name, count in sorted(seen.items()):
        sys.stdout.write(f"{count:8} {name}\n")
    # Not ru_maxrss, which begins with what the parent of the process took.
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024  # type: ignore[index]
    sys.stdout.write(f"{sum(seen.values())} requests, peak memory {peak} MB\n")


if __name__ == "__main__":
    main()
