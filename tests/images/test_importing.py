"""L{crcache.images.importing}: archives as they should be."""

from __future__ import annotations

import io
import json
import os
import tarfile

from crcache.errors import StoreError
from crcache.facts import Fetched, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import DOCKER_MANIFEST
from crcache.images import importing, noting
from crcache.images.importing import Wish
from crcache.images.roots import find_roots
from tests.images.archives import (
    APP,
    LAYERS,
    OCI_INDEX,
    OCI_MANIFEST,
    REF_NAME,
    ImportCase,
    app,
    config_of,
    descriptor,
    docker,
    manifest_of,
    named,
    oci,
    zipped,
)


class OciTests(ImportCase):
    """OCI layouts."""

    def test_image(self) -> None:
        """An image is there as if it had been pulled a moment ago, and pinned; content and records are all there is."""
        imported = self.take(app())
        config = config_of(LAYERS)
        self.assert_whole(APP, *LAYERS, config, manifest_of(config, LAYERS))
        registry, repository, tag = named(APP)
        entry = self.repositories.tag(registry, repository, tag)  # type: ignore[arg-type]
        manifest = manifest_of(config, LAYERS)
        self.assertEqual(entry, TagEntry(Digest.of(manifest), OCI_MANIFEST, len(manifest), self.now, pinned=True))
        self.assertEqual(list(self.pins.of(registry, repository)), [(tag, imported.images[0][1].root.digest)])
        self.assertEqual(imported.new[0], 4)
        self.assertEqual({name.split("/")[0] for name in self.files()}, {"VERSION", "blobs", "openly", "registries"})
        for path in self.root.glob("blobs/*/*"):
            self.assertEqual(path.stat().st_mode & 0o777, 0o440)

    def test_again(self) -> None:
        """What is there already stays, is verified all the same, and is used now."""
        self.take(app())
        path = self.layout.content(Digest.of(LAYERS[1]))
        inode = path.stat().st_ino
        self.now += 60
        imported = self.take(app())
        self.assertEqual((imported.new, imported.there[0]), ((0, 0), 4))
        self.assertEqual((path.stat().st_ino, int(path.stat().st_mtime)), (inode, int(self.now)))
        member = f"blobs/sha256/{Digest.of(LAYERS[1]).hex}"
        self.refused(app().replaced(member, b"x" * len(LAYERS[1])), member, "other bytes")

    def test_damaged_here(self) -> None:
        """What is there and damaged is replaced by what the archive has."""
        self.take(app())
        path = self.layout.content(Digest.of(LAYERS[0]))
        os.chmod(path, 0o640)
        path.write_bytes(b"x" * len(LAYERS[0]))
        self.assertEqual(self.take(app()).new[0], 1)
        self.assert_whole(APP, *LAYERS)

    def test_unpinned(self) -> None:
        """It need not be pinned."""
        self.take(app(), pin=False)
        self.assertEqual(list(self.root.glob("registries/**/_pins")), [])

    def test_names(self) -> None:
        """Names come from either annotation, if they are whole; others are given, as many as are wanted; a digest's
        name has to be right. Nothing is tagged for one."""
        config = config_of(LAYERS)
        manifest = manifest_of(config, LAYERS)
        self.take(oci({APP: manifest}, [config, *LAYERS], annotation=REF_NAME))
        self.assert_whole(APP, *LAYERS)
        for bare in ("1.0", "app:1.0", "team/app:1.0", ""):
            self.refused(oci({bare: manifest}, [config, *LAYERS]), str(Digest.of(manifest)), "--as")
        self.take(oci({"1.0": manifest}, [config, *LAYERS]), "r.example/one:1", "two:2")
        self.assert_whole("r.example/one:1", manifest)
        self.assert_whole("docker.io/library/two:2", manifest)
        self.refused(app(), "is sha256:", names=[f"r.example/x@{Digest.of(b'other')}"])
        self.take(app(), f"r.example/y@{Digest.of(manifest)}")
        self.assertEqual(len(list(self.root.glob("registries/r.example/y/_digests/*"))), 4)
        self.assertEqual(list(self.root.glob("registries/r.example/y/_tags/*")), [])
        self.refused(oci({"R.example/É:1": manifest}, [config, *LAYERS]), "no name of an image")

    def test_several(self) -> None:
        """Several images come together, what they share once; one of them under two names; none can be renamed."""
        config, other = config_of(LAYERS[:1]), config_of(LAYERS)
        first, second = manifest_of(config, LAYERS[:1]), manifest_of(other, LAYERS)
        archive = oci(
            {"r.example/a:1": first, "r.example/b:1": second, "r.example/b:2": second}, [config, other, *LAYERS]
        )
        imported = self.take(archive)
        self.assertEqual((len(imported.images), imported.new[0]), (3, 6))
        self.assert_whole("r.example/b:2", second, other, *LAYERS)
        self.assert_whole("r.example/a:1", first, config, LAYERS[0])
        self.refused(archive, "2 images", "--as", names=["r.example/c:1"])

    def test_index(self) -> None:
        """Of an index what is there comes, if one platform is there wholly; the rest is known by name alone."""
        configs = [config_of(LAYERS[:1], each) for each in ("amd64", "arm64")]
        manifests = [manifest_of(config, LAYERS[:1]) for config in configs]
        entries = [
            descriptor(OCI_MANIFEST, each, platform={"os": "linux", "architecture": arch})
            for each, arch in zip(manifests, ("amd64", "arm64"), strict=True)
        ]
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
        held = [manifests[0], configs[0], LAYERS[0]]
        imported = self.take(oci({APP: index}, held, OCI_INDEX))
        self.assertEqual([str(each) for each in imported.images[0][1].platforms], ["linux/amd64"])
        self.assert_whole(APP, index, *held)
        registry, repository, _ = named(APP)
        member = self.repositories.member(registry, repository, Digest.of(manifests[1]))
        assert member is not None
        self.assertEqual((member.fetched, member.named), (Fetched.NEVER, True))
        self.refused(oci({APP: index}, held[:2], OCI_INDEX), str(Digest.of(LAYERS[0])), "missing")

    def test_forms(self) -> None:
        """Gzipped, in any tar format, with directories, C{./} before each name, padding behind: all the same."""
        archive = app()
        for member, _ in archive.members:
            member.name = f"./{member.name}"
        archive.members.insert(0, (_directory("./"), b""))
        archive.members.insert(1, (_directory("./blobs/sha256/"), b""))
        for data in (zipped(archive.bytes()), archive.bytes(tarfile.GNU_FORMAT), archive.bytes() + bytes(10 << 20)):
            self.take(data)
            self.assert_whole(APP, *LAYERS)

    def test_read_to_its_end(self) -> None:
        """What is read from a pipe is read to its end, so that whoever writes it does not fail."""
        source = io.BytesIO(app().bytes() + bytes(1 << 20))
        self.importer.take(source, "a.tar", Wish())
        self.assertEqual(source.read(), b"")

    def test_private(self) -> None:
        """A repository that is known as private stays so."""
        registry, repository, tag = named(APP)
        path = self.layout.privacy(registry, repository)
        path.parent.mkdir(parents=True)
        path.write_text('{"checked": 1, "challenges": []}')
        self.take(app())
        found = self.repositories.holding(registry, repository, Digest.of(LAYERS[0]))
        self.assertFalse(found.given)
        entry = self.repositories.tag(registry, repository, tag)  # type: ignore[arg-type]
        assert entry is not None
        self.assertFalse(entry.open)


