"""What commands change is counted for the daemons, which keep the cache within its bounds by that count."""

from __future__ import annotations

import os

from crcache.eviction.tally import Tally
from tests.commands.tree import TreeCase
from tests.images.archives import APP, app


class CountingTests(TreeCase):
    """A directory with an image, which a daemon has counted."""

    def setUp(self) -> None:
        """Make it."""
        super().setUp()
        self.tree.image("docker.io/library/nginx:1", [b"layer" * 1000])
        self.archive = self.file.with_name("a.tar")
        self.archive.write_bytes(app().bytes())

    def held(self) -> int:
        """The bytes of all content."""
        return sum(path.stat().st_size for path in self.tree.layout.blobs.glob("*/*"))

    def counted(self) -> int | None:
        """What a daemon takes them for."""
        tally = Tally(self.tree.layout)
        with tally.open() as book:
            return book.content

    def test_import_and_prune(self) -> None:
        """What comes and goes is counted at once, and once; what was there already is not."""
        with Tally(self.tree.layout).open() as book:
            book.content = before = self.held()
        for _ in range(2):
            self.done("import", str(self.archive))
            self.assertEqual(self.counted(), self.held())
        self.assertGreater(self.held(), before)
        self.done("unpin", APP)
        self.done("prune", "--matching", "*")
        self.assertEqual((self.counted(), self.held()), (0, 0))

    def test_nobody_has_counted(self) -> None:
        """Where no daemon has been nothing is noted for one."""
        self.done("import", str(self.archive))
        self.done("prune", "--matching", "docker.io/*")
        self.assertFalse(os.path.lexists(self.tree.layout.eviction))
