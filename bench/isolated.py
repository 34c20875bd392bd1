"""Runs a peer in its own environment: their requirements exclude each other.

``make peers`` builds the environments from the lock files ``bench/peers/*.txt``. A peer without one
is left out of the results.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

PEERS: Final = Path("bench/peers")


def run_peer(
    env: str, script: str, request: dict[str, Any], timeout: float = 600.0
) -> dict[str, Any] | None:
    """Run ``bench/peers/SCRIPT.py ENV`` in the environment ``env``, JSON in and out.

    Returns
    -------
    dict or None
        The answer; None when the environment is not built, or the peer failed or took too long.
    """
    python = (PEERS / f"env-{env}" / "bin" / "python").absolute()
    if not python.exists():
        return None
    file = Path(__file__).parent / "peers" / f"{script}.py"
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [str(python), str(file), env],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **single},
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode != 0:
        return None
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
