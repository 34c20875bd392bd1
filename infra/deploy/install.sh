#!/bin/sh
# Install driftline for one role into a new virtual environment, from hash-pinned wheels only.
# This is what the image holds; it needs no root, and the same sources give the same files.
# Usage: sh infra/deploy/install.sh ROLE TARGET
set -eu

role=$1
target=$2
source=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PYTHONDONTWRITEBYTECODE=1

python3 -m venv "$target"
pip="$target/bin/python -m pip --quiet"
$pip install --no-compile --only-binary :all: --require-hashes -r "$source/requirements/$role.txt"
$pip install --no-compile --only-binary :all: --require-hashes --target "$work/tools" -r "$source/requirements/build.txt"
PYTHONPATH="$work/tools" $pip wheel --no-deps --no-build-isolation --wheel-dir "$work" "$source"
$pip install --no-compile --no-deps --no-index "$work"/driftline-*.whl
# Nothing is installed later, and an image without pip and setuptools has less to be patched.
$pip uninstall --yes pip setuptools
# Compiled files that carry hashes, not times.
"$target/bin/python" -m compileall -q --invalidation-mode unchecked-hash "$target/lib" || true
