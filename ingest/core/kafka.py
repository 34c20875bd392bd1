"""How to reach Kafka: one config, and what each client library calls its parts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any, Final

FETCH_MAX_WAIT_MS: Final = 50
"""How long a broker may hold back an empty answer. Kafka answers when records come in between;
others, such as the embedded one, look only once this time is over."""


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """Address and credentials of a Kafka cluster.

    ``log_id`` identifies the incarnation of the log, so that offsets of a topic that was deleted
    and made again never stand for the old ones.
    """

    bootstrap_servers: str = "127.0.0.1:9092"
    log_id: str = ""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None

    def ssl_context(self) -> ssl.SSLContext | None:
        """TLS context when the protocol asks for one, else None."""
        if "SSL" not in self.security_protocol:
            return None
        context = ssl.create_default_context(cafile=self.ssl_cafile)
        if self.ssl_certfile is not None:
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        return context

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments that kafka-python's and aiokafka's clients share."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers.split(","),
            "security_protocol": self.security_protocol,
        }
        context = self.ssl_context()
        if context is not None:
            options["ssl_context"] = context
        if self.sasl_mechanism is not None:
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return options