class DockerTests(ImportCase):
    """What C{docker save} wrote before release 25, and skopeo writes as docker archive."""

    def test_image(self) -> None:
        """It gets a manifest of docker's with the layers as they are, a repeated one for each time; the same one each
        time. Short names are docker's."""
        layers = (*LAYERS, LAYERS[0])
        imported = self.take(docker(layers))
        ((_, image),) = imported.images
        config = config_of(layers)
        self.assert_whole("docker.io/library/app:1.0", *LAYERS, config)
        body = self.contents.read(image.root.digest, 1 << 20)
        assert body is not None
        document = json.loads(body)
        self.assertEqual(document["mediaType"], DOCKER_MANIFEST)
        self.assertEqual(document["config"]["digest"], str(Digest.of(config)))
        self.assertEqual([each["digest"] for each in document["layers"]], [str(Digest.of(each)) for each in layers])
        self.assertEqual({each["mediaType"] for each in document["layers"]}, {
            "application/vnd.docker.image.rootfs.diff.tar"})  # fmt: skip
        self.assertEqual(self.take(docker(layers)).images[0][1].root.digest, image.root.digest)

    def test_gzipped_layer(self) -> None:
        """A layer that is compressed there is taken for what it is, and verified by what it unpacks to."""
        config = config_of(LAYERS[:1])
        layer = zipped(LAYERS[0])
        name = f"{'0' * 64}/layer.tar"
        archive = docker(LAYERS[:1]).replaced(name, layer)
        ((_, image),) = self.take(archive).images
        self.assertEqual(image.root.size, len(self.contents.read(image.root.digest, 1 << 20) or b""))
        self.assert_whole("app:1.0", layer, config)
        self.assertEqual([each.media_type for each in image.blobs.values()][1],
                         "application/vnd.docker.image.rootfs.diff.tar.gzip")  # fmt: skip
        self.refused(docker(LAYERS[:1]).replaced(name, zipped(b"other")), name, "other bytes")
        self.refused(docker(LAYERS[:1]).replaced(name, layer[:-9]), name, "cut short")

    def test_several_tags(self) -> None:
        """Each of its tags is a name; without any it needs one."""
        self.take(docker(tags=("app:1", "r.example/x:2")))
        self.assert_whole("app:1", *LAYERS)
        self.assert_whole("r.example/x:2", *LAYERS)
        self.refused(docker(tags=()), "--as")


