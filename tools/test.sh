#!/usr/bin/env bash
# Installs the dev extra into .venv and runs all tests, on as many cores as there are up to four; further arguments go to
# pytest (bash tools/test.sh -k optics; -n 0 for all in one process).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
set_up dev
cd "$root"
"$venv/bin/irst-stream" warm-up  # once here, rather than in every process of the tests
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}  # each process of the tests has a core; more threads would only wait for one
echo "test: pytest $*"
exec "$venv/bin/python" -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal "$@"
