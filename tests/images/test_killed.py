"""An import that is killed, or runs beside a daemon."""

from __future__ import annotations

import io
import os
import shutil
import signal
from pathlib import Path

from crcache.grammar.digest import Digest
from crcache.grammar.reference import Tag
from crcache.images import intake
from crcache.images.importing import Wish
from crcache.store import adopting, contents, files, givers, pins, seal, staging, version
from crcache.store.staging import PREFIX, Staging, sweep
from tests.images.archives import APP, LAYERS, ImportCase, app, config_of, manifest_of, named
from tests.store.dying import Dying, lived

#: What changes something on disk, beside what L{Dying} counts.
_MODULES = (adopting, contents, files, givers, intake, pins, seal, shutil, staging)


class KilledTests(ImportCase):
    """Killed before each of its changes in turn."""

    def test_killed(self) -> None:
        """Nothing is seen of it by its tag, unless all of it is there; nothing is noted of what is not; the next import
        succeeds, and leaves nothing of the one that was killed."""
        data, changes = app(layers=LAYERS[:1]).bytes(), 0
        while not lived(lambda: self.importer.take(io.BytesIO(data), "a.tar", Wish()), Dying(changes), _MODULES):
            self._check_left()
            if not changes % 5:
                self.take(data)
                self.assert_whole(APP, LAYERS[0])
                self.assertEqual([name for name in self.files() if name.startswith("ingest/")], [])
            shutil.rmtree(self.root)
            self.root.mkdir()
            version.write(self.layout)
            changes += 1
        self.assertGreater(changes, 60)

    def _check_left(self) -> None:
        registry, repository, tag = named(APP)
        assert isinstance(tag, Tag)
        config = config_of(LAYERS[:1])
        manifest = manifest_of(config, LAYERS[:1])
        held = self.layout.held(registry, repository)
        for digest in held:
            self.assertTrue(self.layout.content(digest).exists())
        for path in self.root.glob("blobs/*/*"):
            if not path.name.startswith("."):
                self.assertEqual(Digest.of(path.read_bytes()).hex, path.name)
        if Digest.of(manifest) in held:
            self.assertEqual(set(held), {Digest.of(each) for each in (config, LAYERS[0], manifest)})
        if self.repositories.tag(registry, repository, tag) is not None:
            self.assert_whole(APP, LAYERS[0], config, manifest)
            self.assertTrue(self.pins.holds(registry, repository, tag))


class StagingTests(ImportCase):
    """Where content waits."""

    def left(self) -> list[str]:
        """What is there of imports."""
        return sorted(path.name for path in self.root.glob(f"ingest/{PREFIX}*"))

    def test_others_work(self) -> None:
        """What another process is at work on stays; what it leaves when it is killed goes, and what has no lock."""
        child = os.fork()
        if not child:
            Staging(self.layout).new()
            signal.pause()
        try:
            while len(self.left()) < 2 or not list(self.root.glob("ingest/*/1")):
                pass
            before = self.left()
            self.assertEqual(sweep(self.layout), 0)
            self.take(app())
            self.assertEqual(self.left(), before)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        (self.layout.ingest / f"{PREFIX}old").mkdir()
        (self.layout.ingest / f"{PREFIX}old" / "1").write_bytes(b"x")
        self.assertEqual(sweep(self.layout), 2)
        self.assertEqual(self.left(), [])

    def test_nothing_to_sweep(self) -> None:
        """Where there is nothing, and no directory, nothing is done, or made."""
        self.assertEqual(sweep(self.layout), 0)
        self.assertEqual(self.files(), {"VERSION"})

    def test_others_files_stay(self) -> None:
        """Fills in progress are none of its business."""
        self.layout.ingest.mkdir()
        kept: list[Path] = [
            self.layout.ingest / name for name in ("x-sha256-y", "x-sha256-y.marks", ".import", ".other-1")
        ]
        for path in kept:
            path.write_bytes(b"x")
        self.assertEqual(sweep(self.layout), 0)
        self.assertTrue(all(path.exists() for path in kept))
