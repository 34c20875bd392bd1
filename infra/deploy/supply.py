"""What driftline is made of: NOTICE, and a bill of materials for a release.

``python -m infra.deploy.supply`` writes ``NOTICE`` from the lock of what runs and the metadata of
what is installed, and ``dist/driftline.cdx.json``, a CycloneDX document with the lock's hashes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = ROOT / "requirements" / "run.txt"
NOTICE: Final = ROOT / "NOTICE"
SBOM: Final = ROOT / "dist" / "driftline.cdx.json"
_TOOL: Final = ROOT / ".cache" / "deploy" / "env" / "bin" / "cyclonedx-py"

_HEAD: Final = """driftline
Licensed under the Apache License, Version 2.0; see LICENSE.

An image or environment with everything that `make demo` installs holds the packages below, each
under its own licence. A role (requirements/gateway.txt and others) holds some of them. The texts
are in the packages' own metadata, and in images under /opt/driftline/lib.

The board includes uPlot 1.6.32 (MIT, Copyright (c) 2022 Leon Sorokin), unchanged from the npm
package: dashboards/web/static/uPlot.iife.min.js, uPlot.min.css, uPlot.LICENSE.

"""


def locked(lock: Path = LOCK) -> dict[str, str]:
    """Version by name of what is installed on Linux with CPython 3.11."""
    pins = re.findall(r"^([\w.-]+)==([^ \\]+)(?: ; ([^\\]+))?", lock.read_text("utf-8"), re.M)
    return {name: version for name, version, marker in pins if _applies(marker)}


def _applies(marker: str) -> bool:
    return not marker or not re.search(r"win32|emscripten|full_version >= '3\.1[2-9]'", marker)


def licence(name: str) -> str:
    """Licence of an installed package, as its metadata says it.

    Raises
    ------
    LookupError
        The package is not installed, or says nothing.
    """
    try:
        told = metadata(name)
    except PackageNotFoundError:
        raise LookupError(f"{name} is not installed: make setup") from None
    classified = [
        line.rpartition(" :: ")[2]
        for line in told.get_all("Classifier") or []
        if line.startswith("License :: OSI Approved ::")
    ]
    said = told["License"].strip() if "License" in told else ""
    short = said if said and len(said) <= 60 and "\n" not in said else ""
    expressions = told.get_all("License-Expression") or [""]
    found = expressions[0] or short or ", ".join(sorted(classified))
    if not found or found == "UNKNOWN":
        raise LookupError(f"{name} does not say its licence")
    return str(found)


def notice() -> str:
    """Text of NOTICE."""
    return _HEAD + "".join(
        f"{name} {version}: {licence(name)}\n" for name, version in sorted(locked().items())
    )


def bill() -> dict[str, Any]:
    """CycloneDX document of the lock, with licences."""
    done = subprocess.run(
        [_TOOL, "requirements", LOCK, "--pyproject", ROOT / "pyproject.toml",
         "--output-reproducible", "--of", "JSON"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    document: dict[str, Any] = json.loads(done.stdout)
    here = locked()
    document["components"] = [
        c for c in document["components"] if here.get(c["name"]) == c["version"]
    ]
    for component in document["components"]:
        component["licenses"] = [{"license": {"name": licence(component["name"])}}]
    kept = {component["bom-ref"] for component in document["components"]}
    document["dependencies"] = [
        entry | {"dependsOn": [ref for ref in entry.get("dependsOn", []) if ref in kept]}
        for entry in document["dependencies"]
        if entry["ref"] in kept or entry["ref"] == document["metadata"]["component"]["bom-ref"]
    ]
    return document


def main() -> int:
    """Write both files."""
    NOTICE.write_text(notice(), "utf-8")
    SBOM.parent.mkdir(exist_ok=True)
    SBOM.write_text(json.dumps(bill(), indent=2, sort_keys=True) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
