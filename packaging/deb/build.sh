#!/bin/sh
# Build the Debian package, as root or not, into build/deb.
#
#   packaging/deb/build.sh [VERSION]
#
# VERSION is by default crcache's own.
set -eu

cd "$(dirname "$0")/../.."
version=${1:-$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' crcache/__init__.py)}
out=build/deb

# Debian's tools use the first python3 in $PATH, and rely on its being Debian's.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
command -v dpkg-buildpackage >/dev/null || {
    echo "build.sh: dpkg-buildpackage is missing: install dpkg-dev" >&2
    exit 1
}

mkdir -p $out
work=$(mktemp -d "$PWD/$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

tree=$work/crcache-$version
mkdir "$tree"
cp -R crcache twisted setup.py pyproject.toml README.md CHANGELOG.md SECURITY.md LICENSE docs systemd "$tree"
mkdir "$tree/packaging"
cp -R packaging/man packaging/completion "$tree/packaging"
cp -R packaging/deb "$tree/debian"
rm "$tree/debian/build.sh"
find "$tree" \( -name __pycache__ -o -name dropin.cache \) -prune -exec rm -rf {} +
sed -i "s/^__version__ = .*/__version__ = \"$version\"/" "$tree/crcache/__init__.py"

# debhelper looks for them under these names.
cp "$tree/systemd/crcache.sysusers" "$tree/debian/crcache.sysusers"
cp "$tree/systemd/crcache.tmpfiles" "$tree/debian/crcache.tmpfiles"
cat >"$tree/debian/changelog" <<END
crcache ($version) unstable; urgency=medium

  * crcache $version. Its changes are listed in CHANGELOG.md.

 -- The crcache authors <crcache@example.com>  $(date --rfc-email ${SOURCE_DATE_EPOCH:+--date=@$SOURCE_DATE_EPOCH})
END

missing=$(cd "$tree" && dpkg-checkbuilddeps 2>&1) || {
    echo "build.sh: Debian packages are missing: ${missing##*dependencies: }" >&2
    exit 1
}
(cd "$tree" && dpkg-buildpackage --no-sign --build=binary) >"$work/log" 2>&1 || {
    tail -n 50 "$work/log" >&2
    exit 1
}
mv "$work/crcache_${version}_all.deb" $out
echo "$out/crcache_${version}_all.deb"
