"""Small bodies, whole, in memory."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from crcache.upstream.exchange import Exchange


class _Collector(Protocol):
    def __init__(self, limit: int, exchange: Exchange) -> None:
        self._room = limit
        self._exchange = exchange
        self._pieces: list[bytes] = []
        self.body: Deferred[bytes | None] = Deferred(lambda _: exchange.lease.abort())

    def dataReceived(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room >= 0:
            self._pieces.append(data)
        else:
            self._end(None)
            self._exchange.lease.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        whole = reason.check(ResponseDone) or (reason.check(PotentialDataLoss) and self._exchange.lease.clean)
        self._end(b"".join(self._pieces) if whole else None)

    def _end(self, body: bytes | None) -> None:
        if not self.body.called:
            self.body.callback(body)


def read(exchange: Exchange, limit: int) -> Deferred[bytes | None]:
    """The body; C{None} if it is longer than the limit or breaks off (then the connection is closed).

    Cancelling it closes the connection.
    """
    collector = _Collector(limit, exchange)
    exchange.response.deliverBody(collector)
    return collector.body
