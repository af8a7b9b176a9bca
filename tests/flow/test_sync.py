"""L{crcache.flow.fetch}: what is done against a power cut while a fill goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail

from crcache.errors import StoreError
from crcache.facts import Verdict
from crcache.flow import fetch
from crcache.flow.fill import Fill
from crcache.store.memory import MemoryIngest
from crcache.testing.upstream import Turn
from tests.flow.scene import DATA, DIGEST, RETRIES, SEGMENT, FillCase, bytes_of


class SyncTests(FillCase):
    """A sync is due at each segment, for the sake of the test."""

    def setUp(self) -> None:
        """Note every sync."""
        super().setUp()
        self.patch(fetch, "SYNC", SEGMENT)
        self.fronts: list[int] = []
        self.instead: Callable[[], Deferred[None]] | None = None
        case, original = self, MemoryIngest.synced

        def synced(ingest: Any, front: int) -> Deferred[None]:
            case.fronts.append(front)
            return original(ingest, front) if case.instead is None else case.instead()

        self.patch(MemoryIngest, "synced", synced)

    def done(self) -> Fill:
        """A fill, to its end."""
        fill = self.begin()
        self.pass_time(1)
        return fill

    def test_along_the_front(self) -> None:
        """The front is synced as it goes on, never beyond what has been hashed, and not shortly before the end."""
        self.settled(self.done())
        self.assertEqual(self.fronts, [SEGMENT, 2 * SEGMENT])

    def test_one_at_a_time(self) -> None:
        """A sync that takes long holds no client up, and no other is begun beside it; the commit waits for it."""
        slow: Deferred[None] = Deferred()
        self.instead = lambda: slow
        fill = self.done()
        self.assertEqual(self.fronts, [SEGMENT])
        self.assertIs(fill.verdict, Verdict.VERIFIED)
        self.assertEqual(bytes_of(fill), DATA)
        self.assertNotIn(DIGEST, self.store.contents)  # type: ignore[attr-defined]
        slow.callback(None)
        self.settled(fill)

    def test_failed_and_given_up(self) -> None:
        """What such a fill has left is not resumed either, when its origin is given up: it may not be on disk."""
        self.instead = lambda: fail(StoreError("no space"))
        self.script(Turn(cut=2 * SEGMENT + 10), *[Turn(status=503) for _ in range(RETRIES + 1)])
        fill = self.begin()
        self.pass_time(10)
        self.assertIs(fill.verdict, Verdict.FAILED)
        self.assertEqual(self.store.fills, {})  # type: ignore[attr-defined]

    def test_failed(self) -> None:
        """After a sync that failed nobody knows what the disk holds: clients get their bytes, nothing is kept."""
        self.instead = lambda: fail(StoreError("no space"))
        fill = self.done()
        self.assertIs(fill.verdict, Verdict.VERIFIED)
        self.assertEqual(bytes_of(fill), DATA)
        self.assertIsNone(self.successResultOf(self.store.find(DIGEST)))
        self.assertEqual(len(self.fills), 0)
