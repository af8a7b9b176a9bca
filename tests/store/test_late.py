"""A cache directory that is late: what is waited for, and what is a mistake."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import StoreAway, StoreError
from crcache.store import filesystem
from crcache.store.filesystem import Filesystem
from crcache.workers import Inline


class LateTests(SynchronousTestCase):
    """L{Filesystem.start}."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)

    def start(self, path: Path, parents: bool = False) -> None:
        Filesystem(path, Inline(), lambda: 0.0, parents=parents).start()

    def test_missing_parent(self) -> None:
        """Without its parent it is waited for, and nothing is made where a mount will be; then it opens."""
        path = self.directory / "mount" / "cache"
        error = self.assertRaises(StoreAway, self.start, path)
        self.assertEqual(error.message, f"cache directory {path}: {path.parent} is not there")
        self.assertEqual(list(self.directory.iterdir()), [])
        path.parent.mkdir()
        self.start(path)
        self.assertTrue((path / "VERSION").exists())

    def test_parents(self) -> None:
        """The user's own ~/.cache is made if it is missing, for the user alone."""
        path = self.directory / ".cache" / "crcache"
        self.start(path, parents=True)
        self.assertEqual(stat.S_IMODE(path.parent.stat().st_mode), 0o700)

    def test_what_may_pass(self) -> None:
        """Errors of disks and mounts may pass; those that somebody has to mend do not."""
        away = (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT, errno.ENOTCONN, errno.EROFS, errno.ENOSPC)
        mistakes = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP)
        for number in (*away, *mistakes):

            def broken(directory: Path, number: int = number) -> None:
                raise OSError(number, os.strerror(number), str(directory))

            self.patch(filesystem, "probe", broken)
            error = self.assertRaises(StoreError, self.start, self.directory / "cache")
            self.assertEqual(isinstance(error, StoreAway), number in away, os.strerror(number))
            self.assertIn(os.strerror(number), error.message)

    def test_may_not_be_made(self) -> None:
        """A cache directory that may not be made is a mistake, whether its parent is a mount point or not: nobody
        could tell, and somebody has forgotten to make it more often than to mount it."""

        def refused(path: Path, **_: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        self.patch(Path, "mkdir", refused)
        error = self.assertRaises(StoreError, self.start, self.directory / "cache")
        self.assertNotIsInstance(error, StoreAway)
        self.assertIn("Permission denied", error.message)

    def test_mistakes(self) -> None:
        """A file in its place, or above it, and another release's layout are mistakes."""
        file = self.directory / "file"
        file.touch()
        (self.directory / "old").mkdir()
        (self.directory / "old" / "VERSION").write_text("99")
        for path in (file, file / "cache", self.directory / "old"):
            self.assertNotIsInstance(self.assertRaises(StoreError, self.start, path), StoreAway)
