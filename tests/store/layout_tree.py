"""A cache directory with something of everything that this layout has, as this release writes it.

`python -m tests.store.layout_tree` packs one up beside this module, under the layout's number: once for each layout,
when it is released. What a later release writes is compared with it, and what it holds must be served.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path

from crcache.facts import Fetched, Membership, Privacy, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Registry, Repository, Tag
from crcache.interfaces import IIngest
from crcache.policy.scrub import Round
from crcache.store.checker import Checker
from crcache.store.filesystem import Filesystem
from crcache.store.layout import VERSION, Layout
from crcache.store.marks import SEGMENT
from crcache.store.pins import Pins
from crcache.workers import Inline
from tests.store.other import now

PACKED = Path(__file__).parent / f"layout-{VERSION}.tar.xz"

NOW = 1_700_000_000.0
#: Of another machine's kernel, or of this one's before.
BOOT = b"another boot 001"

ALPINE = Repository("library/alpine")
HARBOR = Registry("harbor.example.com:8443")
TEAM = Repository("team/app")
LATEST = Tag("latest")
STABLE = Tag("1.0_stable")

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


def _descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}


def _manifest(layer: bytes, config: bytes) -> bytes:
    layers = [_descriptor(LAYER_TYPE, layer)]
    said = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _descriptor(CONFIG_TYPE, config),
        "layers": layers,
    }
    return json.dumps(said).encode()


LAYER = b"a layer that everyone gets\n" * 100
CONFIG = b'{"architecture": "amd64", "os": "linux"}'
MANIFEST = _manifest(LAYER, CONFIG)
INDEX = json.dumps(
    {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [_descriptor(MANIFEST_TYPE, MANIFEST)]}
).encode()
SECRET_LAYER = b"a layer that only a client's credentials opened\n" * 100
SECRET = _manifest(SECRET_LAYER, CONFIG)
#: Under a digest of the other algorithm.
LONG = b"content that is named by the longer of the two\n"
#: What has been fetched in part: two and a half segments, of which one is safe on the disk, and another is there.
PARTLY = b"a layer of which a part is here\n" * (5 * SEGMENT // 64)
PRIVATELY_PARTLY = b"a layer of which a part is here for some\n" * 100

CHALLENGE = 'Basic realm="harbor.example.com"'

#: All content that is there whole.
WHOLE = {
    **{Digest.of(data): data for data in (INDEX, MANIFEST, CONFIG, LAYER, SECRET, SECRET_LAYER)},
    Digest.of(LONG, "sha512"): LONG,
}
MEMBERS = {
    (DOCKER_IO, ALPINE): (
        Membership(Digest.of(INDEX), INDEX_TYPE, len(INDEX), True, NOW - 9, Fetched.OPENLY),
        Membership(Digest.of(MANIFEST), MANIFEST_TYPE, len(MANIFEST), True, NOW - 8, Fetched.OPENLY),
        Membership(Digest.of(CONFIG), CONFIG_TYPE, len(CONFIG), True, NOW - 7, Fetched.OPENLY),
        Membership(Digest.of(LAYER), LAYER_TYPE, len(LAYER), True, NOW - 6, Fetched.OPENLY),
        Membership(Digest.of(LONG, "sha512"), None, None, True, NOW - 5, Fetched.OPENLY),
        Membership(Digest.of(PARTLY), LAYER_TYPE, len(PARTLY), True, NOW - 4, Fetched.NEVER, True),
    ),
    (HARBOR, TEAM): (
        Membership(Digest.of(SECRET), MANIFEST_TYPE, len(SECRET), False, NOW - 3, Fetched.PRIVATELY),
        Membership(Digest.of(SECRET_LAYER), LAYER_TYPE, len(SECRET_LAYER), False, NOW - 2, Fetched.PRIVATELY),
        Membership(Digest.of(CONFIG), CONFIG_TYPE, len(CONFIG), False, NOW - 1, Fetched.NEVER, True),
    ),
}
TAGS = {
    (DOCKER_IO, ALPINE, LATEST): TagEntry(Digest.of(INDEX), INDEX_TYPE, len(INDEX), NOW - 60.5),
    (HARBOR, TEAM, STABLE): TagEntry(Digest.of(SECRET), MANIFEST_TYPE, len(SECRET), NOW - 30, False),
}
PRIVACY = Privacy(NOW - 20, (CHALLENGE,))
ROUND = Round(NOW - 100, f"sha256/{Digest.of(LAYER).hex}", 4, 1234, 1)


def make(root: Path) -> None:
    """Have this release write it all, at L{NOW}, in a directory that is not there yet. Blocks."""
    store = Filesystem(root, Inline(), lambda: NOW)
    store.start()
    store._boot = BOOT
    layout = Layout(root)
    for digest, data in WHOLE.items():
        now(store.put(digest, data))
    for (registry, repository), members in MEMBERS.items():
        now(store.enrol(registry, repository, members))
    for (registry, repository, tag), entry in TAGS.items():
        now(store.set_tag(registry, repository, tag, entry))
    now(store.set_privacy(HARBOR, TEAM, PRIVACY))
    pins = Pins(layout)
    pins.add(DOCKER_IO, ALPINE, LATEST, Digest.of(INDEX))
    pins.add(DOCKER_IO, ALPINE, Digest.of(LONG, "sha512"), Digest.of(LONG, "sha512"))
    checker = Checker(store.contents)
    checker.hold()
    checker.save(asdict(ROUND))
    checker.release()
    fill = now(store.ingest(DOCKER_IO, Digest.of(PARTLY)))
    assert IIngest.providedBy(fill)
    fill.settle(len(PARTLY))
    now(fill.write(0, [PARTLY[: 2 * SEGMENT]]))
    now(fill.synced(SEGMENT))
    fill.close()
    fill = now(store.ingest(HARBOR, Digest.of(PRIVATELY_PARTLY), TEAM))
    assert IIngest.providedBy(fill)
    now(fill.write(0, [PRIVATELY_PARTLY[:1000]]))
    fill.close()


def pack(root: Path, target: Path) -> None:
    """Pack a tree up, whoever owns it. Blocks."""

    def nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(target, "w:xz", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.iterdir()):
            archive.add(path, path.name, filter=nobodys)


def unpack(source: Path, root: Path) -> None:
    """Unpack a tree, with its modes and times, as whoever runs this. Blocks."""
    root.mkdir(mode=0o750)
    with tarfile.open(fileobj=io.BytesIO(source.read_bytes())) as archive:
        # It is our own; what later releases of Python filter by default are its modes.
        archive.extraction_filter = lambda member, path: member
        archive.extractall(root)


def main() -> None:
    """Pack one up, unless that has been done."""
    if PACKED.exists():
        sys.exit(f"{PACKED} is there: what has been released is not made again")
    directory = Path(tempfile.mkdtemp())
    try:
        make(directory / "cache")
        pack(directory / "cache", PACKED)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
