"""Small bodies: taken whole into memory, or read to the end so that the connection can be used again."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from crcache.errors import BodyCut, OriginLied, OriginTimeout
from crcache.interfaces import IAnswer

#: Seconds that a body may take which others wait for.
DEADLINE = 60.0

_ERROR_BODY = 64 << 10


@implementer(IConsumer)
class _Basket:
    """Keeps a body up to a limit, and gives the answer up beyond that."""

    def __init__(self, answer: IAnswer, limit: int, keep: bool) -> None:
        self.parts: list[bytes] = []
        self.count = 0
        self._answer = answer
        self._limit = limit
        self._keep = keep

    @property
    def full(self) -> bool:
        """Whether there was more than the limit."""
        return self.count > self._limit

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """As L{IConsumer}."""

    def unregisterProducer(self) -> None:
        """As L{IConsumer}."""

    def write(self, data: bytes) -> None:
        """As L{IConsumer}."""
        if self.full:
            return
        self.count += len(data)
        if self.full:
            self._answer.abort()
        elif self._keep:
            self.parts.append(data)


async def collect(answer: IAnswer, limit: int, clock: IReactorTime | None = None) -> bytes:
    """The whole body.

    @param clock: given, the body has L{DEADLINE} seconds, however steadily it comes.
    @raise OriginLied: if it has more than C{limit} bytes.
    @raise OriginTimeout: if it takes too long.
    @raise crcache.errors.BodyCut: if it ends too soon.
    """
    if answer.length is not None and answer.length > limit:
        answer.abort()
        raise OriginLied(f"the origin's answer has {answer.length} bytes; at most {limit} are taken")
    basket = _Basket(answer, limit, keep=True)
    try:
        delivered = answer.deliver(basket)
        if clock is not None:
            delivered.addTimeout(DEADLINE, clock, _late)
        await delivered
    except BodyCut:
        if not basket.full:
            raise
    if basket.full:
        raise OriginLied(f"the origin's answer has more than {limit} bytes")
    return b"".join(basket.parts)


def _late(result: Any, timeout: float) -> Any:
    if isinstance(result, Failure):
        raise OriginTimeout(f"the origin's answer did not end within {timeout:g} s; try again")
    return result


def dismiss(answer: IAnswer, *, head: bool = False) -> None:
    """Nobody wants the body: read it to its end if it is short, so that the connection lives on.

    @param head: whether it is a HEAD's answer, whose length is that of another's body.
    """
    if not head and answer.length is not None and answer.length > _ERROR_BODY:
        answer.abort()
        return
    delivered: Deferred[None] = answer.deliver(_Basket(answer, _ERROR_BODY, keep=False))
    delivered.addErrback(lambda _: None)
