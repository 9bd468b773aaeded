#!/usr/bin/env bash
# Make .venv and install the project in it: `tools/venv.sh` what it needs to run, `tools/venv.sh dev` what it takes to work on it.
set -euo pipefail
cd "$(dirname "$0")/.."

usable() {  # a Python 3.11+ that can make environments
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then  # none yet, half made, or its Python is gone
    python=
    for p in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14 python; do
        if usable "$p"; then python=$p; break; fi
    done
    if [ -z "$python" ]; then
        echo "scrapeopt needs Python 3.11 or newer with its venv module, and found none." >&2
        echo "Install one (Debian, Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=path/to/python3.11 ..." >&2
        exit 1
    fi
    echo "== .venv: made with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

extras=${1:+all,$1}
extras=${extras:-maps,scrape}  # what the demo shows
echo "== .venv: installing what settings.ini names${1:+ (with the $1 tools)}; the first time takes a few minutes"
.venv/bin/python -m pip install -qq --disable-pip-version-check --no-input --use-pep517 -e ".[$extras]"
touch .venv/installed-run ${1:+".venv/installed-$1"}
