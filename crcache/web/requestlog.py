"""One line in the log for each request, and its counts."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.logger import Logger, LogLevel

from crcache import events
from crcache.grammar.reference import Registry, Repository
from crcache.interfaces import IMeter

#: What is counted and logged when a client went away before it got any answer.
CLIENT_GONE = 499

#: More of a reference than this says nothing.
_LONGEST = 200


@dataclass
class Exchange:
    """What is known so far of a request and its answer. Times are the reactor's seconds.

    @ivar client: the address it came from.
    @ivar peer: what that is counted under.
    @ivar reference: a tag or digest; of a path that is none of ours, the path without its query.
    @ivar digest: of the content that was asked for, once it is known.
    @ivar cache: as in L{IMeter.answered}.
    @ivar status: of the answer; L{CLIENT_GONE} if there was nobody to give one to.
    @ivar first_byte: when the answer began, if it did.
    @ivar sent: bytes of body.
    @ivar complete: whether the whole answer was handed over.
    @ivar gone: whether the client has gone away before that.
    @ivar problem: why it got an error.
    """

    method: str
    client: str
    request_id: str
    began: float
    peer: str = ""
    kind: str = "other"
    registry: Registry | None = None
    repository: Repository | None = None
    reference: str | None = None
    digest: str | None = None
    cache: str = "none"
    status: int = CLIENT_GONE
    first_byte: float | None = None
    sent: int = 0
    complete: bool = False
    gone: bool = False
    problem: str | None = None


class RequestLog:
    """Writes the lines and counts."""

    log = Logger()

    def __init__(self, meter: IMeter) -> None:
        self._meter = meter

    def finished(self, exchange: Exchange, now: float) -> None:
        """A request has ended, one way or the other."""
        waited = None if exchange.first_byte is None else exchange.first_byte - exchange.began
        self._meter.answered(exchange.registry, exchange.kind, exchange.status, exchange.cache, waited)
        if exchange.sent:
            self._meter.sent(exchange.registry, exchange.cache, exchange.sent)
        # That neighbours ask each other for what neither has is nobody's failure.
        failed = exchange.status >= 500 and exchange.status != 508
        self.log.emit(
            LogLevel.warn if failed else LogLevel.info,
            "{client} {method} {kind} {registry} {repository} {reference}: {status}{aborted}, "
            "{bytes} bytes in {seconds:.3f} s, cache {cache}, request {request_id}"
            + (": {problem}" if failed and exchange.problem else ""),
            event=events.REQUEST,
            problem=exchange.problem if failed else None,
            digest=printable(exchange.digest or (exchange.reference if _is_digest(exchange) else None)),
            client=printable(exchange.client),
            method=printable(exchange.method),
            kind=exchange.kind,
            registry=printable(exchange.registry),
            repository=printable(exchange.repository),
            reference=printable(exchange.reference),
            status=exchange.status,
            aborted="" if exchange.complete else " aborted",
            bytes=exchange.sent,
            seconds=now - exchange.began,
            cache=exchange.cache,
            request_id=printable(exchange.request_id),
        )


def _is_digest(exchange: Exchange) -> bool:
    return exchange.kind != "other" and ":" in (exchange.reference or "")


def printable(value: object) -> str:
    """A value for a log line: no control characters, no blanks, not too long; C{-} for nothing."""
    if value is None:
        return "-"
    text = str(value)[:_LONGEST]
    if not text.isprintable() or " " in text:
        text = "".join(character if character.isprintable() and character != " " else "?" for character in text)
    return text or "-"
