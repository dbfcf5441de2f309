# Sourced by the other scripts: makes this checkout's own virtual environment, .venv, and installs the project into it.
#   set_up EXTRA     EXTRA is one of pyproject.toml's
# Safe to run again; only what is missing is installed. PYTHON names the interpreter to start from (default python3).
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

set_up() {
  local extra=$1 python=${PYTHON:-python3}
  if ! "$venv/bin/python" -c '' 2>/dev/null; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
      echo "setup: $python is not Python 3.10 or newer; name one with PYTHON=/path/to/python" >&2
      exit 2
    }
    echo "setup: making .venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
  fi
  echo "setup: installing irst-stream[$extra] into .venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$root[$extra]"
}
