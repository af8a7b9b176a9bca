"""Fills against an origin in memory and a store in memory, on a clock that the test turns."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from crcache.facts import Query, Verdict
from crcache.flow.fill import Fill
from crcache.flow.fills import Fills
from crcache.flow.tools import Room, Tools
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Registry, Repository
from crcache.interfaces import IBody, IIngest, IStore, IWatcher
from crcache.store.memory import Memory
from crcache.testing.fakes import FakeMeter
from crcache.testing.upstream import FakeUpstream, Turn
from crcache.workers import Inline, Workers

P = ParamSpec("P")
T = TypeVar("T")

SEGMENT = 1 << 20
DATA = os.urandom(3 * SEGMENT + 54321)
DIGEST = Digest.of(DATA)
ALPINE = Repository("library/alpine")
NGINX = Repository("library/nginx")
#: Seconds between two tries, and how many there are without progress.
PAUSE, RETRIES = 1.0, 3


class Held(Inline):
    """Work that is done when the test says so."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    @property
    def waiting(self) -> int:
        """How much has not been done."""
        return len(self._waiting)

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call C{work} at L{step}."""
        result: Deferred[T] = Deferred()

        def do() -> None:
            execute(work, *args, **kwargs).chainDeferred(result)

        self._waiting.append(do)
        return result

    def step(self) -> None:
        """Do what has waited longest."""
        self._waiting.pop(0)()


@implementer(IWatcher)
class Watcher:
    """Counts how often it was told."""

    def __init__(self) -> None:
        self.count = 0

    def moved(self) -> None:
        """Once more."""
        self.count += 1


def query(digest: Digest = DIGEST, repository: Repository = ALPINE, registry: Registry = DOCKER_IO) -> Query:
    """Asks for a whole blob."""
    return Query(registry, repository, "blob", digest, "request-1")


def bytes_of(body: IBody | IIngest, start: int = 0) -> bytes:
    """All that can be read of it from there."""
    end = start
    while (further := body.readable(end)) > end:
        end = further
    fd = body.open()
    try:
        return os.pread(fd, end - start, start)
    finally:
        os.close(fd)


class FillCase(SynchronousTestCase):
    """One origin, one store, and the fills of one process."""

    def setUp(self) -> None:
        """Have them."""
        self.clock = Clock()
        self.meter = FakeMeter()
        self.room = Room()
        self.upstream = FakeUpstream(DATA)
        self.store = self.make_store()
        self.fills = self.make_fills()

    def make_store(self) -> IStore:
        """Where the fills' bytes rest."""
        return Memory(lambda: 1000.0)

    def make_fills(self, hashing: Workers | None = None, store: IStore | None = None, urls: int = 1) -> Fills:
        """The fills of a process, whose registries have so many URLs."""
        workers = Inline() if hashing is None else hashing
        store = store or self.store
        made = Fills(
            Tools(self.clock, store, self.upstream, workers, self.meter, self._retry, lambda _: urls, self.room)
        )
        self.addCleanup(lambda: made.stop() and None)
        return made

    def _retry(self, failures: int) -> float | None:
        return PAUSE if failures <= RETRIES else None

    def script(self, *turns: Turn) -> None:
        """How the next questions are answered."""
        self.upstream.turns.extend(turns)

    def begin(self, asked: Query | None = None, expected: int | None = None) -> Fill:
        """A client wants it."""
        return self.fills.begin(asked or query(), expected)

    def pass_time(self, seconds: float = 10.0) -> None:
        """Let it pass, in small steps."""
        for _ in range(int(seconds / 0.01)):
            self.clock.advance(0.01)

    def settled(self, fill: Fill) -> Fill:
        """A fill that is over, as it should be: all of it right, and kept."""
        self.assertIs(fill.verdict, Verdict.VERIFIED)
        self.assertEqual(bytes_of(fill), DATA)
        self.assertEqual(len(self.fills), 0)
        body = self.successResultOf(self.store.find(DIGEST))
        assert body is not None
        self.assertEqual(bytes_of(body), DATA)
        return fill

    def spans(self) -> list[tuple[int, int | None] | None]:
        """The ranges that the origin was asked for."""
        return [asked.span for asked in self.upstream.queries]

    def left(self, *pieces: tuple[int, int], data: bytes = DATA, size: int | None = len(DATA)) -> None:
        """An earlier fill has left these pieces in the store."""
        ingest = self.owned()
        ingest.settle(size)
        for start, stop in pieces:
            self.successResultOf(ingest.write(start, [data[start:stop]]))
        ingest.close()

    def owned(self) -> Any:
        """The fill's files, held by another who fetches."""
        ingest = self.successResultOf(self.store.ingest(DOCKER_IO, DIGEST))
        assert IIngest.providedBy(ingest)
        return ingest

    def kept(self) -> Any:
        """What a fill has left in the store, looked at without keeping it."""
        ingest = self.owned()
        ingest.close()
        return ingest
