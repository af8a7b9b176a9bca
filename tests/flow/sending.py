"""Bodies that grow when the test says so, behind a real listener."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IReactorFromThreads, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from crcache.errors import CrcacheError
from crcache.facts import Verdict
from crcache.flow.carry import Means
from crcache.flow.sender import Sender
from crcache.interfaces import IBody, IWatcher
from crcache.web.site import Request, Site
from crcache.workers import Workers
from tests.web.cases import AsyncTestCase, pause, quiet

MIB = 1 << 20


@implementer(IBody)
class GrowingBody:
    """A file whose bytes become readable when the test says so.

    @ivar watchers: who is told.
    """

    def __init__(self, data: bytes, *, size: int | None = -1, there: int = 0, fd: int | None = None) -> None:
        """
        @param size: what is known of it; -1 is the data's.
        @param there: how many bytes can be read already.
        """
        self.fd = os.memfd_create("body", os.MFD_CLOEXEC) if fd is None else fd
        if fd is None:
            os.pwrite(self.fd, data, 0)
        self.data = data
        self.size = len(data) if size == -1 else size
        self.verdict = Verdict.FILLING
        self.problem: CrcacheError | None = None
        self.there = there
        self.watchers: set[IWatcher] = set()

    @classmethod
    def complete(cls, data: bytes, fd: int | None = None) -> GrowingBody:
        """Committed content."""
        body = cls(data, there=len(data), fd=fd)
        body.verdict = Verdict.VERIFIED
        return body

    def open(self) -> int:
        """As L{IBody.open}."""
        return os.dup(self.fd)

    def readable(self, offset: int) -> int:
        """As L{IBody.readable}."""
        return max(offset, self.there)

    def watch(self, watcher: IWatcher, span: tuple[int, int | None] | None = None) -> None:
        """As L{IBody.watch}."""
        self.watchers.add(watcher)

    def unwatch(self, watcher: IWatcher) -> None:
        """As L{IBody.unwatch}."""
        self.watchers.discard(watcher)

    def grow(self, there: int) -> None:
        """So much is there now."""
        self.there = there
        self.tell()

    def fail(self, problem: CrcacheError) -> None:
        """It will not be had whole."""
        self.problem = problem
        self.judge(Verdict.FAILED)

    def judge(self, verdict: Verdict) -> None:
        """It has been checked."""
        self.verdict = verdict
        if verdict is Verdict.VERIFIED:
            self.size, self.there = len(self.data), len(self.data)
        self.tell()

    def tell(self) -> None:
        """Something has changed."""
        for watcher in tuple(self.watchers):
            watcher.moved()

    def close(self) -> None:
        """Let the file go."""
        os.close(self.fd)


class Client(Protocol):
    """A client that keeps all that comes.

    @ivar data: heads and bodies, one answer after another.
    @ivar lost: why the connection ended; C{None} while it has not.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end."""
        self.lost = reason

    def ask(self, *paths: str, version: str = "HTTP/1.1", headers: str = "") -> None:
        """Send requests, all at once."""
        self.write("".join(f"GET {path} {version}\r\nHost: cache\r\n{headers}\r\n" for path in paths).encode())

    def write(self, data: bytes) -> None:
        """Send bytes."""
        assert self.transport is not None
        self.transport.write(data)

    @property
    def tcp(self) -> Any:
        """The transport."""
        return self.transport

    def abort(self) -> None:
        """Go away at once, if still there."""
        if self.lost is None:
            self.tcp.abortConnection()

    @property
    def body(self) -> bytes:
        """What has come behind the first head."""
        return bytes(self.data.partition(b"\r\n\r\n")[2])

    def answers(self) -> list[bytes]:
        """The bodies of the complete answers so far, which must have lengths."""
        found, rest = [], bytes(self.data)
        while b"\r\n\r\n" in rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head[:200]
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            if len(rest) < length:
                break
            found.append(rest[:length])
            rest = rest[length:]
        return found

    def unchunked(self) -> bytes:
        """The first body, sent in chunks, to its last."""
        body, rest = bytearray(), self.body
        while True:
            size, _, rest = rest.partition(b"\r\n")
            if int(size, 16) == 0:
                assert rest == b"\r\n", rest
                return bytes(body)
            body += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]


class Bodies(Resource):
    """Answers each path as it was told to."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.handlers: dict[bytes, Callable[[Request], Deferred[int] | None]] = {}
        self.results: list[Deferred[int]] = []

    def render(self, request: IRequest) -> int:
        """Hand the request on."""
        result = self.handlers[cast(Request, request).path](cast(Request, request))
        if result is not None:
            self.results.append(result)
        return NOT_DONE_YET


