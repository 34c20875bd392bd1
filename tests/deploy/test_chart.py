"""The chart: every file of values renders, validates, and means what it should."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.rendering import (
    CHART,
    GOLDEN,
    KUBERNETES,
    TOOLS,
    VALUES,
    Manifest,
    golden,
    helm,
    rendered,
    template,
    text_of,
)

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]  # for machines that are busy

SCHEMAS = Path(__file__).parent / "schemas"
MINIMAL = CHART / "ci" / "minimal-values.yaml"
BY_NAME = [pytest.param(path, id=path.name.removesuffix("-values.yaml")) for path in VALUES]


def validated(text: str, version: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "manifests.yaml"
    path.write_text(text)
    command = [TOOLS / "env/bin/kubernetes-validate", "-k", version, "--strict", path]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def of_kind(found: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in found if manifest["kind"] == kind]


def pods(found: list[Manifest]) -> list[Manifest]:
    return [m["spec"]["template"] for m in found if m["kind"] in ("Deployment", "Job")]


def schema_of(manifest: Manifest) -> Any:
    name = manifest["apiVersion"].replace("/", "_")
    return json.loads((SCHEMAS / f"{name}_{manifest['kind']}.json").read_text())


def test_there_are_at_least_six_files_of_values() -> None:
    assert len(VALUES) >= 6


@pytest.mark.parametrize("values", BY_NAME)
def test_lint(values: Path) -> None:
    done = helm("lint", CHART, "--strict", "--kube-version", "1.37.0", "--values", values)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(version: str, tmp_path: Path) -> None:
    oldest = template("--values", MINIMAL, kubernetes=version)
    assert oldest.returncode == 0, oldest.stderr
    assert oldest.stdout == text_of(MINIMAL)  # what renders does not depend on the version
    result = validated("\n---\n".join(text_of(values) for values in VALUES), version, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_validator_finds_a_planted_fault(tmp_path: Path) -> None:
    text = text_of(MINIMAL)
    assert validated(text, "1.37", tmp_path).returncode == 0
    wrong = validated(text.replace("livenessProbe", "livnessProbe"), "1.37", tmp_path)
    assert wrong.returncode != 0
    assert "livnessProbe" in wrong.stdout + wrong.stderr


@pytest.mark.parametrize("values", BY_NAME)
def test_kinds_of_operators_follow_their_schemas(values: Path) -> None:
    own = ("keda.sh/v1alpha1", "monitoring.coreos.com/v1")
    for manifest in rendered(values):
        if manifest["apiVersion"] in own:
            jsonschema.validate(manifest, schema_of(manifest))


def test_the_schema_of_a_scaler_finds_planted_faults() -> None:
    scaler = of_kind(rendered(CHART / "ci" / "everything-values.yaml"), "ScaledObject")[0]
    for name, value in (("lagThreshold", 10), ("excludePersistentLags", "true"), ("tls", "on")):
        wrong = json.loads(json.dumps(scaler))
        wrong["spec"]["triggers"][0]["metadata"][name] = value
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema_of(scaler))


@pytest.mark.parametrize("values", BY_NAME)
def test_renders_are_those_that_are_committed(values: Path) -> None:
    path = GOLDEN / values.name.replace("-values", "")
    assert golden(rendered(values)) == path.read_text(), (
        "look at what changed, then: .venv/bin/python -m tests.deploy.rendering"
    )


def test_no_committed_render_is_left_over() -> None:
    expected = {values.name.replace("-values", "") for values in VALUES}
    assert {path.name for path in GOLDEN.glob("*")} == expected


REFUSED = {
    "kafka.bootstrapServers=": "say where Kafka is",
    "clickhouse.url=": "say where ClickHouse is",
    "existingSecret=": "name a Secret",
    "worker.replicas=13": "more than one per partition would idle",
    "worker.keda.enabled=true,worker.keda.maxReplicas=13": "more than one per partition would idle",
    "evaluator.enabled=true": "evaluator.args",
    "kafka.securityProtocol=SASL_SSL": "set kafka.sasl.mechanism",
    "gateway.ingress.enabled=true": "gateway.ingress.host",
    # By the schema of the values:
    "worker.keda.minReplicas=0": "minReplicas",
    "worker.replica=3": "replica",
    "kafka.bootstrapServers=kafka": "bootstrapServers",
    "clickhouse.url=http://user:password@clickhouse": "url",
    "clickhouse.password=secret": "password",
    "terminationGracePeriodSeconds=5": "terminationGracePeriodSeconds",
    "gateway.hpa.cpu=0": "cpu",
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_would_not_work_is_refused(change: str) -> None:
    done = template("--values", MINIMAL, "--set", change)
    assert done.returncode != 0
    assert REFUSED[change] in done.stderr


@pytest.mark.parametrize("values", BY_NAME)
def test_pods_are_confined(values: Path) -> None:
    for pod in pods(rendered(values)):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"]["memory"]
            assert container["resources"]["limits"]["memory"]
        for volume in spec["volumes"]:
            # Without items it would be the whole Secret.
            assert "secret" not in volume or volume["secret"]["items"]


@pytest.mark.parametrize("values", BY_NAME)
def test_secrets_stay_outside_of_the_chart(values: Path) -> None:
    found = rendered(values)
    assert not of_kind(found, "Secret")
    for pod in pods(found):
        for variable in pod["spec"]["containers"][0]["env"]:
            secret = variable["name"].endswith(("_PASSWORD", "_KEY", "_TOKEN"))
            assert not secret or "value" not in variable, variable["name"]


@pytest.mark.parametrize("values", BY_NAME)
def test_workloads_are_probed_by_progress(values: Path) -> None:
    for deployment in of_kind(rendered(values), "Deployment"):
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        ports = {port["name"] for port in container["ports"]}
        assert {
            container[f"{kind}Probe"]["httpGet"]["port"] for kind in ("readiness", "liveness")
        } == ports


@pytest.mark.parametrize("values", BY_NAME)
def test_every_selector_finds_its_pods(values: Path) -> None:
    found = rendered(values)
    labels = [pod["metadata"]["labels"] for pod in pods(found)]
    for manifest in found:
        spec = manifest.get("spec", {})
        wanted = spec.get("selector", spec.get("podSelector"))
        if wanted is not None:
            wanted = wanted.get("matchLabels", wanted)
            assert any(wanted.items() <= label.items() for label in labels), manifest["metadata"]
    names = {manifest["metadata"]["name"] for manifest in of_kind(found, "Deployment")}
    for scaler in of_kind(found, "ScaledObject") + of_kind(found, "HorizontalPodAutoscaler"):
        assert scaler["spec"]["scaleTargetRef"]["name"] in names


def test_who_is_scaled_has_no_replicas_of_its_own() -> None:
    found = rendered(CHART / "ci" / "autoscaled-values.yaml")
    scaled = {
        scaler["spec"]["scaleTargetRef"]["name"]
        for scaler in of_kind(found, "ScaledObject") + of_kind(found, "HorizontalPodAutoscaler")
    }
    assert len(scaled) == 3
    for deployment in of_kind(found, "Deployment"):
        own = "replicas" in deployment["spec"]
        assert own != (deployment["metadata"]["name"] in scaled)


def test_workers_follow_lag_without_the_traps() -> None:
    found = rendered(CHART / "ci" / "autoscaled-values.yaml")
    scaler = next(
        manifest
        for manifest in of_kind(found, "ScaledObject")
        if manifest["metadata"]["name"].endswith("-worker")
    )["spec"]
    trigger = scaler["triggers"][0]["metadata"]
    assert scaler["minReplicaCount"] >= 1  # a group that has not committed would stay at 0
    assert scaler["maxReplicaCount"] == 24  # the partitions
    assert trigger["excludePersistentLag"] == "true"  # a poisoned partition starts nobody
    assert trigger["ensureEvenDistributionOfPartitions"] == "true"
    assert trigger["allowIdleConsumers"] == "false"
    # In records: 30,000 events/s for 120 s at 500 events a record.
    assert trigger["lagThreshold"] == "7200"
    assert trigger["consumerGroup"] == _group("processors.consumer")
    receiver = next(
        manifest
        for manifest in of_kind(found, "ScaledObject")
        if manifest["metadata"]["name"].endswith("-receiver")
    )
    groups = {t["metadata"]["consumerGroup"] for t in receiver["spec"]["triggers"]}
    assert groups == {_group("ingest.kafka_receiver")}


def _group(module: str) -> str:
    import importlib

    return str(importlib.import_module(module).GROUP)


@pytest.mark.parametrize("values", BY_NAME)
def test_driftline_understands_the_environment_of_every_pod(
    values: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from infra.settings import load

    monkeypatch.chdir(tmp_path)
    for pod in pods(rendered(values)):
        container = pod["spec"]["containers"][0]
        with monkeypatch.context() as patch:
            for variable in container["env"]:
                value = variable.get("value", "of-the-secret")
                if value.startswith("/etc/driftline/"):
                    value = value.replace("/etc/driftline", str(tmp_path))
                    Path(value).write_text("")
                patch.setenv(variable["name"], value)
            settings = load()
        assert settings.kafka.bootstrap_servers


@pytest.mark.parametrize("values", BY_NAME)
def test_every_container_runs_a_command_that_exists(values: Path) -> None:
    from infra.cli import command_line

    commands = set(command_line().commands)
    for pod in pods(rendered(values)):
        container = pod["spec"]["containers"][0]
        assert container["args"][0] in commands
        role = container["image"].rpartition("-")[2]
        assert (CHART.parents[3] / "requirements" / f"{role}.txt").exists()


def test_migration_comes_first_and_a_refusal_ends_it() -> None:
    job = of_kind(rendered(MINIMAL), "Job")[0]
    hooks = job["metadata"]["annotations"]["helm.sh/hook"].split(",")
    assert set(hooks) >= {"pre-install", "pre-upgrade", "pre-rollback"}
    rule = job["spec"]["podFailurePolicy"]["rules"][0]
    from ingest.core.errors import Rejected, UsageError

    assert rule["action"] == "FailJob"
    assert set(rule["onExitCodes"]["values"]) == {UsageError.exit_code, Rejected.exit_code}
    # Nothing of the release exists yet when it runs.
    spec = job["spec"]["template"]["spec"]
    assert "serviceAccountName" not in spec
    assert "envFrom" not in spec["containers"][0]


def test_rules_and_dashboards_come_along() -> None:
    found = rendered(CHART / "ci" / "monitored-values.yaml")
    rules = of_kind(found, "PrometheusRule")[0]["spec"]
    assert rules == yaml.safe_load(
        (CHART.parents[1] / "alerts" / "driftline.rules.yaml").read_text()
    )
    boards = [
        m for m in of_kind(found, "ConfigMap") if "grafana_dashboard" in m["metadata"]["labels"]
    ]
    uids = {json.loads(text)["uid"] for board in boards for text in board["data"].values()}
    assert "driftline-pipeline" in uids
