"""In-memory stand-ins for the seams: to test whatever speaks to a cache, a sender, a meter, a body or an origin."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from zope.interface import implementer

from crcache.asks import Ask
from crcache.errors import BodyCut, CrcacheError
from crcache.facts import Verdict
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry
from crcache.interfaces import IAnswer, IBody, ICache, IMeter, IWatcher
from crcache.outcomes import Outcome
from crcache.sending import ISender

if TYPE_CHECKING:
    from twisted.web.server import Request


@implementer(ICache)
class FakeCache:
    """Answers with what it has been given, in turn; the last is repeated.

    @ivar asks: what it was asked.
    """

    def __init__(self, *results: Outcome | Exception | Deferred[Outcome]) -> None:
        self.asks: list[Ask] = []
        self.results = list(results)

    def handle(self, ask: Ask) -> Deferred[Outcome]:
        """As L{ICache.handle}."""
        self.asks.append(ask)
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, Deferred):
            return result
        return fail(result) if isinstance(result, Exception) else succeed(result)


@implementer(IBody)
class MemoryBody:
    """Bytes in memory that grow from the front.

    @ivar data: what is there.
    """

    def __init__(self, data: bytes = b"", size: int | None = None, verdict: Verdict = Verdict.VERIFIED) -> None:
        """A C{size} of C{None} takes the data's, unless it is still filling: then nobody knows."""
        self.data = data
        self.size = len(data) if size is None and verdict is Verdict.VERIFIED else size
        self.verdict = verdict
        self.problem: CrcacheError | None = None
        self.watchers: list[IWatcher] = []

    def open(self) -> int:
        """As L{IBody.open}: of the bytes that are there now."""
        descriptor = os.memfd_create("crcache-memory-body", os.MFD_CLOEXEC)
        os.pwrite(descriptor, self.data, 0)
        return descriptor

    def readable(self, offset: int) -> int:
        """As L{IBody.readable}."""
        return max(offset, len(self.data))

    def watch(self, watcher: IWatcher, span: tuple[int, int | None] | None = None) -> None:
        """As L{IBody.watch}."""
        self.watchers.append(watcher)

    def unwatch(self, watcher: IWatcher) -> None:
        """As L{IBody.unwatch}."""
        self.watchers = [other for other in self.watchers if other is not watcher]

    def grow(self, data: bytes, size: int | None = None) -> None:
        """More bytes have come; perhaps the size is known now."""
        self.data += data
        self.size = self.size if size is None else size
        self._tell()

    def judge(self, verdict: Verdict) -> None:
        """The bytes have been checked."""
        self.verdict = verdict
        if verdict is Verdict.VERIFIED:
            self.size = len(self.data)
        self._tell()

    def _tell(self) -> None:
        for watcher in list(self.watchers):
            watcher.moved()


@implementer(IAnswer)
class FakeAnswer:
    """An origin's answer whose body is at hand.

    @ivar aborted: whether L{abort} was called before the body was delivered.
    """

    def __init__(
        self,
        status: int = 200,
        headers: Mapping[str, Sequence[str]] | None = None,
        body: bytes = b"",
        length: int | None = None,
        cut: bool = False,
    ) -> None:
        """C{cut}: the body ends too early, behind C{body}."""
        self.status = status
        self.headers = Headers(headers or {})
        self.length = length
        self.aborted = False
        self.delivered = False
        self._body = body
        self._cut = cut

    def deliver(self, consumer: IConsumer) -> Deferred[None]:
        """As L{IAnswer.deliver}, all at once."""
        self.delivered = True
        consumer.registerProducer(_Idle(), True)
        consumer.write(self._body)
        consumer.unregisterProducer()
        return fail(BodyCut("Ask again: the body was cut short.")) if self._cut else succeed(None)

    def abort(self) -> None:
        """As L{IAnswer.abort}."""
        self.aborted = not self.delivered


