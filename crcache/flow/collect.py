"""Small bodies: taken whole into memory, or read to the end so that the connection can be used again."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProducer
from zope.interface import implementer

from crcache.errors import BodyCut, OriginLied
from crcache.interfaces import IAnswer

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


async def collect(answer: IAnswer, limit: int) -> bytes:
    """The whole body. Cancelling it aborts the answer.

    @raise OriginLied: if it has more than C{limit} bytes.
    @raise crcache.errors.BodyCut: if it ends too soon.
    """
    if answer.length is not None and answer.length > limit:
        answer.abort()
        raise OriginLied(f"the origin's answer has {answer.length} bytes; at most {limit} are taken")
    basket = _Basket(answer, limit, keep=True)
    try:
        await answer.deliver(basket)
    except BodyCut:
        if not basket.full:
            raise
    if basket.full:
        raise OriginLied(f"the origin's answer has more than {limit} bytes")
    return b"".join(basket.parts)


def dismiss(answer: IAnswer, *, head: bool = False) -> None:
    """Nobody wants the body: read it to its end if it is short, so that the connection lives on.

    @param head: whether it is a HEAD's answer, whose length is that of another's body.
    """
    if not head and answer.length is not None and answer.length > _ERROR_BODY:
        answer.abort()
        return
    delivered: Deferred[None] = answer.deliver(_Basket(answer, _ERROR_BODY, keep=False))
    delivered.addErrback(lambda _: None)
