#!/usr/bin/env bash
# Runs the Python tests on every supported minor version that is found on PATH or among pyenv's, each in its own
# environment. Quart 0.22 is what 3.11 and 3.12 get, 0.23 needs 3.13: both have to pass. MINORS="3.13" names them;
# arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
found=0
for minor in ${MINORS:-3.11 3.12 3.13 3.14}; do
  for python in "python$minor" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$minor"*/bin/python; do
    if "$python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$minor')" >/dev/null 2>&1; then
      found=$((found + 1))
      echo "== Python $minor"
      make --no-print-directory PYTHON="$python" VENV=".venv-$minor" ".venv-$minor/.tested"
      ".venv-$minor/bin/python" -m pytest -m "not slow and not faults and not zoo" "$@"
      break
    fi
  done
done
echo "tested on $found Python version(s) of: ${MINORS:-all}"
