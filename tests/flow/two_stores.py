"""Two processes' stores on one directory."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crcache.interfaces import IStore
from crcache.store.filesystem import Filesystem
from crcache.workers import Inline


class TwoStores(SynchronousTestCase):
    """Fills in a directory.

    @ivar root: the directory.
    """

    def make_store(self) -> IStore:
        """In a directory."""
        self.root = Path(tempfile.mkdtemp(prefix="crcache-test-"))
        self.addCleanup(shutil.rmtree, self.root)
        return self.another()

    def another(self) -> Filesystem:
        """The other process' store."""
        store = Filesystem(self.root, Inline(), lambda: 1000.0)
        store.start()
        return store
