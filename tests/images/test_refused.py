"""Archives that lie, or would take too much: refused by name, and nothing is left behind."""

from __future__ import annotations

import io
import json
import os
import resource
import tarfile
import zlib
from typing import Any

from crcache.errors import ArchiveInvalid, StoreError
from crcache.grammar.digest import Digest
from crcache.images import closure, importing
from crcache.images.importing import Wish
from crcache.images.tar import MOST_EXTENDED, MOST_MEMBERS
from crcache.store.staging import Staging
from tests.images.archives import (
    APP,
    CONFIG,
    LAYER,
    LAYERS,
    OCI_INDEX,
    OCI_MANIFEST,
    Archive,
    ImportCase,
    app,
    config_of,
    descriptor,
    docker,
    manifest_of,
    oci,
    zipped,
)

MIB = 1 << 20


def member(data: bytes) -> str:
    """The name of this content in a layout."""
    return f"blobs/sha256/{Digest.of(data).hex}"


class NameTests(ImportCase):
    """What members may be called, and what they may be."""

    def test_outside(self) -> None:
        """Nothing leads out of the archive: no name, and no link."""
        for name in (
            "../x",
            "a/../../x",
            "/etc/passwd",
            "blobs/sha256/../../../x",
            "..",
            "x\ny",
            "x\x1b[2J",
            "x" * 5000,
        ):
            self.refused(app().add(name, b"x"))
        for target in ("/etc/passwd", "../../x", "../../../etc/passwd"):
            self.refused(app().add("a/link", type=tarfile.SYMTYPE, linkname=target), "a/link", "out of")
        self.refused(app().add("link", type=tarfile.LNKTYPE, linkname="../x"), "link", "out of")
        self.refused(app().add("link", type=tarfile.LNKTYPE, linkname="/etc/passwd"), "link", "out of")

    def test_links(self) -> None:
        """A link leads to a file of the archive, and not in a circle."""
        self.refused(app().add("l", type=tarfile.SYMTYPE, linkname="nothing"), "l: is a link to nothing")
        circle = app().add("l", type=tarfile.SYMTYPE, linkname="m").add("m", type=tarfile.SYMTYPE, linkname="l")
        self.refused(circle, "leads to no file")
        path = f"{0:064x}/layer.tar"
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            self.refused(docker().without(path).add(path, type=kind, linkname="/dev/zero"), path, "out of")
        self.refused(docker().without(path).add(path, type=tarfile.SYMTYPE, linkname="gone"), path)

    def test_kinds(self) -> None:
        """There are files, directories and links, and nothing else."""
        for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, b"Z", b"V"):
            self.refused(app().add("odd", type=kind), "odd", "neither a file")
        self.refused(app().add("odd", b"x" * 600, type=tarfile.DIRTYPE), "odd", "600 bytes")

    def test_twice(self) -> None:
        """A name that comes twice has to be the same both times."""
        self.refused(app().add("index.json", b"{}"), "index.json", "twice")
        self.refused(app().add("x", b"1").add("x", b"2"), "x: is there twice")
        self.refused(app().add("x", b"1").add("x", type=tarfile.SYMTYPE, linkname="y"), "x: is there twice")
        self.take(app().blob(LAYERS[0]).add("x", b"1").add("./x", b"1"))


