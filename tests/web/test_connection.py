"""Bodies that nobody asked for, how connections end, and the site itself."""

from __future__ import annotations

import json
import os
import tempfile

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPullProducer
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.task import Clock
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from zope.interface import implementer

from crcache.grammar.reference import DOCKER_IO
from crcache.testing.certificates import Authority
from crcache.web import channel
from crcache.web.site import Site
from crcache.web.v2 import V2
from tests.web.cases import reactor
from tests.web.harness import BLOB_PATH, DATA, Reply, WebCase, Wire, blob, parse_reply, request


class BodyTests(WebCase):
    """Requests with bodies."""

    def _refused(self, received: bytes) -> None:
        self.assertEqual(received.count(b"HTTP/1.1 4"), 1, received[:200])
        reply = parse_reply(received)
        self.assertEqual((reply.status, reply.one("Connection")), (405, "close"))
        self.assertEqual(json.loads(reply.body)["errors"][0]["code"], "UNSUPPORTED")

    async def test_large(self) -> None:
        """A huge body is refused before it has come; the client can read why, for its connection is not reset."""
        wire = await self.connect()
        wire.write(
            b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n" + b"x" * 8_000_000
        )
        self._refused(await wire.closed)
        assert wire.lost is not None
        self.assertIsNotNone(wire.lost.check(ConnectionDone), wire.lost)

    async def test_kept_nowhere(self) -> None:
        """What comes of a body is kept neither in a file nor in memory, however long its request takes."""
        waiting: Deferred[object] = Deferred()
        self.answer_with(waiting)  # type: ignore[arg-type]
        wire = await self.connect()
        before, files = _memory(), _temporary_files()
        wire.write(request(BLOB_PATH, ("Content-Length", "10000000000"), close=False))
        await _Pieces(wire, 100).done
        self.assertEqual(_temporary_files(), files)
        self.assertLess(_memory() - before, 50_000_000)
        waiting.callback(blob())
        self.assertTrue((await wire.closed).endswith(DATA))

    async def test_announced_only(self) -> None:
        """The refusal does not wait for the body."""
        self._refused(await self.raw(b"PUT /v2/a/manifests/b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"))

    async def test_chunked(self) -> None:
        """A body of unknown length is refused likewise."""
        data = b"POST /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        self._refused(await self.raw(data))

    async def test_form(self) -> None:
        """A form is not looked into: its ns is no ns."""
        form = b"ns=docker.io"
        head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        head += b"Content-Length: %d\r\n\r\n"
        self._refused(await self.raw(head % (BLOB_PATH.encode(), len(form)) + form))

    async def test_expect(self) -> None:
        """Nobody is invited to send a body."""
        head = b"PUT /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        self._refused(await self.raw(head))

    async def test_empty_body(self) -> None:
        """A request without a body keeps its connection, whatever its method."""
        wire = await self.connect()
        wire.write(b"POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        self.assertNotIn(b"close", await wire.until(b"}]}"))
        wire.write(request(BLOB_PATH))
        self.assertTrue((await wire.closed).endswith(DATA))

    async def test_get(self) -> None:
        """A GET's body means nothing: it is not taken for another request, and the connection ends with the answer."""
        inner = request("/v2/inner/manifests/a?ns=docker.io")
        data = request(BLOB_PATH, ("Content-Length", str(len(inner))), close=False) + inner
        reply = parse_reply(await self.raw(data))
        self.assertEqual((reply.status, reply.body, reply.one("Connection")), (200, DATA, "close"))
        self.assertEqual(len(self.cache.asks), 1)

    async def test_lingering_ends(self) -> None:
        """A refused client that goes on sending is cut off."""
        self.patch(channel, "LINGER", 0.2)
        wire = await self.connect()
        wire.write(b"POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n")
        # A half-closed connection would be closed by this protocol: it is not told.
        wire.readConnectionLost = lambda: None  # type: ignore[attr-defined]
        self._refused(await wire.closed.addTimeout(3, reactor))


@implementer(IPullProducer)
class _Pieces:
    """Sends pieces of 1 MB, each when the one before has left."""

    def __init__(self, wire: Wire, count: int) -> None:
        self.done: Deferred[None] = Deferred()
        self._wire = wire
        self._left = count
        self._piece = b"x" * 1_000_000
        wire.transport.registerProducer(self, False)  # type: ignore[union-attr]

    def resumeProducing(self) -> None:
        """The next piece, if there is one."""
        if self._left:
            self._left -= 1
            self._wire.write(self._piece)
        else:
            self.stopProducing()

    def stopProducing(self) -> None:
        """That was all."""
        self._wire.transport.unregisterProducer()  # type: ignore[union-attr]
        self.done.callback(None)


def _temporary_files() -> list[str]:
    """The files in the temporary directory that this process has open, deleted ones too."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
        if target.startswith(os.path.realpath(tempfile.gettempdir())) and "deleted" in target:
            found.append(target)
    return found


def _memory() -> int:
    """Bytes of memory that this process has now."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Raises(Resource):
    """A resource with a defect."""

    isLeaf = True

    def render(self, request: IRequest) -> bytes:
        raise ZeroDivisionError("secret sauce")


class SiteTests(WebCase):
    """The site itself."""

    def test_protocols(self) -> None:
        """Only HTTP/1.1 is negotiated: bodies go straight to the socket."""
        self.assertEqual(Site(Resource(), Clock()).acceptableProtocols(), [b"http/1.1"])

    async def test_defect(self) -> None:
        """A resource that raises is a 500 in JSON that tells nothing."""
        self.serve(Site(Raises(), reactor))
        reply = await self.ask("/v2/")
        self.assertEqual(reply.status, 500)
        self.assertEqual(json.loads(reply.body)["errors"][0]["code"], "UNKNOWN")
        self.assertNotIn(b"secret", reply.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_tls(self) -> None:
        """The same over TLS: answers, refusals, and keep-alive between them."""
        resource = V2(self.cache, self.sender, self.meter, reactor, DOCKER_IO)
        authority = Authority()
        trusting = optionsForClientTLS("localhost", Certificate.loadPEM(authority.certificate))
        listener = reactor.listenSSL(0, Site(resource, reactor), authority.context(), interface="127.0.0.1")
        self.addCleanup(listener.stopListening)

        async def raw(data: bytes) -> Reply:
            wire = Wire()
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", listener.getHost().port)
            await connectProtocol(wrapClientTLS(trusting, endpoint), wire)
            self.addCleanup(wire.abort)
            wire.write(data)
            return parse_reply(await wire.closed.addTimeout(5, reactor))

        got = await raw(request(BLOB_PATH))
        self.assertEqual((got.status, got.body), (200, DATA))
        refused = await raw(b"POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n" + b"x" * 1_000_000)
        self.assertEqual(refused.status, 405)
        self.assertEqual((await raw(b"nonsense\r\n\r\n")).status, 400)
