"""L{crcache.flow.send}: files to plain sockets, over real ones."""

from __future__ import annotations

import gc
import os
import tempfile
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IStreamClientEndpoint

from crcache.facts import Verdict
from crcache.web.site import Request, Site
from tests.flow.sending import MIB, GrowingBody, SendCase
from tests.store.stores import descriptors
from tests.web.cases import pause

DATA = os.urandom(3 * MIB + 12345)
SMALL = os.urandom(5000)


class WholeTests(SendCase):
    """Committed content."""

    async def test_whole(self) -> None:
        """Every byte comes, in order, behind the head; how many is told, and the watcher is gone."""
        body = self.serve(GrowingBody.complete(DATA))
        client = await self.begin()
        await self.until(client.answers)
        self.assertEqual(client.answers(), [DATA])
        self.assertEqual(await self.result(), len(DATA))
        self.assertEqual(body.watchers, set())

    async def test_ranges(self) -> None:
        """Exactly the range that was asked for comes."""
        for start, stop in ((0, 1), (1, 2), (0, MIB), (MIB - 1, MIB + 1), (77, len(DATA)), (len(DATA) - 1, len(DATA))):
            self.serve(GrowingBody.complete(DATA), start, stop)
            client = await self.begin()
            await self.until(client.answers)
            self.assertEqual(client.answers(), [DATA[start:stop]])
            self.assertEqual(await self.result(), stop - start)

    async def test_empty(self) -> None:
        """Nothing is sent, too, and the connection goes on."""
        self.serve(GrowingBody.complete(b""))
        client = await self.begin()
        await self.until(client.answers)
        client.ask("/body")
        await self.until(lambda: len(client.answers()) == 2)
        self.assertEqual(await self.result(), 0)

    async def test_keep_alive(self) -> None:
        """A connection serves one send after another, and ordinary answers, large ones too, in between."""
        self.serve(GrowingBody.complete(SMALL))

        def ordinary(request: Request) -> None:
            request.setHeader("Content-Length", str(len(DATA)))
            request.write(DATA)
            request.finish()

        self.bodies.handlers[b"/ordinary"] = ordinary
        client = await self.connect()
        expected = []
        for turn in range(40):
            path, data = ("/body", SMALL) if turn % 4 else ("/ordinary", DATA)
            expected.append(data)
            client.ask(path)
            await self.until(lambda: len(client.answers()) == len(expected))
            if turn % 4 == 0:
                self.assertEqual(client.answers(), expected)
                client.data.clear()
                expected.clear()
        self.assertEqual(client.answers(), expected)

    async def test_descriptors(self) -> None:
        """Sends leave no descriptor open, and let none wait for the garbage collector."""
        self.serve(GrowingBody.complete(SMALL))
        client = await self.begin()
        await self.until(client.answers)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        before = descriptors()
        for turn in range(30):
            client.ask("/body")
            await self.until(lambda: len(client.answers()) == turn + 2)  # noqa: B023
        self.assertEqual(descriptors(), before)

    async def test_pipelined(self) -> None:
        """Requests sent all at once are answered one behind the other, none within another, in order."""
        self.serve(GrowingBody.complete(DATA))
        self.serve(GrowingBody.complete(SMALL), path=b"/small")
        client = await self.connect()
        client.ask("/small", "/body", "/small")
        await self.until(lambda: len(client.answers()) == 3)
        self.assertEqual(client.answers(), [SMALL, DATA, SMALL])

    async def test_pipelined_while_waiting(self) -> None:
        """A request that comes while a growing body is sent is answered once that is over."""
        body = self.serve(GrowingBody(DATA, there=MIB))
        self.serve(GrowingBody.complete(SMALL), path=b"/small")
        client = await self.begin()
        await self.settled(client, MIB)
        client.ask("/small")
        await pause(0.03)
        self.assertEqual(client.body, DATA[:MIB])
        body.judge(Verdict.VERIFIED)
        await self.until(lambda: len(client.answers()) == 2)
        self.assertEqual(client.answers(), [DATA, SMALL])

    async def test_behind_a_large_answer(self) -> None:
        """Behind an answer that fills the transport's buffer the file's bytes come in order, and reading goes on."""
        large = os.urandom(6 * MIB)

        def ordinary(request: Request) -> None:
            request.setHeader("Content-Length", str(len(large)))
            request.write(large)
            request.finish()

        self.bodies.handlers[b"/ordinary"] = ordinary
        self.serve(GrowingBody.complete(DATA))
        client = await self.connect()
        client.tcp.pauseProducing()
        client.ask("/ordinary", "/body", "/body")
        await pause(0.05)
        client.tcp.resumeProducing()
        await self.until(lambda: len(client.data) > len(large) + 2 * len(DATA))
        self.assertEqual(client.answers(), [large, DATA, DATA])
        client.ask("/body")
        await self.until(lambda: len(client.answers()) == 4)

    async def test_many_pipelined(self) -> None:
        """A client that pipelines more than the channel likes to read ahead is read again when it has its answers."""
        large = os.urandom(6 * MIB)

        def ordinary(request: Request) -> None:
            request.setHeader("Content-Length", str(len(large)))
            # Not before the channel has seen all of the requests.
            reactor.callLater(0.05, request.write, large)
            reactor.callLater(0.05, request.finish)

        self.bodies.handlers[b"/ordinary"] = ordinary
        self.serve(GrowingBody.complete(b"abc"))
        client = await self.connect()
        client.tcp.pauseProducing()
        client.ask("/ordinary", *["/body"] * 800)
        await pause(0.15)
        client.tcp.resumeProducing()
        await self.until(lambda: client.data.endswith(b"abc"))
        await self.until(lambda: client.data.count(b"HTTP/1.1 200 OK") == 801)
        self.assertEqual(client.answers(), [large, *[b"abc"] * 800])
        client.ask("/body")
        await self.until(lambda: client.data.count(b"HTTP/1.1 200 OK") == 802)

    async def test_large_head(self) -> None:
        """The head is out before the first byte of the file, however long it is and however slow the client."""
        self.serve(GrowingBody.complete(DATA), headers=(("X-Long", "x" * 900_000),))
        client = await self.connect()
        client.tcp.pauseProducing()
        client.ask("/body")
        await pause(0.05)
        client.tcp.resumeProducing()
        await self.until(client.answers)
        self.assertEqual(client.answers(), [DATA])

    async def test_http_1_0(self) -> None:
        """A client of HTTP/1.0 gets the same, and the end of the connection."""
        self.serve(GrowingBody.complete(DATA))
        client = await self.begin(version="HTTP/1.0")
        await self.until(lambda: client.lost)
        self.assertEqual(client.body, DATA)
        assert client.lost is not None
        client.lost.trap(ConnectionDone)

    async def test_connection_close(self) -> None:
        """So does one that asks for it."""
        self.serve(GrowingBody.complete(DATA))
        client = await self.begin(headers="Connection: close\r\n")
        await self.until(lambda: client.lost)
        self.assertEqual(client.body, DATA)

    async def test_from_disk(self) -> None:
        """What is not in memory is read in by a thread first; the reactor does not wait for the disk."""
        with tempfile.TemporaryFile() as file:
            file.write(DATA)
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                os.preadv(file.fileno(), [bytearray(1)], len(DATA) - 1, os.RWF_NOWAIT)
            except BlockingIOError:
                pass
            else:
                self.skipTest("the temporary directory's file system keeps everything in memory")
            run: list[object] = []
            work = self.workers.run

            def noting(function: Any, *args: Any) -> Deferred[Any]:
                run.append(function)
                return work(function, *args)

            self.patch(self.workers, "run", noting)
            self.serve(GrowingBody.complete(DATA, fd=os.dup(file.fileno())))
            for _ in range(2):
                client = await self.begin()
                await self.until(client.answers)
                self.assertEqual(client.answers(), [DATA])
        self.assertGreaterEqual(len(run), 1)
        self.assertLessEqual(len(run), 4, "the second client's bytes are in memory")


class UnixTests(SendCase):
    """The same over a UNIX socket."""

    def listen(self) -> int:
        """Listen on one."""
        self.path = self.mktemp()
        listener = cast(Any, reactor).listenUNIX(self.path, Site(self.bodies, cast(Any, reactor)))
        self.addCleanup(listener.stopListening)
        return 0

    def endpoint(self) -> IStreamClientEndpoint:
        """The socket's path."""
        return UNIXClientEndpoint(reactor, self.path)

    async def test_whole(self) -> None:
        """Every byte comes, with sendfile, and again on the same connection."""
        self.serve(GrowingBody.complete(DATA))
        calls: list[int] = []
        sendfile = os.sendfile

        def counting(*args: int) -> int:
            calls.append(1)
            return sendfile(*args)

        self.patch(os, "sendfile", counting)
        client = await self.begin()
        await self.until(client.answers)
        client.ask("/body")
        await self.until(lambda: len(client.answers()) == 2)
        self.assertEqual(client.answers(), [DATA, DATA])
        self.assertGreater(len(calls), 2)