class ContentTests(ImportCase):
    """What members hold."""

    def test_digests(self) -> None:
        """Content is what its name says, in an algorithm that is known."""
        self.refused(app().replaced(member(LAYERS[0]), b"other"), member(LAYERS[0]), "other bytes")
        self.refused(app().add("blobs/md5/d41d8cd98f00b204e9800998ecf8427e"), "blobs/md5")
        self.refused(app().add("blobs/sha256/abc", b"x"), "blobs/sha256/abc")
        config = config_of(LAYERS)
        name = f"{Digest.of(config).hex}.json"
        self.refused(docker().replaced(name, config_of(LAYERS[:1])), name, "1 layers")
        self.refused(docker().replaced(f"{1:064x}/layer.tar", b"other"), f"{1:064x}/layer.tar", "other bytes")

    def test_missing(self) -> None:
        """Everything that is named has to be there."""
        config = config_of(LAYERS)
        for data in (LAYERS[1], config, manifest_of(config, LAYERS)):
            self.refused(app().without(member(data)), str(Digest.of(data)), "missing")
        for name in ("oci-layout", "index.json", "manifest.json"):
            archive = docker() if name == "manifest.json" else app()
            self.refused(archive.without(name), name)
        self.refused(docker().without(f"{1:064x}/layer.tar"), f"{1:064x}/layer.tar", "missing")
        self.refused(Archive())
        self.refused(Archive().add("hello", b"x"), "neither index.json")

    def test_sizes(self) -> None:
        """Sizes are what is said of them."""
        config = config_of(LAYERS)
        manifest = json.loads(manifest_of(config, LAYERS))
        manifest["layers"][1]["size"] += 1
        body = json.dumps(manifest).encode()
        self.refused(oci({APP: body}, [config, *LAYERS]), str(Digest.of(LAYERS[1])), "not 45001")
        index = json.loads({each.name: data for each, data in app().members}["index.json"])
        for size in (1, -1, None, "12", True, 1.5):
            index["manifests"][0]["size"] = size
            self.refused(
                app().replaced("index.json", json.dumps(index).encode()),
                "not 1" if size is not True and size == 1 else "size",
            )

    def test_index_lies(self) -> None:
        """What the index says of its manifests is what they say of themselves."""
        config = config_of(LAYERS)
        manifest = manifest_of(config, LAYERS)
        self.refused(oci({APP: manifest}, [config, *LAYERS], OCI_INDEX), "says that it is")
        both = json.dumps({**json.loads(manifest), "mediaType": OCI_MANIFEST, "manifests": []}).encode()
        self.refused(oci({APP: both}, [config, *LAYERS]), "or others besides")
        untyped = {key: value for key, value in json.loads(both).items() if key != "mediaType"}
        self.refused(oci({APP: json.dumps(untyped).encode()}, [config, *LAYERS], OCI_INDEX), "or others besides")
        self.refused(oci({APP: LAYERS[0]}, []), "no manifest")
        self.refused(oci({APP: b"{}"}, []), "its fields")
        self.refused(oci({APP: b'"x"'}, []), "no manifest")
        lists: list[object] = [{}, [1], [{}], [{"digest": 5}], [{"digest": "sha256:zz", "size": 1}], "x", None]
        for listed in lists:
            body = json.dumps({"schemaVersion": 2, "manifests": listed}).encode()
            self.refused(app().replaced("index.json", body), "index.json")
        self.refused(app().replaced("index.json", b'{"manifests": []}'), "no image")
        self.refused(app().replaced("oci-layout", b'{"imageLayoutVersion": "2.0"}'), "oci-layout")

    def test_children_lie(self) -> None:
        """A descriptor that is none, or of an algorithm that is not known, does not go unseen."""
        config = config_of(LAYERS)
        manifest = json.loads(manifest_of(config, LAYERS))
        for layer in ("x", {"digest": "md5:d41d8cd98f00b204e9800998ecf8427e"}, {"size": 5}):
            body = json.dumps({**manifest, "layers": [layer]}).encode()
            self.refused(oci({APP: body}, [config, *LAYERS]), str(Digest.of(body)))
        body = json.dumps({**manifest, "config": {"digest": "x"}}).encode()
        self.refused(oci({APP: body}, [config, *LAYERS]), "no configuration")

    def test_indexes_deep_down(self) -> None:
        """Indexes of indexes have an end."""
        config = config_of(LAYERS)
        body, kind, held = manifest_of(config, LAYERS), OCI_MANIFEST, [config, *LAYERS]
        for _ in range(6):
            held.append(body)
            entries = [descriptor(kind, body)]
            body, kind = (
                json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode(),
                OCI_INDEX,
            )
        self.refused(oci({APP: body}, held, OCI_INDEX), "deeper down")

    def test_docker_lies(self) -> None:
        """docker's manifest names files of the archive, and says all that it has to."""
        config = config_of(LAYERS)
        name, layers = f"{Digest.of(config).hex}.json", [f"{number:064x}/layer.tar" for number in range(2)]
        good: dict[str, Any] = {"Config": name, "RepoTags": ["a:1"], "Layers": layers}
        for change in (
            {"Config": "../x"}, {"Config": "/etc/passwd"}, {"Config": 5}, {"Config": "gone"}, {"Layers": "x"},
            {"Layers": [*layers, "../x"]}, {"Layers": layers[:1]}, {"Layers": [5, 6]}, {"RepoTags": [5]},
            {"RepoTags": ["A B"]},
            {"Layers": [layers[1], layers[0]]},
        ):  # fmt: skip
            self.refused(docker().replaced("manifest.json", json.dumps([{**good, **change}]).encode()))
        for body in (b"{}", b"[]", b"[1]", b"x", b"[{}]"):
            self.refused(docker().replaced("manifest.json", body))
        for body in (b"{}", b"[]", b'{"rootfs": []}', b'{"rootfs": {"diff_ids": [1, 2]}}'):
            self.refused(docker().replaced(name, body), name)


