#!/bin/sh
# Build the container image with buildah, from the Debian package, which is built first.
#
#   packaging/container/build.sh [TAG]
#
# TAG is by default crcache:VERSION, with crcache's own version. $BASE is the image to begin with (Debian 12; the default is
# in the Containerfile), $BUILDAH_FLAGS goes to `buildah build`.
set -eu

cd "$(dirname "$0")/../.."
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' crcache/__init__.py)
tag=${1:-crcache:$version}
command -v buildah >/dev/null || {
    echo "build.sh: buildah is missing: install buildah" >&2
    exit 1
}

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
trap 'exit 1' HUP INT TERM

cp "$(packaging/deb/build.sh | tail -n 1)" "$context/crcache.deb"
# In the OCI's own format there are no health checks.
buildah build --quiet --format docker ${BASE:+--build-arg "BASE=$BASE"} --build-arg "VERSION=$version" \
    ${BUILDAH_FLAGS:-} --tag "$tag" --file packaging/container/Containerfile "$context" >/dev/null
echo "$tag"
