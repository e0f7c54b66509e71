#!/usr/bin/env bash
# Installs the real client libraries the flow tests use, once: the openai clients of PyPI and
# npm, at fixed versions, into build/clients.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
dir=$root/build/clients
mark=$dir/installed-1
[ ! -e "$mark" ] || exit 0
rm -rf "$dir"
mkdir -p "$dir"
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check "openai==3.54.0"
cp "$root/tests/flow/package.json" "$dir/"
(cd "$dir" && npm install --silent --no-audit --no-fund)
touch "$mark"