@implementer(ISender)
class FakeSender:
    """Sends from L{MemoryBody}s and L{FakeAnswer}s through C{request.write}.

    @ivar sends: the (start, stop, held) of each L{send}.
    @ivar relays: the digests of each L{relay}; C{proved} is what the last one calls.
    """

    def __init__(self) -> None:
        self.sends: list[tuple[int, int | None, bool]] = []
        self.relays: list[Digest | None] = []
        self.proved: Any = None

    def send(self, request: Request, body: IBody, start: int, stop: Any, held: bool, rest: Any = None) -> Deferred[int]:
        """As L{ISender.send}; the body is a L{MemoryBody}."""
        assert isinstance(body, MemoryBody)
        self.sends.append((start, stop, held))
        return _Sending(request, body, start, stop, held).done

    def relay(self, request: Request, answer: IAnswer, digest: Any, rest: Any = None, *more: Any) -> Deferred[int]:
        """As L{ISender.relay}, all at once."""
        start, part, self.proved = more
        self.relays.append(digest)
        consumer = _Collector()
        answer.deliver(consumer).addBoth(consumer.ended)
        if consumer.failed:
            cast(ITCPTransport, request.transport).abortConnection()
            return succeed(0)
        data = consumer.data if part is None else consumer.data[part.start - start : part.stop - start]
        request.write(data)
        request.finish()
        return succeed(len(data))

    def sized(self, body: IBody) -> Deferred[int]:
        """As L{ISender.sized}."""
        return _Sizing(body).done


@implementer(IMeter)
class FakeMeter:
    """Remembers what was counted, by method: a list of argument tuples each."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[object, ...]]] = defaultdict(list)

    def answered(self, registry: Registry | None, kind: str, status: int, cache: str, seconds: float | None) -> None:
        """As L{IMeter.answered}."""
        self.calls["answered"].append((registry, kind, status, cache, seconds))

    def sent(self, registry: Registry | None, cache: str, count: int) -> None:
        """As L{IMeter.sent}."""
        self.calls["sent"].append((registry, cache, count))

    def asked(self, registry: Registry, kind: str, status: int | None) -> None:
        """As L{IMeter.asked}."""
        self.calls["asked"].append((registry, kind, status))

    def received(self, registry: Registry, count: int) -> None:
        """As L{IMeter.received}."""
        self.calls["received"].append((registry, count))

    def resumed(self, registry: Registry) -> None:
        """As L{IMeter.resumed}."""
        self.calls["resumed"].append((registry,))

    def filling(self, change: int) -> None:
        """As L{IMeter.filling}."""
        self.calls["filling"].append((change,))

    def following(self, change: int) -> None:
        """As L{IMeter.following}."""
        self.calls["following"].append((change,))

    def rate_limit(self, registry: Registry, remaining: int) -> None:
        """As L{IMeter.rate_limit}."""
        self.calls["rate_limit"].append((registry, remaining))


@implementer(IWatcher)
class _Sending:
    """One L{FakeSender.send} under way: whatever is readable goes out, of held bodies all but the last byte."""

    def __init__(self, request: Request, body: MemoryBody, start: int, stop: int | None, held: bool) -> None:
        self.done: Deferred[int] = Deferred()
        self._request, self._body, self._held = request, body, held
        self._start, self._offset, self._stop = start, start, stop
        request.notifyFinish().addErrback(lambda _: self._end())
        body.watch(self)
        self.moved()

    def moved(self) -> None:
        if self.done.called:
            return
        if self._body.verdict is Verdict.FAILED:
            cast(ITCPTransport, self._request.transport).abortConnection()
            return
        stop = self._body.size if self._stop is None else self._stop
        end = len(self._body.data) if stop is None else min(stop, len(self._body.data))
        if self._held and self._body.verdict is not Verdict.VERIFIED:
            end -= 1
        if end > self._offset:
            self._request.write(self._body.data[self._offset : end])
            self._offset = end
        if self._offset == stop:
            self._end()
            self._request.finish()

    def _end(self) -> None:
        if not self.done.called:
            self._body.unwatch(self)
            self.done.callback(self._offset - self._start)


@implementer(IWatcher)
class _Sizing:
    """One L{FakeSender.sized} that waits."""

    def __init__(self, body: IBody) -> None:
        self.done: Deferred[int] = Deferred()
        self._body = body
        body.watch(self)
        self.moved()

    def moved(self) -> None:
        if self.done.called:
            return
        if self._body.size is not None:
            self._body.unwatch(self)
            self.done.callback(self._body.size)
        elif self._body.verdict is Verdict.FAILED:
            self._body.unwatch(self)
            self.done.errback(BodyCut("Ask again: the body never got a size."))


@implementer(IConsumer)
class _Collector:
    """Takes a body that comes all at once."""

    def __init__(self) -> None:
        self.data, self.failed = b"", False

    def registerProducer(self, producer: object, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.data += data

    def ended(self, result: Failure | None) -> None:
        self.failed = isinstance(result, Failure)


@implementer(IPushProducer)
class _Idle:
    """A producer with nothing left to do."""

    def pauseProducing(self) -> None:
        pass

    resumeProducing = stopProducing = pauseProducing
