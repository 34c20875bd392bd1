"""A listener with TLS and login: certificates made for the test, and the broker's settings."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

USER = "driftline"
PASSWORD = "correct-horse"
_LISTENER = "listener.name.sasl_ssl"
_MODULES = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class Certificates:
    """A CA of our own and the broker's certificate with its key, in PEM."""

    ca: Path
    broker: Path

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        ca, ca_key = folder / "ca.pem", folder / "ca.key"
        key, request, signed = folder / "b.key", folder / "b.csr", folder / "b.pem"
        extensions = folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        new = ("-newkey", "rsa:2048", "-nodes")
        for command in (
            ("req", "-x509", *new, "-keyout", ca_key, "-out", ca, "-days", "2", "-subj", "/CN=CA"),
            ("req", *new, "-keyout", key, "-out", request, "-subj", "/CN=127.0.0.1"),
            ("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial",
             "-out", signed, "-days", "2", "-extfile", extensions),
        ):  # fmt: skip
            subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
        broker = folder / "broker.pem"
        broker.write_text(key.read_text() + signed.read_text())
        return cls(ca, broker)


def secure_port(port: int) -> int:
    """Where the listener is on a node whose plain one is at ``port``."""
    return port + 2


def secure_settings(port: int, certificates: Certificates) -> dict[str, str]:
    """Broker settings that add the listener."""
    return {
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{port + 1},"
        f"SASL_SSL://127.0.0.1:{secure_port(port)}",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates.broker),
        f"{_LISTENER}.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
        f"{_LISTENER}.scram-sha-512.sasl.jaas.config":
            f"{_MODULES}.scram.ScramLoginModule required;",
        f"{_LISTENER}.plain.sasl.jaas.config":
            f'{_MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
    }  # fmt: skip
