#!/bin/sh
# Build the RPM package, as root or not, into build/rpm.
#
#   packaging/rpm/build.sh [VERSION [RPMBUILD-FLAGS]]
#
# VERSION is by default crcache's own. Elsewhere than in the Fedora family, the package is for the Python of this machine:
# --define 'python3_version 3.14' makes it one for another.
set -eu

cd "$(dirname "$0")/../.."
version=${1:-$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' crcache/__init__.py)}
[ $# -eq 0 ] || shift
out=build/rpm
# The tools' own python3, not one that stands before it in $PATH.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
command -v rpmbuild >/dev/null || {
    echo "build.sh: rpmbuild is missing: install rpm (Debian) or rpm-build (Fedora)" >&2
    exit 1
}

mkdir -p $out
work=$(mktemp -d "$PWD/$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

tree=$work/SOURCES/crcache-$version
mkdir -p "$tree/packaging"
cp -R crcache twisted setup.py pyproject.toml README.md CHANGELOG.md SECURITY.md LICENSE docs systemd "$tree"
cp -R packaging/man packaging/completion "$tree/packaging"
find "$tree" \( -name __pycache__ -o -name dropin.cache \) -prune -exec rm -rf {} +
sed -i "s/^__version__ = .*/__version__ = \"$version\"/" "$tree/crcache/__init__.py"
tar -C "$work/SOURCES" -czf "$tree.tar.gz" --owner=0 --group=0 "crcache-$version"
cp systemd/crcache.sysusers "$work/SOURCES"
sed -e "s/^\(Version: *\).*/\1$version/" -e "s/^\(\* .* - \).*-1$/\1$version-1/" \
    packaging/rpm/crcache.spec >"$work/crcache.spec"

elsewhere=
if [ "$(rpm --eval '%{?pyproject_wheel:1}%{?_unitdir:1}')" != 11 ]; then
    elsewhere="--load=packaging/rpm/macros.elsewhere"
    python3 -c 'import setuptools, wheel' 2>/dev/null || {
        echo "build.sh: install python3-setuptools and python3-wheel" >&2
        exit 1
    }
fi

rpmbuild -bb $elsewhere --define "_topdir $work" --define "_rpmdir $PWD/$out" \
    --define '_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' \
    "$@" "$work/crcache.spec" >"$work/log" 2>&1 || {
    tail -n 50 "$work/log" >&2
    exit 1
}
sed -n 's|^Wrote: .*/\(.*\.rpm\)$|build/rpm/\1|p' "$work/log"