class FailingTests(ImportCase):
    """A disk that fails while it is noted whose the content is."""

    def test_taken_back(self) -> None:
        """Wherever noting fails, what was noted is as it was before: nothing, or what an earlier import said."""
        for earlier in (None, app(layers=LAYERS[:1])):
            if earlier is not None:
                self.take(earlier)
            before = {name: self._record(name) for name in self.files() if name.startswith(("registries", "openly"))}
            for step in ("members", "pin", "tag"):
                real = getattr(noting.Noting, step)

                def fails(*arguments: object, real: object = real) -> None:
                    real(*arguments)  # type: ignore[operator]
                    raise KeyboardInterrupt

                self.patch(noting.Noting, step, fails)
                self.assertRaises(KeyboardInterrupt, self.take, app())
                self.patch(noting.Noting, step, real)
                after = {name: self._record(name) for name in self.files() if name.startswith(("registries", "openly"))}
                self.assertEqual(after, before, step)
                self.assertEqual(list(self.root.glob("ingest/.*")), [])
        self.take(app())
        self.assert_whole(APP, *LAYERS)

    def _record(self, name: str) -> object:
        text = (self.root / name).read_text()
        return json.loads(text) if text else None

    def test_vanished(self) -> None:
        """Content that vanishes while it is relied on fails the import; nothing is noted then."""
        self.take(app(layers=LAYERS[:1]))
        path = self.layout.content(Digest.of(LAYERS[0]))
        real = find_roots

        def vanishing(*arguments: object) -> object:
            path.unlink()
            return real(*arguments)  # type: ignore[arg-type]

        self.patch(importing, "find_roots", vanishing)
        problem = self.assertRaises(StoreError, self.take, app("r.example/new:1"))
        self.assertIn("vanished", str(problem))
        self.assertEqual(list(self.root.glob("registries/r.example/new")), [])

    def test_manifest_vanished(self) -> None:
        """So does a manifest; the archive is not said to be wrong for that."""
        self.take(app())
        manifest = manifest_of(config_of(LAYERS), LAYERS)
        real = find_roots

        def vanishing(*arguments: object) -> object:
            self.layout.content(Digest.of(manifest)).unlink()
            return real(*arguments)  # type: ignore[arg-type]

        self.patch(importing, "find_roots", vanishing)
        problem = self.assertRaises(StoreError, self.take, app("r.example/other:1"))
        self.assertIn("vanished meanwhile: import it again", str(problem))


def _directory(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.DIRTYPE
    return member
