"""L{crcache.images.exporting}, by way of C{crcache export}."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tarfile
from pathlib import Path

from crcache.grammar.digest import Digest
from tests.commands.tree import Tree, TreeCase

ROOT = Path(__file__).resolve().parents[2]
BASE, ONE, TWO = b"b" * 50_000, b"1" * 700, b"2" * 700
A, B = "r.example/a:1", "r.example/b:1"


class ExportCase(TreeCase):
    """Two images that share a layer."""

    def setUp(self) -> None:
        """Make them."""
        super().setUp()
        self.a = self.tree.image(A, [BASE, ONE, BASE])
        self.b = self.tree.image(B, [BASE, TWO])
        self.archive = self.file.with_name("out.tar")

    def members(self) -> dict[str, bytes]:
        """What the archive holds."""
        with tarfile.open(self.archive) as tar:
            return {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]

    def failed(self, *arguments: str) -> str:
        """What is told when it fails; nothing is left behind."""
        before = set(self.file.parent.iterdir())
        status, out, err = self.run_main("export", "-o", str(self.archive), *arguments)
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(set(self.file.parent.iterdir()), before)
        return err


class ExportTests(ExportCase):
    """What is written."""

    def test_layout(self) -> None:
        """All content is there once, under its digest; both annotations have the whole name; docker's manifest has each
        layer as often as the image has it."""
        said = self.done("export", "-o", str(self.archive), B, A, A)
        self.assertIn(f"exported {A} {str(Digest.of(self.a))[:19]}", said)
        members = self.members()
        self.assertEqual(json.loads(members["oci-layout"]), {"imageLayoutVersion": "1.0.0"})
        blobs = {name: data for name, data in members.items() if name.startswith("blobs/")}
        self.assertEqual({f"blobs/sha256/{Digest.of(data).hex}" for data in blobs.values()}, set(blobs))
        self.assertEqual(len(blobs), 2 + 1 + 3)
        listed = json.loads(members["index.json"])["manifests"]
        self.assertEqual([each["digest"] for each in listed], [str(Digest.of(self.a)), str(Digest.of(self.b))])
        for each, name in zip(listed, (A, B), strict=True):
            self.assertEqual(set(each["annotations"].values()), {name})
        docker = json.loads(members["manifest.json"])
        self.assertEqual([each["RepoTags"] for each in docker], [[A], [B]])
        layers = [f"blobs/sha256/{Digest.of(each).hex}" for each in (BASE, ONE, BASE)]
        self.assertEqual(docker[0]["Layers"], layers)
        self.assertEqual(self.archive.stat().st_mode & 0o777, 0o640)

    def test_same(self) -> None:
        """The same images give the same bytes, in whichever order they are named, and whenever."""
        self.done("export", "-o", str(self.archive), A, B)
        first = self.archive.read_bytes()
        self.tree.age(A, 100_000)
        self.done("export", "-o", str(self.archive), B, A)
        self.assertEqual(self.archive.read_bytes(), first)

    def test_stdout(self) -> None:
        """C{-} is stdout, which gets the archive and nothing else: no JSON beside it. A terminal is no place for it."""
        self.done("export", "-o", str(self.archive), A)
        command = [
            sys.executable,
            "-m",
            "crcache.cli",
            "export",
            "-c",
            str(self.file),
            "-d",
            str(self.tree.layout.root),
        ]
        said = subprocess.run([*command, "-o", "-", A], cwd=ROOT, capture_output=True, check=True)
        self.assertEqual((said.stdout, said.stderr), (self.archive.read_bytes(), b""))
        self.assertEqual(self.run_main("export", "--json", "-o", "-", A)[0], 2)
        master, terminal = pty.openpty()
        try:
            refused = subprocess.run(
                [*command, "-o", "-", A], cwd=ROOT, stdout=terminal, stderr=subprocess.PIPE, check=False
            )
        finally:
            os.close(master)
            os.close(terminal)
        self.assertEqual((refused.returncode, refused.stderr.count(b"\n")), (2, 1))

    def test_json(self) -> None:
        """Programs are told the same."""
        found = self.json("export", "-o", str(self.archive), A)
        self.assertEqual((found["file"], found["images"][0]["name"]), (str(self.archive), A))
        self.assertEqual(found["images"][0]["digest"], str(Digest.of(self.a)))

    def test_by_digest_and_pin(self) -> None:
        """A digest names an image as well; of a tag that is gone its pin tells what it meant."""
        self.done("export", "-o", str(self.archive), f"r.example/a@{Digest.of(self.a)}")
        self.assertEqual(json.loads(self.members()["manifest.json"])[0]["RepoTags"], [])
        self.done("pin", A)
        registry = self.tree.layout.registries / "r.example" / "a"
        (registry / "_tags" / "1").unlink()
        self.done("export", "-o", str(self.archive), A)
        self.assertIn(f"r.example/b@{Digest.of(self.a)}", self.failed(f"r.example/b@{Digest.of(self.a)}"))

    def test_devices(self) -> None:
        """What is no file is written to, and stays what it is; a link's target is what is replaced."""
        self.done("export", "-o", "/dev/null", A)
        self.assertTrue(Path("/dev/null").is_char_device())
        link = self.archive.with_name("link.tar")
        self.archive.write_bytes(b"old")
        link.symlink_to(self.archive)
        self.done("export", "-o", str(link), A)
        self.assertTrue(link.is_symlink())
        self.assertIn("index.json", self.members())


