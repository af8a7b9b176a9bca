"""L{crcache.flow.push}: what cannot be sent with sendfile, over real sockets."""

from __future__ import annotations

import errno
import gc
import os
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate, optionsForClientTLS

from crcache.errors import BodyCut, OriginLied
from crcache.facts import Verdict
from crcache.flow.ending import end_short
from crcache.flow.push import CHUNK
from crcache.flow.window import HELD, Window
from crcache.testing.certificates import Authority
from crcache.web.channel import Channel
from crcache.web.site import Request, Site
from tests.flow.sending import MIB, GrowingBody, SendCase
from tests.store.stores import descriptors
from tests.web.cases import pause

DATA = os.urandom(3 * MIB + 12345)
SMALL = os.urandom(5000)
AUTHORITY = Authority()


class TLSTests(SendCase):
    """Over TLS the file's bytes have to be read and encrypted."""

    def listen(self) -> int:
        """Listen with a certificate."""
        context: Any = AUTHORITY.context()
        site: Any = Site(self.bodies, cast(Any, reactor))
        listener = cast(Any, reactor).listenSSL(0, site, context, interface="127.0.0.1")
        self.addCleanup(listener.stopListening)
        return int(listener.getHost().port)

    def endpoint(self) -> IStreamClientEndpoint:
        """Trust that certificate's authority."""
        trusting = optionsForClientTLS("localhost", Certificate.loadPEM(AUTHORITY.certificate))
        return wrapClientTLS(trusting, TCP4ClientEndpoint(reactor, "127.0.0.1", self.port))

    async def test_whole(self) -> None:
        """Every byte comes, whole answers and ranges, one after another on a connection; how many is told."""
        body = self.serve(GrowingBody.complete(DATA))
        self.serve(GrowingBody.complete(DATA), 77, MIB + 5, path=b"/range")
        client = await self.connect()
        for count, path in enumerate(["/body", "/range"] * 3, 1):
            client.ask(path)
            await self.until(lambda: len(client.answers()) == count)  # noqa: B023
        self.assertEqual(client.answers(), [DATA, DATA[77 : MIB + 5]] * 3)
        self.assertEqual([await result for result in self.bodies.results], [len(DATA), MIB + 5 - 77] * 3)
        self.assertEqual(body.watchers, set())

    async def test_pipelined(self) -> None:
        """Requests sent all at once are answered one behind the other."""
        self.serve(GrowingBody.complete(DATA))
        self.serve(GrowingBody.complete(SMALL), path=b"/small")
        client = await self.connect()
        client.ask("/small", "/body", "/small")
        await self.until(lambda: len(client.answers()) == 3)
        self.assertEqual(client.answers(), [SMALL, DATA, SMALL])

    async def test_grows(self) -> None:
        """Bytes go out as they become readable, the last ones once the body is verified."""
        body = self.serve(GrowingBody(DATA))
        client = await self.begin()
        for there in (1, MIB, len(DATA)):
            body.grow(there)
            sent = min(there, len(DATA) - HELD)
            self.assertEqual(await self.settled(client, sent), DATA[:sent])
        body.judge(Verdict.VERIFIED)
        await self.until(client.answers)
        self.assertEqual(client.answers(), [DATA])

    async def test_fails(self) -> None:
        """If it may be wrong the connection is aborted, and the answer is never complete."""
        body = self.serve(GrowingBody(DATA, there=len(DATA)))
        client = await self.begin()
        await self.settled(client, len(DATA) - HELD)
        body.judge(Verdict.FAILED)
        await self.until(lambda: client.lost)
        assert client.lost is not None
        self.assertIsNone(client.lost.check(ConnectionDone))
        self.assertEqual(client.answers(), [])

    async def test_slow_reader(self) -> None:
        """A client that does not read has a chunk or two in memory, not more; when it reads again all of it comes."""
        size = 24 * MIB
        data = os.urandom(MIB) * 24
        self.serve(GrowingBody.complete(data))
        client = await self.begin()
        await self.until(lambda: client.data)
        client.tcp.pauseProducing()
        read: list[int] = []
        work = self.workers.run

        def noting(function: Any, *args: Any) -> Any:
            read.append(1)
            return work(function, *args)

        self.patch(self.workers, "run", noting)
        before = -1
        while before != len(read):
            # The sockets' own buffers have to fill first.
            before = len(read)
            await pause(0.1)
        self.assertFalse(self.bodies.results[0].called)
        client.tcp.resumeProducing()
        await self.until(client.answers)
        self.assertEqual(len(client.answers()[0]), size)
        self.assertEqual(client.answers(), [data])

    async def test_client_leaves(self) -> None:
        """A client that goes away ends its send: descriptor and watcher are gone."""
        body = self.serve(GrowingBody(DATA, there=MIB))
        gc.collect()
        before = descriptors()
        client = await self.begin()
        await self.settled(client, MIB)
        client.abort()
        self.assertEqual(await self.result(), MIB)
        self.assertEqual(body.watchers, set())
        await self.until(lambda: descriptors() == before)

    async def test_leaves_while_reading(self) -> None:
        """Also while a thread reads for it: the descriptor is let go when the thread is done with it."""
        body = self.serve(GrowingBody.complete(DATA))
        gc.collect()
        before = descriptors()
        for _ in range(10):
            client = await self.begin()
            await self.until(lambda: self.bodies.results)
            client.abort()
            await self.bodies.results.pop()
        self.assertEqual(body.watchers, set())
        await self.until(lambda: descriptors() == before)

    async def test_truncated(self) -> None:
        """With a file that is cut short under it the answer ends short."""
        logged = self.logged()
        body = self.serve(GrowingBody.complete(DATA), headers=(("X-Request-Id", "mine-1"),))
        os.ftruncate(body.fd, MIB)
        client = await self.begin()
        await self.until(lambda: client.lost)
        await self.told(logged, "mine-1", f"ends at byte {MIB}")
        assert client.lost is not None
        self.assertEqual(client.body, DATA[:MIB])

    async def test_unreadable(self) -> None:
        """So does one that cannot be read, and the line about it says whose request it was."""

        def broken(window: Window, end: int) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

        self.patch(Window, "read", broken)
        logged = self.logged()
        self.serve(GrowingBody.complete(DATA), headers=(("X-Request-Id", "mine-2"),))
        client = await self.begin()
        await self.until(lambda: client.lost)
        await self.told(logged, "mine-2", "Input/output error")