class SendCase(AsyncTestCase):
    """A listener whose answers are sent by a real sender, and clients that see every byte.

    @ivar port: where it listens.
    """

    def setUp(self) -> None:
        """Listen."""
        self.workers = Workers(cast(IReactorFromThreads, reactor), 4, "test")
        self.workers.start()
        self.addCleanup(self.workers.stop)
        clock = cast(Any, reactor)
        self.sender = Sender(Means(self.workers, self.workers, clock, lambda failures: 0.01 if failures < 4 else None))
        self.bodies = Bodies()
        self.addCleanup(lambda: Deferred.fromCoroutine(quiet()))
        self.port = self.listen()

    def listen(self) -> int:
        """Listen for plain HTTP."""
        listener = cast(Any, reactor).listenTCP(0, Site(self.bodies, cast(Any, reactor)), interface="127.0.0.1")
        self.addCleanup(listener.stopListening)
        return int(listener.getHost().port)

    async def connect(self) -> Client:
        """A new connection."""
        client = Client()
        await connectProtocol(self.endpoint(), client)
        self.addCleanup(client.abort)
        return client

    def endpoint(self) -> IStreamClientEndpoint:
        """Where clients connect to."""
        return TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)

    def serve(
        self,
        body: GrowingBody,
        start: int = 0,
        stop: int | None = -1,
        held: bool = True,
        *,
        path: bytes = b"/body",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> GrowingBody:
        """Answer this path with those bytes of a body; C{stop} of -1 is its end."""
        end = len(body.data) if stop == -1 else stop

        def handle(request: Request) -> Deferred[int]:
            for name, value in headers:
                request.setHeader(name, value)
            if end is not None:
                request.setHeader("Content-Length", str(end - start))
            return self.sender.send(request, body, start, end, held)

        self.bodies.handlers[path] = handle
        self.addCleanup(body.close)
        return body

    async def begin(self, path: str = "/body", **more: str) -> Client:
        """Ask, on a new connection."""
        client = await self.connect()
        client.ask(path, **more)
        return client

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for it, some seconds at most."""
        for _ in range(800):
            if condition():
                return
            await pause(0.005)
        self.fail("it never came to that")

    async def settled(self, client: Client, count: int) -> bytes:
        """The body so far, once so many bytes of it have come, and those that still come in a little while after."""
        await self.until(lambda: len(client.body) >= count or client.lost)
        await pause(0.03)
        return client.body

    def logged(self) -> list[LogEvent]:
        """What is logged from now on of C{info} and above, without Twisted's own."""
        found: list[LogEvent] = []

        def observe(event: LogEvent) -> None:
            if str(event["log_namespace"]).startswith("crcache.") and event["log_level"] >= LogLevel.info:
                found.append(event)

        observer = cast(ILogObserver, observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return found

    async def told(self, logged: list[LogEvent], request_id: str, words: str) -> None:
        """Wait for one line with these words in it, about this request, as a field and in the sentence."""
        await self.until(lambda: logged)
        (event, *more) = logged
        self.assertEqual(more, [])
        self.assertEqual(event["request_id"], request_id)
        self.assertIn(f"(request {request_id})", formatEvent(event))
        self.assertIn(words, formatEvent(event))

    async def result(self, index: int = -1) -> int:
        """What that answer's sender said."""
        await self.until(lambda: self.bodies.results)
        return await self.bodies.results[index].addTimeout(5, reactor)