class FormTests(ImportCase):
    """What an archive is as a file."""

    def test_no_tar(self) -> None:
        """What is no tar archive is told to be none; so is one in a compression that is not known here."""
        for data in (b"", b"x", b"x" * 5000, bytes(5000), b"PK\x03\x04" + b"x" * 1000):
            self.refused(data, "a.tar is no tar archive")
        for start, program in ((b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh9", "bzip2"), (b"\xfd7zXZ\x00", "xz")):
            self.refused(start + b"x" * 1000, "a.tar is compressed with", program)

    def test_cut(self) -> None:
        """Wherever it is cut short it is refused, as a tar archive or gzipped."""
        whole = app().bytes()
        for length in (*range(100, len(whole) - 1024, 997), len(whole) - 1024):
            self.refused(whole[:length], "a.tar")
        packed = zipped(whole)
        for length in range(3, len(packed) - 1, 97):
            self.refused(packed[:length], "a.tar")

    def test_damaged(self) -> None:
        """A header that does not add up is told; so is a gzip stream that is damaged."""
        whole = bytearray(app().bytes())
        whole[512 + 512 + 3] ^= 1
        self.refused(bytes(whole), "a.tar")
        packed = bytearray(zipped(app().bytes()))
        packed[len(packed) // 2] ^= 0xFF
        self.refused(bytes(packed))

    def test_extended_headers(self) -> None:
        """Extended headers are read as far as there is sense in them: not of any size or number, or of all members."""
        for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE):
            self.refused(Archive().add("x", b"1" * 70_000, type=kind).bytes(), "extended header of 70000")
        for data in (b"x", b"5 a=b\n", b"99999 a=b\n", b"0 a=b\n", b"6 abc\n", b"\xff"):
            self.refused(Archive().add("x", data, type=tarfile.XHDTYPE).add("y").bytes(), "damaged extended header")
        many = Archive()
        for _ in range(6):
            many.add("x", b"9 abc=de\n", type=tarfile.XHDTYPE)
        self.refused(many.add("y"), "without end")
        self.refused(Archive().add("x", b"10 path=a\n", type=tarfile.XGLTYPE).add("y"), "all members at once")
        self.refused(Archive().add("x", b"22 GNU.sparse.major=1\n", type=tarfile.XHDTYPE).add("y"), "y: is neither")
        for size in ("x", "-5", "9" * 30, str(1 << 64)):
            record = f" size={size}\n"
            record = f"{len(record) + 2}{record}"
            self.refused(Archive().add("x", record.encode(), type=tarfile.XHDTYPE).add("y"), "y: a")

    def test_room(self) -> None:
        """What there is no room for is refused before any of it is written, however small it is packed."""
        huge = tarfile.TarInfo(f"blobs/sha256/{'0' * 64}")
        huge.size = 1 << 60
        problem = self.assertRaises(StoreError, self.take, huge.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        self.assertIn("room", problem.message)
        self.patch(Staging, "room", lambda staging: 20_000)
        before = self.files()
        problem = self.assertRaises(StoreError, self.take, zipped(app().bytes()))
        self.assertIn(member(LAYERS[1]), problem.message)
        self.assertEqual(self.files(), before)

    def test_disk_full(self) -> None:
        """A disk that is full all the same leaves nothing behind either."""
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = self.files()
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
        try:
            self.assertRaises(StoreError, self.take, app())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        self.assertEqual(self.files(), before)


class BoundTests(ImportCase):
    """What takes time or memory without end."""

    def test_members(self) -> None:
        """Of ten million members so many are looked at, and none is kept."""
        empty = tarfile.TarInfo("d")
        empty.type = tarfile.DIRTYPE
        header = empty.tobuf(tarfile.GNU_FORMAT)
        source = _Endless(header * 128)
        problem = self.assertRaises(ArchiveInvalid, self.importer.take, source, "a.tar", Wish())
        self.assertIn(f"more than {MOST_MEMBERS} members", problem.message)
        self.assertLess(source.read_bytes, (MOST_MEMBERS + 10_000) * 512)
        self.assertEqual(self.files(), {"VERSION"})

    def test_extended_headers(self) -> None:
        """Nor are extended headers read without end, each of them small, and what one says is read once."""
        empty = tarfile.TarInfo("d")
        empty.type = tarfile.DIRTYPE
        data = b"5 a=\n" * 13_107
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, len(data)
        block = header.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512) + empty.tobuf(tarfile.GNU_FORMAT)
        source = _Endless(block)
        problem = self.assertRaises(ArchiveInvalid, self.importer.take, source, "a.tar", Wish())
        self.assertIn(f"more than {MOST_EXTENDED} bytes of extended headers", problem.message)
        self.assertLess(source.read_bytes, 2 * MOST_EXTENDED)
        self.assertEqual(self.files(), {"VERSION"})

    def test_parts(self) -> None:
        """A small archive does not come to millions of parts: not by names, by images, or by manifests of one image."""
        self.assertLess((importing.MOST_PARTS, closure.MOST_NAMED), (1_000_000, 200_000))
        self.patch(importing, "MOST_PARTS", 18_000)
        self.patch(closure, "MOST_NAMED", 10_000)
        foreign = [_foreign(str(number)) for number in range(4)]
        config = config_of(())
        names = {f"r.example/team/app{number}:1": foreign[0] for number in range(6)}
        self.refused(oci(names, [config]), "parts")
        indexes = {
            f"r.example/team/app:{number}": json.dumps(
                {
                    "schemaVersion": 2,
                    "manifests": [descriptor(OCI_MANIFEST, foreign[0])],
                    "annotations": {"number": str(number)},
                }
            ).encode()
            for number in range(6)
        }
        self.refused(oci(indexes, [foreign[0], config], OCI_INDEX), "parts")
        listed = [descriptor(OCI_MANIFEST, each) for each in foreign]
        index = json.dumps({"schemaVersion": 2, "manifests": listed}).encode()
        self.refused(oci({APP: index}, [*foreign, config], OCI_INDEX), "names more than")
        self.refused(oci({APP: foreign[0]}, [config]), "parts", names=[f"r.example/app:{each}" for each in range(6)])

    def test_memory(self) -> None:
        """A gzip bomb of zeros, as content or as one of the documents, and JSON that is all brackets take no memory to
        speak of."""
        self.refused(app().add("x/VERSION", b"x").replaced("index.json", b" " * (9 * MIB)), "index.json is larger")
        for bomb in (b"[" * 100_000 + b"]" * 100_000, b"[" + b"1," * 200_000 + b"1]", b'{"a":' * 5000, b"1" * 5000):
            for name in ("index.json", "oci-layout"):
                self.refused(app().replaced(name, bomb), name)
            self.refused(docker().replaced("manifest.json", bomb), "manifest.json")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        source = io.BytesIO(_bomb(400))
        self.assertRaises((ArchiveInvalid, StoreError), self.importer.take, source, "a.tar", Wish())
        self.assertLess(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 100 << 10)
        self.assertEqual(self.files(), {"VERSION"})

    def test_manifest_too_large(self) -> None:
        """A manifest is as small as manifests are."""
        body = b" " * (8 * MIB) + manifest_of(config_of(LAYERS), LAYERS)
        self.refused(oci({APP: body}, [config_of(LAYERS), *LAYERS]), "is named as a manifest")
        descriptors = [descriptor(LAYER, os.urandom(8)) for _ in range(5000)]
        manifest = {"schemaVersion": 2, "config": descriptor(CONFIG, b"{}"), "layers": descriptors}
        self.refused(oci({APP: json.dumps(manifest).encode()}, [b"{}"]))


class _Endless(io.RawIOBase):
    """The same bytes again and again."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.read_bytes = 0

    def read(self, count: int = -1) -> bytes:
        self.read_bytes += min(count, len(self._data))
        return self._data[:count]


def _foreign(number: str) -> bytes:
    """The manifest of an image whose thousands of layers come from elsewhere, and need not be in an archive."""
    layers = [
        {
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": f"sha256:{layer:064x}",
            "size": 5,
            "urls": ["https://elsewhere.example/"],
        }
        for layer in range(4000)
    ]
    config = descriptor(CONFIG, config_of(()))
    return json.dumps(
        {"schemaVersion": 2, "config": config, "layers": layers, "annotations": {"number": number}}
    ).encode()


def _bomb(mib: int) -> bytes:
    """A gzipped archive of one member of zeros that is cut short."""
    header = tarfile.TarInfo("x")
    header.size = mib << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(header.tobuf(tarfile.GNU_FORMAT)), *(packer.compress(bytes(MIB)) for _ in range(mib - 1))]
    return b"".join([*parts, packer.flush()])
