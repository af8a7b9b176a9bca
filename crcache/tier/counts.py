"""What operators see of a bucket, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counts:
    """Since the daemon began.

    @ivar hits: objects that were asked for, and came.
    @ivar misses: that were not there.
    @ivar failed: of which nobody can say.
    @ivar received: bytes.
    @ivar uploads: contents that were put there.
    @ivar sent: bytes.
    @ivar waiting: uploads that still have to be done, of all processes on the cache directory.
    """

    hits: int = 0
    misses: int = 0
    failed: int = 0
    received: int = 0
    uploads: int = 0
    sent: int = 0
    waiting: int = 0
