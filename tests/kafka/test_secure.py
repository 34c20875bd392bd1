"""TLS and login: every client of driftline through its settings, and what a mistake says."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from ingest.core.errors import Unavailable
from ingest.core.kafka import KafkaConfig
from ingest.producer import KafkaEventProducer
from tests.kafka.harness import Bed
from tests.kafka.secure import PASSWORD, USER, Certificates, secure_port
from tests.kafka.traffic import Traffic

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


def settings(bed: Bed, certificates: Certificates, mechanism: str) -> dict[str, str]:
    port = secure_port(bed.cluster.nodes[0].port)
    return {
        "DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
        "DRIFTLINE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "DRIFTLINE_KAFKA_SASL_MECHANISM": mechanism,
        "DRIFTLINE_KAFKA_SASL_USERNAME": USER,
        "DRIFTLINE_KAFKA_SASL_PASSWORD": PASSWORD,
        "DRIFTLINE_KAFKA_SSL_CAFILE": str(certificates.ca),
    }


def config(given: dict[str, str]) -> KafkaConfig:
    return KafkaConfig(
        bootstrap_servers=given["DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS"],
        security_protocol="SASL_SSL",
        sasl_mechanism=given["DRIFTLINE_KAFKA_SASL_MECHANISM"],
        sasl_username=USER,
        sasl_password=PASSWORD,
        ssl_cafile=given["DRIFTLINE_KAFKA_SSL_CAFILE"],
    )


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_the_whole_pipeline_over_tls_with_a_login(
    bed: Bed, certificates: Certificates, mechanism: str
) -> None:
    bed.environment = settings(bed, certificates, mechanism)
    bed.cluster.delete_topics()
    made = bed.run("migrate")  # topics through the settings
    assert made.returncode == 0, made.stderr
    assert "driftline.events" in made.stdout
    bed.worker()
    events = Traffic(7).interactions(300, time.time_ns())
    with KafkaEventProducer(config(bed.environment)) as producer:
        producer.send(events)
    bed.settle()
    bed.check(events)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
@pytest.mark.parametrize("command", ["worker", "migrate"])
def test_a_wrong_password_is_said_at_once(
    bed: Bed, certificates: Certificates, command: str, mechanism: str
) -> None:
    bed.environment = settings(bed, certificates, mechanism)
    began = time.monotonic()
    done = bed.run(command, DRIFTLINE_KAFKA_SASL_PASSWORD="wrong-battery")
    took = time.monotonic() - began
    assert done.returncode == 3, done.stderr
    errors = done.stderr.strip().splitlines()
    assert len(errors) == 1, done.stderr
    assert "SASL" in errors[0] or "login" in errors[0]
    assert "wrong-battery" not in done.stdout + done.stderr
    assert took < 15


def test_an_unknown_certificate_authority_is_said_at_once(
    bed: Bed, certificates: Certificates
) -> None:
    bed.environment = settings(bed, certificates, "PLAIN")
    del bed.environment["DRIFTLINE_KAFKA_SSL_CAFILE"]
    began = time.monotonic()
    done = bed.run("worker")
    assert done.returncode == 3, done.stderr
    errors = done.stderr.strip().splitlines()
    assert len(errors) == 1, done.stderr
    assert "certificate" in errors[0].lower()
    assert time.monotonic() - began < 15


def test_the_producer_says_at_once_that_its_login_is_wrong(
    bed: Bed, certificates: Certificates
) -> None:
    right = config(settings(bed, certificates, "SCRAM-SHA-512"))
    began = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        KafkaEventProducer(replace(right, sasl_password="wrong-battery"))
    assert "wrong-battery" not in str(raised.value)
    assert time.monotonic() - began < 15


def test_plain_text_to_a_tls_listener_is_said_at_once(bed: Bed) -> None:
    port = secure_port(bed.cluster.nodes[0].port)
    began = time.monotonic()
    done = bed.run("worker", DRIFTLINE_KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{port}")
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert time.monotonic() - began < 25
