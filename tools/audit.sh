#!/bin/sh
# Ask the package index what weaknesses are known of what crcache runs with: the newest versions, as they are installed in
# .venv, and Debian 12's. What docs/dependencies.md has answered is left out.
#
# Exit status 1 if there is one without an answer, or if the index did not say. A mirror may not: it has to serve
# /pypi/NAME/VERSION/json.
set -eu
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

.venv/bin/python -W ignore -m pip freeze --disable-pip-version-check --exclude-editable >"$scratch/newest.txt"
answered=$(sed -nE 's/^\| (CVE-[0-9]+-[0-9]+|GHSA(-[0-9a-z]{4}){3}) .*/--ignore-vuln \1/p' docs/dependencies.md)

status=0
ask() {
    echo "== $1"
    shift
    # Strict: what could not be looked up is not taken for harmless.
    .venv-audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off "$@" 2>"$scratch/said" || {
        status=1
        cat "$scratch/said" >&2
    }
}

ask "the newest versions" --requirement "$scratch/newest.txt"
# Unquoted: a word each.
ask "Debian 12's versions" --requirement requirements/oldest.txt $answered
exit $status
