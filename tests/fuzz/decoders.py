"""Drive the targets by coverage: ``python -m tests.fuzz.decoders NAME --seconds 600``.

Atheris (libFuzzer for Python) watches which branches of our code an input reaches, and keeps what
reaches new ones. Memory is bounded at 2 GB and one input at ten seconds; beyond it the run fails
and leaves the input in the corpus folder.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import atheris

RSS_MB = 2048
SECONDS_PER_INPUT = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="a target, or all for one after the other in turns")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, default=Path("bench/out/fuzz"))
    parser.add_argument("--seed", type=int, default=0, help="0 is another every time")
    given = parser.parse_args()

    with warnings.catch_warnings(), atheris.instrument_imports(include=["ingest"]):
        warnings.simplefilter("ignore")
        from tests.fuzz.targets import TARGETS, seeds

    names = list(TARGETS) if given.name == "all" else [given.name]
    folder = given.corpus / given.name
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        for at, seed in enumerate(seeds(name)):
            prefix = bytes([number]) if len(names) > 1 else b""
            (folder / f"seed-{name}-{at}").write_bytes(prefix + seed)

    def one(data: bytes) -> None:
        if len(names) == 1:
            TARGETS[names[0]](data)
        elif data:
            TARGETS[names[data[0] % len(names)]](data[1:])

    atheris.Setup(
        [
            sys.argv[0], str(folder), f"-max_total_time={given.seconds}", "-max_len=8192",
            f"-rss_limit_mb={RSS_MB}", f"-timeout={SECONDS_PER_INPUT}", f"-seed={given.seed}",
            f"-artifact_prefix={folder}/", "-print_final_stats=1", "-verbosity=0",
        ],
        one,
    )  # fmt: skip
    atheris.Fuzz()


if __name__ == "__main__":
    main()
