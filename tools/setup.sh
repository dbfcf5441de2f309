# Sourced by the other scripts: makes this checkout's own virtual environment, .venv, and installs the project into it.
#   set_up EXTRA     EXTRA is one of pyproject.toml's
# Safe to run again; installs only when pyproject.toml has changed since. PYTHON names the interpreter to start from.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

set_up() {
  local extra=$1 python=${PYTHON:-python3} stamp=$venv/.installed-$1
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
      echo "setup: $python is not Python 3.10 or newer; name one with PYTHON=/path/to/python" >&2
      exit 2
    }
    echo "setup: making .venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
  fi
  if ! cmp -s "$root/pyproject.toml" "$stamp"; then
    echo "setup: installing irst-stream[$extra] into .venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$root[$extra]"
    if [ "$extra" = dev ]; then  # without what it asks for: opencv-python would take the place of the headless cv2
      "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "trackeval==1.3.0"
    fi
    cp "$root/pyproject.toml" "$stamp"
  fi
}