class UnsizedTests(SendCase):
    """A body whose size nobody knows."""

    def unsized(self, there: int = 0) -> GrowingBody:
        """One that is served to its end, wherever that is."""
        return self.serve(GrowingBody(DATA, size=None, there=there), 0, None)

    async def test_chunked(self) -> None:
        """It goes out in chunks, as it comes, with the last bytes and the end once it is verified."""
        body = self.unsized(MIB)
        client = await self.begin()
        await self.until(lambda: b"\r\n\r\n" in client.data)
        self.assertIn(b"transfer-encoding: chunked", client.data.lower())
        await self.settled(client, MIB - HELD)
        self.assertLess(len(client.body), MIB)
        body.grow(len(DATA))
        await self.settled(client, len(DATA) - HELD)
        self.assertLess(len(client.body), len(DATA))
        body.judge(Verdict.VERIFIED)
        await self.until(lambda: client.body.endswith(b"\r\n0\r\n\r\n"))
        self.assertEqual(client.unchunked(), DATA)
        self.assertEqual(await self.result(), len(DATA))

    async def test_size_learnt(self) -> None:
        """A size that becomes known on the way lets more go out, and ends nothing before the verdict."""
        body = self.unsized(there=len(DATA))
        body.size = len(DATA)
        client = await self.begin()
        await self.settled(client, len(DATA) - HELD)
        self.assertFalse(client.body.endswith(b"0\r\n\r\n"))
        body.judge(Verdict.VERIFIED)
        await self.until(lambda: client.body.endswith(b"\r\n0\r\n\r\n"))
        self.assertEqual(client.unchunked(), DATA)

    async def test_fails(self) -> None:
        """On a failure there is no last chunk; if what is there is right, the connection ends in an orderly way."""
        for problem in (BodyCut("the origin broke off"), OriginLied("other bytes")):
            body = self.unsized(MIB)
            client = await self.begin()
            await self.settled(client, MIB - HELD)
            body.fail(problem)
            await self.until(lambda: client.lost)  # noqa: B023
            assert client.lost is not None
            self.assertIs(client.lost.check(ConnectionDone) is None, isinstance(problem, OriginLied))
            self.assertFalse(client.body.endswith(b"0\r\n\r\n"))

    async def test_short_and_stuck(self) -> None:
        """A client that does not take what is left of an answer that ends short is not kept for ever."""
        self.patch(Channel, "abortTimeout", 0.05)
        connections: list[Any] = []
        body = GrowingBody(DATA * 8, size=None, there=len(DATA) * 8)
        self.addCleanup(body.close)

        def handle(request: Request) -> Deferred[int]:
            cast(Any, request.channel).timeOut = 0.2
            connections.append(request.channel)
            return self.sender.send(request, body, 0, None, True)

        self.bodies.handlers[b"/body"] = handle
        client = await self.begin()
        await self.until(lambda: client.data)
        client.tcp.pauseProducing()
        await pause(0.2)
        body.fail(BodyCut("the origin broke off"))
        end_short(connections[0].requests[0])
        await self.until(lambda: not connections[0].site.connections)

    async def test_http_1_0(self) -> None:
        """A client of HTTP/1.0 has the end of the connection for the end of the body: in order only when verified."""
        for verdict in (Verdict.VERIFIED, Verdict.FAILED):
            body = self.unsized(len(DATA))
            client = await self.begin(version="HTTP/1.0")
            await self.settled(client, len(DATA) - HELD)
            self.assertNotIn(b"chunked", client.data[:500].lower())
            self.assertIsNone(client.lost)
            body.problem = BodyCut("the origin broke off")
            body.judge(verdict)
            await self.until(lambda: client.lost)  # noqa: B023
            assert client.lost is not None
            if verdict is Verdict.VERIFIED:
                client.lost.trap(ConnectionDone)
                self.assertEqual(client.body, DATA)
            else:
                self.assertIsNone(client.lost.check(ConnectionDone))
                self.assertLessEqual(len(client.body), len(DATA) - HELD)

    async def test_empty(self) -> None:
        """Nothing at all is one last chunk, once that is verified."""
        body = self.serve(GrowingBody(b"", size=None), 0, None)
        client = await self.begin()
        await self.until(lambda: b"\r\n\r\n" in client.data)
        self.assertEqual(client.body, b"")
        body.judge(Verdict.VERIFIED)
        await self.until(lambda: client.body)
        self.assertEqual(client.unchunked(), b"")

    async def test_keep_alive(self) -> None:
        """Behind it the connection goes on."""
        self.unsized().judge(Verdict.VERIFIED)
        self.serve(GrowingBody.complete(SMALL), path=b"/small")
        client = await self.begin()
        await self.until(lambda: client.body.endswith(b"\r\n0\r\n\r\n"))
        client.data.clear()
        client.ask("/small")
        await self.until(client.answers)
        self.assertEqual(client.answers(), [SMALL])

    async def test_chunks(self) -> None:
        """No more than a chunk is read from the file at a time."""
        lengths: list[int] = []
        work = self.workers.run

        def noting(function: Any, *args: Any) -> Any:
            def checked(data: bytes) -> bytes:
                lengths.append(len(data))
                return data

            return work(function, *args).addCallback(checked)

        self.patch(self.workers, "run", noting)
        self.unsized().judge(Verdict.VERIFIED)
        client = await self.begin()
        await self.until(lambda: client.body.endswith(b"\r\n0\r\n\r\n"))
        self.assertEqual(sum(lengths), len(DATA))
        self.assertLessEqual(max(lengths), CHUNK)


class GoneTests(SendCase):
    """A client that has gone before there is anything to send."""

    async def test_gone(self) -> None:
        """Nothing is sent, nothing is left open, and an origin's answer is given up."""
        requests: list[Request] = []
        self.bodies.handlers[b"/body"] = requests.append
        client = await self.begin()
        await self.until(lambda: requests)
        client.abort()
        await self.until(lambda: requests[0].channel is None)
        body = GrowingBody.complete(DATA)
        self.addCleanup(body.close)
        before = descriptors()
        self.assertEqual(await self.sender.send(requests[0], body, 0, len(DATA), True), 0)
        self.assertEqual((descriptors(), body.watchers), (before, set()))
