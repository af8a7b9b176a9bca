#!/bin/sh
# Install the Debian packages that a file names, one a line, unless they are there already.
#
#   tools/install-packages.sh FILE
#
# Daemons among them are not started. Whoever is not root is told what to install.
set -eu

log=$(mktemp)
policy=
trap 'rm -f "$log" $policy' EXIT
trap 'exit 1' HUP INT TERM

missing=
for package in $(sed 's/#.*//' "$1"); do
    state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>>"$log" || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "install-packages: as root, run: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

if [ ! -e /usr/sbin/policy-rc.d ]; then
    # Debian's way to install a daemon without starting it: invoke-rc.d(8).
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
fi
export DEBIAN_FRONTEND=noninteractive
echo "install-packages: installing$missing"
install() {
    apt-get install --yes --no-install-recommends $missing </dev/null >"$log" 2>&1
}
# The lists of a new machine are absent or old; some source being out of reach is no reason to give up.
install || {
    apt-get update >/dev/null 2>&1 || true
    install
} || {
    cat "$log" >&2
    exit 1
}
