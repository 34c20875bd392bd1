"""The bill of materials is valid CycloneDX and lists what the lock holds, with its hashes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from infra.deploy import supply
from tests.deploy.rendering import TOOLS

pytestmark = pytest.mark.deploy

_VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(str(error) if error else 0)
"""


def test_the_bill_of_materials(tmp_path: Path) -> None:
    document = supply.bill()
    found = {component["name"]: component["version"] for component in document["components"]}
    assert found == supply.locked()
    for component in document["components"]:
        hashes = [
            entry["alg"]
            for reference in component["externalReferences"]
            for entry in reference.get("hashes", [])
        ]
        assert "SHA-256" in hashes, component["name"]
        assert component["licenses"]
    path = tmp_path / "bom.json"

    def valid() -> int:
        path.write_text(json.dumps(document))
        return subprocess.run(
            [TOOLS / "env/bin/python", "-c", _VALIDATE, path], check=False
        ).returncode

    assert valid() == 0
    document["components"][0]["licence"] = "MIT"
    assert valid() != 0
