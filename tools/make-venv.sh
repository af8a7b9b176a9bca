#!/bin/sh
# Make a virtual environment with pip in it, also where Debian's python3-venv and python3-pip are not installed.
#
#   tools/make-venv.sh DIRECTORY REQUIREMENTS
#
# REQUIREMENTS is the file that says which pip, and what else has to be there before anything can be installed.
# $PYTHON is the interpreter; by default Debian's, if it is recent enough, else the one in $PATH.
# Needs no privileges and changes nothing outside DIRECTORY.
set -eu

directory=$1
requirements=$2

recent() {
    "$1" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

fail() {
    echo "make-venv: $1" >&2
    exit 1
}

if [ -n "${PYTHON:-}" ]; then
    recent "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 or later with the venv module"
elif recent /usr/bin/python3; then
    PYTHON=/usr/bin/python3
elif recent python3; then
    PYTHON=python3
else
    fail "Python 3.11 or later is needed: install python3, or name one with PYTHON=..."
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

# Debian's files are fetched and unpacked here, not installed: that works without being root. Package lists of our own
# are a second try, for where there are none, or only outdated ones.
unpack() {
    (
        cd "$scratch"
        mkdir -p lists/partial cache/archives/partial
        own="-o APT::Sandbox::User=root -o Dir::State::Lists=$scratch/lists -o Dir::Cache=$scratch/cache"
        {
            apt-get download "$1" || {
                # Some other source being out of reach is no reason to give up.
                apt-get $own update || true
                apt-get $own download "$1"
            }
            dpkg-deb -x "$1"_*.deb debian
        } >log 2>&1 || {
            cat log >&2
            fail "pip is not installed, and Debian's $1 cannot be fetched: install python3-venv"
        }
    )
}

if "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
    "$PYTHON" -m venv --clear "$directory"
    pip='-m pip'
else
    "$PYTHON" -m venv --clear --without-pip "$directory"
    unpack python3-pip-whl
    # A wheel of pip can be run as it is. Debian's relies on the system's certificates.
    pip=$(echo "$scratch"/debian/usr/share/python-wheels/pip-*.whl)/pip
    if [ -z "${PIP_CERT:-}" ] && [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then
        unpack ca-certificates
        cat "$scratch"/debian/usr/share/ca-certificates/mozilla/*.crt >"$scratch/certificates"
        export PIP_CERT="$scratch/certificates"
    fi
fi
"$directory/bin/python" $pip install --quiet --disable-pip-version-check --requirement "$requirements"
