"""Whether Kafka can be reached, said at once and in one sentence.

The client libraries try again for long whatever the reason, and kafka-python takes a refused login
for a lost connection. So before they start, one connection is made and logged in.
"""

from __future__ import annotations

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ingest.core.errors import Unavailable
from ingest.core.kafka import KafkaConfig

_TIMEOUT_S: Final = 5.0


def check_connection(kafka: KafkaConfig) -> None:
    """Return when one of the brokers takes a connection and the login.

    Raises
    ------
    Unavailable
        None does; the message says why and which setting to correct.
    """
    # In a thread of its own, as the caller may have an event loop running.
    with ThreadPoolExecutor(1, "reach") as thread:
        refused = thread.submit(asyncio.run, _first_refusal(kafka)).result()
    if refused is not None:
        raise refused


async def _first_refusal(kafka: KafkaConfig) -> Unavailable | None:
    """None when any broker is fine, else why one that answers refuses, else that none answers."""
    silent = Unavailable(
        f"no Kafka broker answers at {kafka.bootstrap_servers};"
        " start it, as `driftline up` does, or correct DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS"
    )
    refusal = None
    for server in kafka.bootstrap_servers.split(","):
        try:
            await asyncio.wait_for(_handshake(kafka, server), _TIMEOUT_S)
        except Unavailable as error:
            refusal = error
        except OSError:  # a timeout among them
            continue
        else:
            return None
    return refusal or silent


async def _handshake(kafka: KafkaConfig, server: str) -> None:
    from aiokafka.conn import create_conn
    from aiokafka.errors import (
        KafkaError,
        SaslAuthenticationFailed,
        UnsupportedSaslMechanismError,
    )

    host, _, port = server.rpartition(":")
    protocol, mechanism = kafka.security_protocol, kafka.sasl_mechanism
    try:
        connection = await create_conn(
            host.strip("[]"),
            int(port),
            security_protocol=protocol,
            ssl_context=kafka.ssl_context(),
            sasl_mechanism=mechanism,
            sasl_plain_username=kafka.sasl_username,
            sasl_plain_password=kafka.sasl_password,
        )
    except ssl.SSLCertVerificationError as error:
        raise Unavailable(
            f"the certificate of Kafka at {server} is not trusted ({error.verify_message});"
            " set DRIFTLINE_KAFKA_SSL_CAFILE to the CA that signed it"
        ) from error
    except (SaslAuthenticationFailed, UnsupportedSaslMechanismError) as error:
        raise Unavailable(
            f"Kafka at {server} refuses the {mechanism} login of {kafka.sasl_username!r};"
            " correct DRIFTLINE_KAFKA_SASL_USERNAME, _PASSWORD or _MECHANISM"
        ) from error
    except (ssl.SSLError, KafkaError) as error:
        raise Unavailable(
            f"Kafka at {server} ends the connection: perhaps it does not speak {protocol};"
            " correct DRIFTLINE_KAFKA_SECURITY_PROTOCOL"
        ) from error
    connection.close()
