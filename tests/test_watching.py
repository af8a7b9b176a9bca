"""Files that are replaced are noticed."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crcache.watching import PACE, Watching
from crcache.workers import Inline


class WatchingTests(SynchronousTestCase):
    """Two files, looked at by hand."""

    def setUp(self) -> None:
        """Begin to watch."""
        base = Path(self.mktemp()).absolute()
        base.mkdir()
        self.one, self.other = base / "one", base / "other"
        self.one.write_text("1")
        self.changes = 0
        self.answer: Deferred[None] | None = None
        self.clock = Clock()
        self.watching = Watching(self.clock, Inline(), self.changed)
        self.watching.watch([self.one, self.other])
        self.watching.start()
        self.addCleanup(self.watching.stop)

    def changed(self) -> Deferred[None] | None:
        """One more."""
        self.changes += 1
        return self.answer

    def look(self) -> int:
        """How often it was told of changes after another look."""
        self.clock.advance(PACE)
        return self.changes

    def test_nothing(self) -> None:
        """Files that stay what they are are not told of, nor is one that appears."""
        self.assertEqual(self.look(), 0)
        self.other.write_text("2")
        self.assertEqual(self.look(), 0)
        self.assertEqual(self.look(), 0)

    def test_written(self) -> None:
        """A file that is written to, or replaced by one of the same size and time, is told of once."""
        self.one.write_text("22")
        self.assertEqual(self.look(), 1)
        self.assertEqual(self.look(), 1)
        draft = self.one.with_name("draft")
        draft.write_text("33")
        found = self.one.stat()
        os.utime(draft, ns=(found.st_atime_ns, found.st_mtime_ns))
        draft.replace(self.one)
        self.assertEqual(self.look(), 2)

    def test_gone_for_a_while(self) -> None:
        """A file that is gone is waited for, and compared with what it was before."""
        before = self.one.stat()
        kept = self.one.rename(self.one.with_name("kept"))
        self.assertEqual(self.look(), 0)
        kept.rename(self.one)
        os.utime(self.one, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.assertEqual(self.look(), 0)
        self.one.unlink()
        self.assertEqual(self.look(), 0)
        self.one.write_text("another")
        self.assertEqual(self.look(), 1)

    def test_link(self) -> None:
        """A symbolic link that leads elsewhere is a change."""
        link = self.one.with_name("link")
        link.symlink_to(self.one)
        self.watching.watch([link])
        self.look()
        self.other.write_text("elsewhere")
        link.unlink()
        link.symlink_to(self.other)
        self.assertEqual(self.look(), 1)

    def test_others_from_now_on(self) -> None:
        """Only what was named last is watched."""
        self.look()
        self.watching.watch([self.other])
        self.one.write_text("22")
        self.assertEqual(self.look(), 0)

    def test_not_twice_at_once(self) -> None:
        """While a change is being dealt with nothing is looked at; what has changed meanwhile is told of then."""
        self.answer = Deferred()
        self.one.write_text("22")
        self.assertEqual(self.look(), 1)
        self.one.write_text("333")
        self.assertEqual(self.look(), 1)
        answer, self.answer = self.answer, None
        answer.callback(None)
        self.assertEqual(self.look(), 2)

    def test_again(self) -> None:
        """Whoever could make nothing of what there was is told once more; of a file that is gone when it is back."""
        self.other.write_text("2")
        self.look()
        self.watching.again()
        self.assertEqual((self.look(), self.look()), (1, 1))
        self.one.unlink()
        self.other.unlink()
        self.watching.again()
        self.assertEqual(self.look(), 1)
        self.one.write_text("1")
        self.assertEqual((self.look(), self.look()), (2, 2))

    def test_stopped(self) -> None:
        """Nothing is told of any more."""
        self.watching.stop()
        self.watching.stop()
        self.one.write_text("22")
        self.assertEqual(self.look(), 0)
