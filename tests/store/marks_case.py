"""Marks for a test."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from crcache.store.marks import Marks

BOOT = bytes(range(16))
INODE = 4711


def made(inode: int = INODE, boot: bytes = BOOT) -> tuple[int, Marks]:
    """Marks of a fill that has nothing yet, and their descriptor."""
    fd = os.memfd_create("marks", os.MFD_CLOEXEC)
    fresh = Marks(fd, boot)
    fresh.create(inode)
    return fd, fresh


class MarksCase(SynchronousTestCase):
    """Has fresh marks."""

    def setUp(self) -> None:
        """Make some."""
        self.fd, self.marks = made()
        self.addCleanup(os.close, self.fd)
