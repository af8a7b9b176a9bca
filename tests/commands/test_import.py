"""C{crcache import}, as a command."""

from __future__ import annotations

import json
import os
import pty
import pwd
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from crcache.commands import making
from crcache.eviction.holders import Held
from crcache.evictor import Evictor
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Tag
from crcache.settings import Bounds
from crcache.store.staging import PREFIX
from crcache.workers import Inline
from tests.commands.tree import TreeCase
from tests.images.archives import APP, LAYERS, app, config_of, manifest_of, named, oci

ROOT = Path(__file__).resolve().parents[2]


class ImportTests(TreeCase):
    """What it does with files, and what it prints."""

    def setUp(self) -> None:
        """An archive."""
        super().setUp()
        self.archive = self.file.with_name("a.tar")
        self.archive.write_bytes(app().bytes())
        self.manifest = manifest_of(config_of(LAYERS), LAYERS)
        self.root = self.tree.layout.root
        self.command = [sys.executable, "-m", "crcache.cli", "import", "-c", str(self.file), "-d", str(self.root)]

    def test_text(self) -> None:
        """What came in is told, and how much of it was new."""
        said = self.done("import", str(self.archive))
        self.assertIn(f"imported {APP} {str(Digest.of(self.manifest))[:19]}", said)
        self.assertIn("4 of 4 parts were new", said)
        self.assertIn(APP, self.done("ls"))

    def test_json(self) -> None:
        """The same for programs."""
        found = self.json("import", "--as", "nginx:1", "--as", "r.example/x:2", str(self.archive))
        self.assertEqual([each["name"] for each in found["images"]], ["docker.io/library/nginx:1", "r.example/x:2"])
        self.assertEqual(found["images"][0]["digest"], str(Digest.of(self.manifest)))
        self.assertEqual((found["new"]["count"], found["there"]["count"]), (4, 0))
        self.assertTrue(found["images"][0]["pinned"])

    def test_bounds(self) -> None:
        """Room is made for what comes, and what came is counted, also as the daemon beside it sees that; an archive for
        which there is no room is refused with the keys that say so, and nothing of it stays."""
        size = sum(map(len, (*LAYERS, config_of(LAYERS), self.manifest)))
        old = [self.tree.put(bytes([number]) * 20_000) for number in range(4)]
        for digest in old:
            os.utime(self.tree.layout.content(digest), (1e9, 1e9))
        evictor = Evictor(self.root, lambda: Bounds(1 << 40, 0), Inline(), None)
        self.addCleanup(evictor.stop)
        evictor.alone()
        self.bound(90_000)
        self.done("import", str(self.archive))
        there = sum(path.stat().st_size for path in self.root.glob("blobs/*/*"))
        self.assertLessEqual(there, 90_000)
        self.assertGreaterEqual(there, size)
        with evictor.tally.open() as book:
            self.assertEqual((book.content, evictor.tally.holders.all()), (there, (Held(), 0)))
        self.bound(size + 10_000)
        config, layer = config_of([b"l"]), b"l" * 20_000
        self.archive.write_bytes(oci({"r.example/more:1": manifest_of(config, [layer])}, [config, layer]).bytes())
        status, _, err = self.run_main("import", str(self.archive))
        self.assertEqual(status, 1)
        self.assertIn("cache.max-size", err)
        self.assertEqual(err.count("\n"), 1)
        self.assertEqual(list(self.root.glob(f"ingest/{PREFIX}*")), [])
        self.assertEqual(evictor.tally.holders.all(), (Held(), 0))

    def test_there(self) -> None:
        """What an archive has and is there already does not go for the rest of it, though it would be next."""
        for data, age in ((LAYERS[1], 1800), (b"x" * 20_000, 60)):
            fd = os.open(self.tree.layout.content(self.tree.put(data)), os.O_RDONLY)
            self.tree.contents.seals.set(fd, Digest.of(data), self.tree.now - age)
            os.close(fd)
        self.bound(66_000)
        config = config_of(LAYERS)
        self.archive.write_bytes(oci({APP: self.manifest}, [LAYERS[1], config, LAYERS[0]]).bytes())
        self.done("import", str(self.archive))
        for data in (self.manifest, config, *LAYERS):
            self.assertEqual(self.tree.content(data).read_bytes(), data)
        self.assertFalse(self.tree.content(b"x" * 20_000).exists())

    def bound(self, most: int) -> None:
        """There may be so many bytes."""
        self.file.write_text(json.dumps({"cache": {"max-size": f"{most}B", "min-free": "0B"}}))

    def test_stdin(self) -> None:
        """C{-} is stdin, of which all is read; a terminal is none."""
        data = self.archive.read_bytes() + bytes(1 << 20)
        said = subprocess.run([*self.command, "-"], cwd=ROOT, input=data, capture_output=True, check=True)
        self.assertIn(APP.encode(), said.stdout)
        master, terminal = pty.openpty()
        try:
            refused = subprocess.run([*self.command, "-"], cwd=ROOT, stdin=terminal, capture_output=True, check=False)
        finally:
            os.close(master)
            os.close(terminal)
        self.assertEqual(refused.returncode, 2)

    def test_refused(self) -> None:
        """One line, that names the file; status 1."""
        self.archive.write_bytes(b"x" * 1000)
        for name in (str(self.archive), "/nowhere", str(self.root)):
            status, out, err = self.run_main("import", name)
            self.assertEqual((status, out, err.count("\n")), (1, "", 1))
            self.assertIn(name, err)

    def test_told(self) -> None:
        """It is told what will not be served as one might think: private repositories, and tags without a pin that are
        asked of their registry."""
        registry, repository, _ = named(APP)
        path = self.tree.layout.privacy(registry, repository)
        path.parent.mkdir(parents=True)
        path.write_text('{"checked": 1, "challenges": []}')
        status, _, err = self.run_main("import", str(self.archive))
        self.assertEqual((status, "private" in err), (0, True))
        config = config_of(LAYERS)
        self.archive.write_bytes(oci({"r.example/x:latest": self.manifest}, [config, *LAYERS]).bytes())
        status, _, err = self.run_main("import", "--no-pin", str(self.archive))
        self.assertEqual((status, "r.example/x:latest: unpinned" in err), (0, True))
        self.done("import", str(self.archive))

    def test_first_use(self) -> None:
        """A directory that is not there is made, but not what is above it."""
        shutil.rmtree(self.root)
        self.done("import", str(self.archive))
        self.assertEqual(self.root.stat().st_mode & 0o777, 0o750)
        self.tree.layout.root.rename(self.root.with_name("moved"))
        self.file.write_text(f"cache: {{directory: {self.root}/below}}\n")
        status, _, err = self.run_main("import", "-d", str(self.root / "below"), str(self.archive))
        self.assertEqual((status, "is not there" in err), (1, True), err)
        self.assertFalse(self.root.exists())

    def test_interrupted(self) -> None:
        """SIGTERM ends it as SIGINT does: nothing of it is left but what was counted."""
        before = self.files()
        for number in (signal.SIGTERM, signal.SIGINT):
            child = subprocess.Popen([*self.command, "-"], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
            assert child.stdin is not None
            child.stdin.write(self.archive.read_bytes()[:20_000])
            child.stdin.flush()
            deadline = time.monotonic() + 20
            while not list(self.root.glob(f"ingest/{PREFIX}*/*")) and time.monotonic() < deadline:
                time.sleep(0.02)
            self.assertTrue(list(self.root.glob(f"ingest/{PREFIX}*/*")))
            child.send_signal(number)
            _, err = child.communicate(timeout=20)
            self.assertEqual((child.returncode, err), (130, b"\n"))
            self.assertEqual(self.files(), before)

    def files(self) -> set[str]:
        """All but what whoever makes room remembers, who holds room for nobody."""
        found = set(self.tree.files())
        self.assertEqual([name for name in found if "holder-" in name], [])
        return {name for name in found if not name.startswith("eviction/")}


class OwnerTests(TreeCase):
    """As root."""

    if os.geteuid() != 0:
        skip = "needs root"

    def setUp(self) -> None:
        """An archive that root alone can read, in a place that others can reach."""
        super().setUp()
        self.file.parent.chmod(0o711)
        self.archive = self.file.with_name("a.tar")
        self.archive.write_bytes(app().bytes())
        self.archive.chmod(0o600)
        self.root = self.tree.layout.root
        self.command = [sys.executable, "-m", "crcache.cli"]
        self.where = ["-c", str(self.file), "-d", str(self.root)]

    def run_command(self, *words: str) -> None:
        """To good end, in a process of its own, which stays who it becomes."""
        subprocess.run([*self.command, *words], cwd=ROOT, check=True, capture_output=True)

    def owners(self) -> set[int]:
        """Of all that is in the directory."""
        return {path.lstat().st_uid for path in (self.root, *self.root.rglob("*"))}

    def test_owner(self) -> None:
        """All that is made in a directory is its owner's, and an export the caller's."""
        nobody = pwd.getpwnam("nobody")
        for path in (self.root, *self.root.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        self.run_command("import", *self.where, str(self.archive))
        self.assertEqual(self.owners(), {nobody.pw_uid})
        out = self.file.with_name("out.tar")
        self.run_command("export", *self.where, "-o", str(out), APP)
        self.assertEqual(out.stat().st_uid, 0)
        self.assertEqual([path.name for path in self.file.parent.iterdir() if path.name.startswith(".")], [])

    def test_new(self) -> None:
        """A directory that root has to make belongs to the packages' user, if there is one."""
        shutil.rmtree(self.root)
        given: list[tuple[object, ...]] = []
        self.patch(making, "USER", "nobody")
        self.patch(os, "chown", lambda *arguments: given.append(arguments))
        self.done("import", str(self.archive))
        nobody = pwd.getpwnam("nobody")
        self.assertEqual(given, [(self.root, nobody.pw_uid, nobody.pw_gid)])
        registry, repository, tag = named(APP)
        assert isinstance(tag, Tag)
        self.assertIsNotNone(self.tree.repositories.tag(registry, repository, tag))
