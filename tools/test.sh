#!/usr/bin/env bash
# Installs the dev extra into .venv and runs all tests; further arguments go to pytest (bash tools/test.sh -k optics).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
set_up dev
cd "$root"
echo "test: pytest $*"
exec "$venv/bin/python" -m pytest "$@"