class PlatformTests(ExportCase):
    """Images for several platforms."""

    def setUp(self) -> None:
        """An index of two that are here, and one that is not."""
        super().setUp()
        name = "r.example/m"
        self.arm = self.tree.image(name, [ONE], platform="linux/arm64", tagged=False)
        self.amd = self.tree.image(name, [BASE], tagged=False)
        self.name = f"{name}:1"
        here = {"linux/amd64": self.amd, "linux/arm64": self.arm}
        self.index = self.tree.index(self.name, here, absent=["linux/s390x"])

    def test_what_is_here(self) -> None:
        """Those that are here wholly are written, the index as it is."""
        found = self.json("export", "-o", str(self.archive), self.name)
        self.assertEqual(found["images"][0]["platforms"], ["linux/amd64", "linux/arm64"])
        members = self.members()
        self.assertEqual(members[f"blobs/sha256/{Digest.of(self.index).hex}"], self.index)
        self.assertNotIn("manifest.json", members)
        self.tree.content(ONE).unlink()
        found = self.json("export", "-o", str(self.archive), self.name)
        self.assertEqual(found["images"][0]["platforms"], ["linux/amd64"])
        self.assertIn("manifest.json", self.members())

    def test_chosen(self) -> None:
        """Those that are named are written, and no others; one that is not here wholly fails."""
        self.done("export", "-o", str(self.archive), "--platform", "linux/aarch64", self.name)
        self.assertNotIn(f"blobs/sha256/{Digest.of(self.amd).hex}", self.members())
        self.archive.unlink()
        self.assertIn("crcache pull --platform linux/s390x", self.failed("--platform", "linux/s390x", self.name))
        self.assertIn("has no image for linux/riscv64", self.failed("--platform", "linux/riscv64", self.name))
        self.assertEqual(self.run_main("export", "-o", str(self.archive), "--platform", "x", self.name)[0], 2)


class MissingTests(ExportCase):
    """What cannot be written."""

    def test_missing(self) -> None:
        """What is missing is told by name, for each image, and what would get it; nothing is written."""
        self.tree.content(ONE).unlink()
        said = self.failed(A, B, "r.example/none", "r.example/a:2")
        self.assertIn(
            f"{A}: not all of it is here, missing: {Digest.of(ONE)} (700 B); 'crcache pull {A}' gets it\n", said
        )
        self.assertIn("r.example/none:latest: is not in this cache; 'crcache pull --pin r.example/none:latest'", said)
        self.assertIn("r.example/a:2: is not in this cache; 'crcache pull r.example/a:2' gets it", said)
        self.assertNotIn(B, said)

    def test_damaged(self) -> None:
        """Damaged content fails the export, although its seal holds, and is dropped; an older archive stays."""
        self.archive.write_bytes(b"old")
        path = self.tree.content(BASE)
        found = path.stat()
        os.chmod(path, 0o640)
        path.write_bytes(b"B" * len(BASE))
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        self.assertIn(str(Digest.of(BASE)), self.failed(A))
        self.assertEqual(self.archive.read_bytes(), b"old")
        self.assertFalse(path.exists())

    def test_unwritable(self) -> None:
        """A place where nothing can be written is told, in one line."""
        for place in ("/proc/x.tar", "/nowhere/x.tar", "/dev/full"):
            status, _, err = self.run_main("export", "-o", place, A)
            self.assertEqual((status, err.count("\n")), (1, 1), err)
            self.assertIn(f"{place}: cannot be written", err)


class RoundTests(ExportCase):
    """From one cache directory into another."""

    def test_round(self) -> None:
        """What is exported, imported and exported again is the same archive."""
        self.done("export", "-o", str(self.archive), A, B)
        there = Tree(self.file.with_name("there"))
        here, self.tree = self.tree, there
        self.done("import", str(self.archive))
        again = self.file.with_name("again.tar")
        self.done("export", "-o", str(again), A, B)
        self.assertEqual(again.read_bytes(), self.archive.read_bytes())
        self.assertNotEqual(here.layout.root, there.layout.root)
