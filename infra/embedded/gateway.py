"""The gateway as a part of the embedded runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from infra.embedded.process import port_is_free, start, stop, wait_for_port
from infra.settings.gateway import GatewaySettings
from ingest.core.errors import UsageError


def gateway_address(section: GatewaySettings, port: int) -> str:
    """Where clients on this machine reach a gateway that listens on ``port``."""
    scheme = "http" if section.tls_certfile is None else "https"
    host = "127.0.0.1" if section.host in ("0.0.0.0", "::") else section.host  # noqa: S104
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def start_gateway(port: int, log: Path, home: Path) -> subprocess.Popen[bytes]:
    """Start a gateway and return when it takes requests.

    It finds everything else through the home and the settings, as one started by hand would.

    Raises
    ------
    UsageError
        The port is in use, or a setting of the gateway is wrong.
    Unavailable
        It did not come up.
    """
    if not port_is_free(port):
        raise UsageError(f"port {port} is in use; choose others with --port-base")
    environment = {"DRIFTLINE_HOME": str(home), "DRIFTLINE_GATEWAY_PORT": str(port)}
    process = start([sys.executable, "-m", "infra.cli", "gateway"], log, environment)
    try:
        wait_for_port(process, port, "gateway", log)
    except BaseException:
        stop(process)
        raise
    return process
