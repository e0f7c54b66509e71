#!/usr/bin/env bash
# The python of the flow tests: with the installed client libraries when they are there.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=$root/build/clients/venv/bin/python3
[ -x "$venv" ] || venv=python3
exec "$venv" -u "$@"
