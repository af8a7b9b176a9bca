"""Archives to be imported, made piece by piece, so that each can lie in one place."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from twisted.trial.unittest import SynchronousTestCase

from crcache.commands.references import parse_name
from crcache.errors import CrcacheError
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import OCI_INDEX, OCI_MANIFEST
from crcache.images.importing import Imported, Importer, Wish
from crcache.images.noting import Target
from crcache.images.roots import NAME, REF_NAME
from crcache.store import version
from crcache.store.contents import Contents
from crcache.store.layout import Layout
from crcache.store.pins import Pins
from crcache.store.repositories import Repositories

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
APP = "r.example/team/app:1.0"
LAYERS = (b"layer one" * 400, b"layer two" * 5000)


def named(name: str) -> Target:
    """What a name means."""
    found = parse_name(name)
    return found.registry, found.repository, found.image


@dataclass
class Archive:
    """Members, in their order.

    @ivar members: each a header and what it holds.
    """

    members: list[tuple[tarfile.TarInfo, bytes]] = field(default_factory=list)

    def add(self, name: str, data: bytes = b"", **header: Any) -> Archive:
        """One more; C{header} are further fields of its header."""
        member = tarfile.TarInfo(name)
        member.size = len(data)
        for key, value in header.items():
            setattr(member, key, value)
        self.members.append((member, data))
        return self

    def add_json(self, name: str, value: object) -> Archive:
        """One more, of JSON."""
        return self.add(name, json.dumps(value).encode())

    def blob(self, data: bytes) -> Archive:
        """One more, named by its digest."""
        return self.add(f"blobs/sha256/{Digest.of(data).hex}", data)

    def without(self, name: str) -> Archive:
        """The same but for this member."""
        assert any(member.name == name for member, _ in self.members), name
        return Archive([each for each in self.members if each[0].name != name])

    def replaced(self, name: str, data: bytes) -> Archive:
        """The same, with other bytes in this member."""
        return self.without(name).add(name, data)

    def bytes(self, format: Literal[0, 1, 2] = tarfile.PAX_FORMAT) -> bytes:
        """As a tar archive."""
        out = io.BytesIO()
        for member, data in self.members:
            out.write(member.tobuf(format) + data + bytes(-len(data) % 512))
        return out.getvalue() + bytes(1024)


def descriptor(media_type: str, data: bytes, **more: Any) -> dict[str, Any]:
    """As manifests have them."""
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **more}


def manifest_of(config: bytes, layers: Sequence[bytes]) -> bytes:
    """The manifest of an image."""
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(CONFIG, config),
        "layers": [descriptor(LAYER, layer) for layer in layers],
    }
    return json.dumps(value).encode()


def config_of(layers: Sequence[bytes], architecture: str = "amd64") -> bytes:
    """The configuration of an image."""
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    value = {"os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    return json.dumps(value).encode()


def oci(
    roots: dict[str, bytes], contents: Sequence[bytes], media_type: str = OCI_MANIFEST, annotation: str = NAME
) -> Archive:
    """An OCI layout.

    @param roots: images' manifests, by their names.
    @param contents: what else there is.
    """
    listed = [descriptor(media_type, body, annotations={annotation: name}) for name, body in roots.items()]
    archive = Archive().add_json("oci-layout", {"imageLayoutVersion": "1.0.0"})
    archive.add_json("index.json", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed})
    for data in dict.fromkeys([*roots.values(), *contents]):
        archive.blob(data)
    return archive


def app(name: str = APP, layers: Sequence[bytes] = LAYERS) -> Archive:
    """An OCI layout of one image."""
    config = config_of(layers)
    return oci({name: manifest_of(config, layers)}, [config, *layers])


def docker(layers: Sequence[bytes] = LAYERS, tags: Sequence[str] = ("app:1.0",)) -> Archive:
    """What C{docker save} wrote before release 25; where a layer comes again there is a link."""
    config = config_of(layers)
    name = f"{Digest.of(config).hex}.json"
    paths = [f"{number:064x}/layer.tar" for number, _ in enumerate(layers)]
    archive = Archive().add(name, config)
    for number, (path, layer) in enumerate(zip(paths, layers, strict=True)):
        first = layers.index(layer)
        archive.add(f"{path[:64]}/VERSION", b"1.0").add(f"{path[:64]}/json", b"{}")
        if first == number:
            archive.add(path, layer)
        else:
            archive.add(path, type=tarfile.SYMTYPE, linkname=f"../{paths[first]}")
    archive.add_json("manifest.json", [{"Config": name, "RepoTags": list(tags), "Layers": paths}])
    return archive.add_json("repositories", {})


class ImportCase(SynchronousTestCase):
    """A cache directory, and what is imported into it.

    @ivar root: the cache directory.
    """

    def setUp(self) -> None:
        """An empty one."""
        place = Path(tempfile.mkdtemp(prefix="crcache-test-"))
        self.addCleanup(shutil.rmtree, place, ignore_errors=True)
        self.root = place / "cache"
        self.root.mkdir()
        self.now = 1_800_000_000.0
        self.layout = Layout(self.root)
        version.write(self.layout)
        self.contents = Contents(self.layout, lambda: self.now, lambda digest, before, after: None)
        self.repositories = Repositories(self.layout, lambda: self.now)
        self.pins = Pins(self.layout)
        self.importer = Importer(self.layout, named, lambda: self.now)

    def take(self, archive: Archive | bytes, *names: str, pin: bool = True) -> Imported:
        """Import an archive."""
        data = archive if isinstance(archive, bytes) else archive.bytes()
        return self.importer.take(io.BytesIO(data), "a.tar", Wish(tuple(named(each) for each in names), pin))

    def files(self) -> set[str]:
        """Everything below the cache directory."""
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir()}

    def refused(self, archive: Archive | bytes, *words: str, names: Sequence[str] = ()) -> None:
        """It is refused, with these words in the one line, and nothing is left behind."""
        before = self.files()
        problem = self.assertRaises(CrcacheError, self.take, archive, *names)
        for word in ("a.tar", *words):
            self.assertIn(word, problem.message)
        self.assertTrue(problem.message.isprintable(), ascii(problem.message))
        self.assertEqual(self.files(), before)

    def assert_whole(self, name: str, *contents: bytes) -> None:
        """The image is there, in a way that the daemon serves: tag, memberships, and content that is sealed."""
        registry, repository, reference = named(name)
        entry = None if isinstance(reference, Digest) else self.repositories.tag(registry, repository, reference)
        assert entry is not None, f"{name} is not there"
        for data in contents:
            digest = Digest.of(data)
            found = self.contents.find(digest)
            assert found is not None and found.sealed
            self.assertEqual(self.contents.layout.content(digest).read_bytes(), data)
            holding = self.repositories.holding(registry, repository, digest)
            self.assertTrue(holding.given and holding.member is not None and holding.member.open)


def zipped(data: bytes) -> bytes:
    """Gzipped."""
    return gzip.compress(data, 1)


Change = Callable[[Archive], Archive]
__all__ = [
    "APP", "CONFIG", "LAYER", "LAYERS", "OCI_INDEX", "OCI_MANIFEST", "REF_NAME", "Archive", "Change", "ImportCase",
    "app", "config_of", "descriptor", "docker", "manifest_of", "named", "oci", "zipped",
]  # fmt: skip
