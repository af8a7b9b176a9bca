"""Bodies that nobody is sent: followed until they are verified, or hashed as they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProducer
from zope.interface import implementer

from crcache.errors import BodyCut
from crcache.facts import Verdict
from crcache.grammar.digest import Digest
from crcache.interfaces import IBody, IWatcher

#: Seconds between two looks at how far a body has come.
LOOK = 0.1


@implementer(IWatcher)
class Following:
    """Follows a body until its verdict."""

    def __init__(self, body: IBody, clock: Any, advanced: Callable[[int], object]) -> None:
        self._body = body
        self._clock = clock
        self._advanced = advanced
        self._front = 0
        self._done: Deferred[None] = Deferred()
        self._timer: Any = None

    async def ended(self) -> None:
        """All of it is verified.

        @raise CrcacheError: if it will not be.
        """
        self._body.watch(self)
        try:
            self._look()
            await self._done
        finally:
            self._body.unwatch(self)
            if self._timer is not None:
                self._timer.cancel()
        problem = self._body.problem
        if self._body.verdict is Verdict.FAILED:
            raise problem or BodyCut("it broke off")
        self._tell(self._body.size or self._front)

    def moved(self) -> None:
        """As L{IWatcher}."""
        if self._body.verdict is not Verdict.FILLING and not self._done.called:
            self._done.callback(None)

    def back(self) -> None:
        """What came is of no use, as far as is known."""
        self._tell(0)

    def _look(self) -> None:
        """How far it has come is looked up now and then: it may move a thousand times a second."""
        self._timer = None
        self.moved()
        if not self._done.called:
            self._tell(self._body.readable(self._front))
            self._timer = self._clock.callLater(LOOK, self._look)

    def _tell(self, front: int) -> None:
        self._advanced(front - self._front)
        self._front = front


@implementer(IConsumer)
class Taken:
    """Hashes an answer's body, and keeps nothing of it."""

    def __init__(self, digest: Digest, advanced: Callable[[int], object]) -> None:
        self.count = 0
        self._digest = digest
        self._hasher = digest.hasher()
        self._advanced = advanced

    @property
    def right(self) -> bool:
        return self._hasher.hexdigest() == self._digest.hex

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """As L{IConsumer}."""

    def unregisterProducer(self) -> None:
        """As L{IConsumer}."""

    def write(self, data: bytes) -> None:
        """As L{IConsumer}."""
        self._hasher.update(data)
        self.count += len(data)
        self._advanced(len(data))
