"""A real listener on a free port before a fake cache, and a client that sees every byte."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO
from crcache.interfaces import ICache
from crcache.outcomes import Blob, CacheStatus, Manifest, Outcome
from crcache.testing.fakes import FakeCache, FakeMeter, FakeSender, MemoryBody
from crcache.web.site import Site
from crcache.web.v2 import V2
from tests.web.cases import AsyncTestCase, pause, quiet, reactor

DATA = bytes(range(256)) * 4
DIGEST = Digest.of(DATA)
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
BLOB_PATH = f"/v2/library/alpine/blobs/{DIGEST}?ns=docker.io"
MANIFEST_PATH = "/v2/library/alpine/manifests/3.20?ns=docker.io"


def blob(body: MemoryBody | None = None, **more: object) -> Blob:
    """An outcome: L{DATA} as a blob."""
    body = MemoryBody(DATA) if body is None else body
    return Blob(DIGEST, body.size, body, **{"cache": CacheStatus.HIT, **more})  # type: ignore[arg-type]


def manifest(**more: object) -> Manifest:
    """An outcome: L{DATA} as a manifest."""
    return Manifest(DIGEST, MEDIA_TYPE, len(DATA), DATA, **{"cache": CacheStatus.HIT, **more})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Reply:
    """An answer as it came."""

    status: int
    lines: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """The values of a header's lines."""
        return [value for key, value in self.lines if key.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        """The value of a header that must not come twice; C{None} if it is not there."""
        values = self.all(name)
        assert len(values) < 2, (name, values)
        return values[0] if values else None


def parse_reply(data: bytes) -> Reply:
    """One answer, whose connection has been closed behind it."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    version, status, _ = first.split(" ", 2)
    assert version == "HTTP/1.1" or version == "HTTP/1.0", first
    lines = tuple((name, value) for name, _, value in (line.partition(": ") for line in rest))
    if ("Transfer-Encoding", "chunked") in lines:
        body = _unchunked(body)
    return Reply(int(status), lines, body)


def _unchunked(data: bytes) -> bytes:
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        if int(size, 16) == 0:
            assert data == b"\r\n", data
            return body
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]


class Wire(Protocol):
    """A client's end of a connection: all that came, and waiting for more."""

    def __init__(self) -> None:
        self.received = b""
        self.closed: Deferred[bytes] = Deferred()
        self.lost: Failure | None = None
        self._awaited: list[tuple[bytes, Deferred[bytes]]] = []

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        self.received += data
        waiting, self._awaited = self._awaited, []
        for mark, deferred in waiting:
            if mark in self.received:
                deferred.callback(self.received)
            else:
                self._awaited.append((mark, deferred))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The server has closed, or reset."""
        self.lost = reason
        self.closed.callback(self.received)

    def until(self, mark: bytes) -> Deferred[bytes]:
        """All that has come, once C{mark} is in it."""
        deferred: Deferred[bytes] = Deferred()
        self._awaited.append((mark, deferred))
        self.dataReceived(b"")
        return deferred.addTimeout(5, reactor)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        assert self.transport is not None
        self.transport.write(data)

    def abort(self) -> None:
        """Go away at once, if still there."""
        if self.lost is None:
            self.transport.abortConnection()  # type: ignore[union-attr]


class WebCase(AsyncTestCase):
    """A test with a listener."""

    def setUp(self) -> None:
        self.cache = FakeCache(blob())
        self.sender = FakeSender()
        self.meter = FakeMeter()
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.addCleanup(lambda: Deferred.fromCoroutine(quiet()))
        self._ports: list[int] = []

    def listen(self, cache: ICache | None = None) -> int:
        """Listen with the fakes; one listener a test is enough.

        @return: the port.
        """
        if not self._ports:
            resource = V2(cache or self.cache, self.sender, self.meter, reactor, DOCKER_IO)
            self.serve(Site(resource, reactor))
        return self._ports[0]

    def serve(self, site: Site) -> None:
        """Listen with this site instead."""
        listener = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(listener.stopListening)
        self._ports.append(listener.getHost().port)

    def answer_with(self, *results: Outcome | Exception | Deferred[Outcome]) -> None:
        """What the cache says from now on."""
        self.cache.results = list(results)

    async def connect(self) -> Wire:
        """A new connection."""
        wire = Wire()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.listen()), wire)
        self.addCleanup(wire.abort)
        return wire

    async def raw(self, data: bytes) -> bytes:
        """All that the server says to this before it closes."""
        wire = await self.connect()
        wire.write(data)
        return await wire.closed.addTimeout(5, reactor)

    async def ask(
        self, target: str, *headers: tuple[str, str | bytes], method: str = "GET", version: str = "HTTP/1.1"
    ) -> Reply:
        """One request on a connection of its own."""
        return parse_reply(await self.raw(request(target, *headers, method=method, version=version)))

    def request_lines(self) -> list[str]:
        """The request log's lines so far."""
        return [formatEvent(event) for event in self.request_events()]

    def request_events(self) -> list[LogEvent]:
        """The request log's events so far."""
        return [event for event in self.events if event.get("log_namespace") == "crcache.web.requestlog.RequestLog"]

    async def logged(self) -> LogEvent:
        """The request log's first event, once it is there."""
        for _ in range(500):
            if self.request_events():
                return self.request_events()[0]
            await pause(0.01)
        self.fail("nothing was logged")


def request(
    target: str, *headers: tuple[str, str | bytes], method: str = "GET", version: str = "HTTP/1.1", close: bool = True
) -> bytes:
    """A request's bytes."""
    lines: Iterable[tuple[str, str | bytes]] = [("Host", "cache"), *headers]
    if close:
        lines = [*lines, ("Connection", "close")]
    head = f"{method} {target} {version}\r\n".encode("latin-1")
    for name, value in lines:
        head += name.encode() + b": " + (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
    return head + b"\r\n"
