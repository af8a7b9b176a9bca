"""L{crcache.flow.carry}: answers that go on from the origin in mid-body, over real sockets."""

from __future__ import annotations

import errno
import gc
import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone

from crcache import events
from crcache.errors import BodyCut, CrcacheError, GivenUp, OriginFailed, StoreError
from crcache.facts import Verdict
from crcache.flow import sender
from crcache.flow.window import HELD, Window
from crcache.grammar.digest import Digest
from crcache.testing.upstream import Turn
from crcache.web.site import Request
from tests.flow.sending import MIB, Client, GrowingBody, SendCase
from tests.flow.test_lasting import FakeRest
from tests.store.stores import descriptors
from tests.web.cases import pause

DATA = os.urandom(3 * MIB + 12345)
SMALL = os.urandom(5000)
FULL = StoreError("no space left on device")


class CarryTests(SendCase):
    """Bodies whose files fail."""

    def carried(
        self,
        *turns: Turn,
        there: int = MIB,
        start: int = 0,
        stop: int | None = len(DATA),
        held: bool = True,
        data: bytes = DATA,
    ) -> GrowingBody:
        """A body of which so much is there, with an origin that answers like this; C{/body}, then C{/small}."""
        body = GrowingBody(data, there=there, size=None if stop is None else len(data))
        rest = self.rest = FakeRest(*turns, data=DATA)

        def handle(request: Request) -> Deferred[int]:
            if stop is not None:
                request.setHeader("Content-Length", str(stop - start))
            request.setHeader("X-Request-Id", "mine-1")
            return self.sender.send(request, body, start, stop, held, rest)

        self.bodies.handlers[b"/body"] = handle
        self.serve(GrowingBody.complete(SMALL), path=b"/small")
        self.addCleanup(body.close)
        return body

    async def failing(self, body: GrowingBody, problem: CrcacheError = FULL, **more: str) -> Client:
        """A client that has asked before the body fails."""
        client = await self.begin(**more)
        await self.until(lambda: body.watchers)
        body.fail(problem)
        return client

    async def complete(self, client: Client, data: bytes = DATA) -> None:
        """It gets all of it."""
        await self.until(lambda: client.answers() or client.lost)
        self.assertTrue(client.answers() == [data], len(client.body))
        self.assertEqual(await self.bodies.results[-1], len(data))

    async def ended(self, client: Client, *, clean: bool) -> None:
        """It gets less."""
        await self.until(lambda: client.lost)
        assert client.lost is not None
        self.assertIs(client.lost.check(ConnectionDone) is not None, clean)
        self.assertEqual(client.answers(), [])

    async def test_goes_on(self) -> None:
        """What the file holds is sent, then what the origin sends; and the connection is as good as before."""
        for there in (0, 1, MIB, len(DATA)):
            body = self.carried(there=there)
            client = await self.failing(body)
            await self.complete(client)
            sent = min(there, len(DATA) - HELD)
            self.assertEqual((self.rest.asked, self.rest.dropped), ([(sent, len(DATA))], 0))
            self.assertEqual(body.watchers, set())
            client.ask("/small")
            await self.until(lambda: len(client.answers()) == 2)  # noqa: B023
            self.assertEqual(client.answers(), [DATA, SMALL])

    async def test_pipelined(self) -> None:
        """A request that was sent behind it is answered behind it."""
        body = self.carried()
        client = await self.connect()
        client.ask("/body", "/small")
        await self.until(lambda: body.watchers)
        body.fail(FULL)
        await self.until(lambda: len(client.answers()) == 2)
        self.assertEqual(client.answers(), [DATA, SMALL])

    async def test_chunks(self) -> None:
        """A body in chunks goes on to its last."""
        client = await self.failing(self.carried(stop=None))
        await self.until(lambda: client.body.endswith(b"\r\n0\r\n\r\n"))
        self.assertTrue(client.unchunked() == DATA)

    async def test_ranges(self) -> None:
        """Closed ranges go on as what comes; open-ended ones are checked, if what comes before them is there."""
        closed = self.carried(start=5, stop=2 * MIB, held=False)
        await self.complete(await self.failing(closed), DATA[5 : 2 * MIB])
        self.assertEqual(self.rest.asked, [(MIB, 2 * MIB)])
        beginning = self.carried(start=5)
        await self.complete(await self.failing(beginning), DATA[5:])

    async def test_cannot_be_checked(self) -> None:
        """An open-ended range behind a hole cannot be checked: it ends short, and its client asks for the rest."""
        body = self.carried(there=2 * MIB, start=MIB)
        readable = body.readable

        def holed(offset: int) -> int:
            return offset if offset < MIB else readable(offset)

        self.patch(body, "readable", holed)
        client = await self.failing(body)
        await self.ended(client, clean=True)
        self.assertEqual((client.body, self.rest.asked), (DATA[MIB : 2 * MIB], []))

    async def test_wrong(self) -> None:
        """If what was sent or what comes is wrong, the answer is never complete."""
        wrong = DATA[:500] + b"xx" + DATA[502:]
        await self.ended(await self.failing(self.carried(data=wrong)), clean=False)
        await self.ended(await self.failing(self.carried(Turn(body=wrong, ignore_range=True), there=0)), clean=False)

    async def test_given_up(self) -> None:
        """What another process gave up may be wrong: the digest tells, where it is looked at. Else it is reset."""
        problem = GivenUp("another process has given it up")
        await self.complete(await self.failing(self.carried(), problem))
        await self.ended(await self.failing(self.carried(held=False, stop=2 * MIB), problem), clean=False)
        self.assertEqual(self.rest.asked, [])

    async def test_origin_failed(self) -> None:
        """If it was the origin that failed, it is not asked for the rest: that has been tried."""
        client = await self.failing(self.carried(), BodyCut("the origin broke off"))
        await self.ended(client, clean=True)
        self.assertEqual((client.body, self.rest.asked), (DATA[:MIB], []))

    async def test_no_rest(self) -> None:
        """If the origin fails as well, again and again, the answer ends short."""
        turns = [Turn(error=OriginFailed("503")) for _ in range(4)]
        client = await self.failing(self.carried(*turns))
        await self.ended(client, clean=True)
        self.assertEqual((client.body, len(self.rest.asked)), (DATA[:MIB], 4))

    async def test_says_so(self) -> None:
        """One line says why, and whose request it was; it is one of those that are not repeated for ever."""
        logged = self.logged()
        await self.complete(await self.failing(self.carried()))
        (line,) = logged
        self.assertEqual((line["event"], line["problem"]), (events.CARRIED_ON, FULL.message))
        self.assertEqual((line["request_id"], line["digest"]), ("mine-1", str(Digest.of(DATA))))

    async def test_before_the_head(self) -> None:
        """If it has failed before the head is written, the origin is asked first: its refusal can still be told."""
        body = self.carried()
        body.fail(FULL)
        await self.complete(await self.begin())
        self.assertEqual(self.rest.asked, [(0, len(DATA))])
        failed = self.carried(Turn(error=OriginFailed("503")))
        failed.fail(FULL)
        await self.begin()
        await self.until(lambda: len(self.bodies.results) == 2)
        self.failureResultOf(self.bodies.results.pop(), OriginFailed)

    async def test_cut_short(self) -> None:
        """A committed file that is cut short is dropped, a growing one is not; either goes on."""
        for verdict, dropped in ((Verdict.VERIFIED, 1), (Verdict.FILLING, 0)):
            body = self.carried(there=len(DATA))
            body.verdict = verdict
            os.ftruncate(body.fd, MIB)
            await self.complete(await self.begin())
            self.assertEqual((self.rest.dropped, self.rest.asked), (dropped, [(MIB, len(DATA))]))

    async def test_closed_range_cut(self) -> None:
        """Of a committed file that is cut, and perhaps written anew, a closed range sends nothing more: nobody would
        see whether it is right. It goes on from the origin, whichever way it is sent.
        """
        for way in ("sendfile", "read"):
            body = self.carried(there=len(DATA), start=5, stop=len(DATA) - 5, held=False)
            body.verdict = Verdict.VERIFIED
            if way == "read":
                self.patch(sender, "plain_socket", lambda _: None)
            os.ftruncate(body.fd, 0)
            os.pwrite(body.fd, bytes(2 * MIB), 0)
            await self.complete(await self.begin(), DATA[5:-5])
            self.assertEqual((self.rest.dropped, self.rest.asked), (1, [(5, len(DATA) - 5)]))

    async def test_cut_meanwhile(self) -> None:
        """If it is cut while a part of it is read, that part is not sent; or, if it has been, the answer is reset."""

        def cut(fd: int) -> None:
            os.ftruncate(fd, 0)
            os.pwrite(fd, bytes(2 * MIB), 0)

        def sendfile(out: int, fd: int, offset: int, count: int) -> int:
            cut(fd)
            return real_sendfile(out, fd, offset, count)

        def read(window: Window, end: int) -> bytes:
            cut(window.fd)
            return real_read(window, end)

        real_sendfile, real_read = os.sendfile, Window.read
        self.patch(os, "sendfile", sendfile)
        self.patch(Window, "read", read)
        self.carried(there=len(DATA), stop=2 * MIB, held=False).verdict = Verdict.VERIFIED
        await self.ended(await self.begin(), clean=False)
        self.patch(sender, "plain_socket", lambda _: None)
        self.carried(there=len(DATA), stop=MIB, held=False).verdict = Verdict.VERIFIED
        await self.complete(await self.begin(), DATA[:MIB])

    async def test_unreadable(self) -> None:
        """A committed file that cannot be read is dropped if that is its own fault, not if the machine lacks memory;
        either way the answer goes on, whichever way it is sent.
        """
        for number, dropped in ((errno.EIO, 1), (errno.ENOMEM, 0)):

            def failing(*args: object) -> int:
                raise OSError(number, os.strerror(number))  # noqa: B023

            for stop in (len(DATA), None):
                body = self.carried(there=len(DATA), stop=stop)
                body.size, body.verdict = len(DATA), Verdict.VERIFIED
                self.patch(os, "sendfile", failing)
                self.patch(Window, "read", failing)
                client = await self.begin()
                await self.until(lambda: client.body.endswith(DATA[-100:] if stop else b"0\r\n\r\n"))  # noqa: B023
                self.assertTrue(stop is None or client.answers() == [DATA])
                self.assertEqual((self.rest.dropped, self.rest.asked), (dropped, [(0, stop)]))

    async def test_leaves_while_hashing(self) -> None:
        """A client that leaves while what it has is hashed leaves nothing behind; the origin is not asked."""
        gc.collect()
        body = self.carried()
        before = descriptors()
        client = await self.begin()
        await self.settled(client, MIB)
        run, hashing = self.workers.run, Deferred[None]()

        def held(work: Any, *args: Any) -> Any:
            return hashing.addCallback(lambda _: run(work, *args))

        self.patch(self.workers, "run", held)
        body.fail(FULL)
        client.abort()
        await pause(0.05)
        hashing.callback(None)
        self.assertEqual(await self.result(), MIB)
        await self.until(lambda: descriptors() == before)
        self.assertEqual(self.rest.asked, [])

    async def test_leaves_while_asking(self) -> None:
        """So does one that leaves while the rest is asked for, or comes: the origin's answer is given up."""
        gc.collect()
        for turn in (Turn(stall=HELD + 100), Turn(hold=True)):
            body = self.carried(turn)
            before = descriptors()
            client = await self.failing(body)
            await self.until(lambda: self.rest.asked)
            client.abort()
            self.assertLessEqual(await self.bodies.results.pop(), MIB + 100)
            await self.until(lambda: descriptors() == before)  # noqa: B023
            self.assertTrue(turn.hold or self.rest.answers[0].aborted)
