"""L{crcache.flow.relay}: an origin's body straight to a client, over real sockets."""

from __future__ import annotations

import os
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.web.http_headers import Headers

from crcache.flow.relay import BATCH
from crcache.flow.window import HELD
from crcache.grammar.digest import Digest
from crcache.grammar.ranges import ContentRange
from crcache.testing.upstream import FakeAnswer, Turn
from crcache.web.site import Request
from tests.flow.sending import MIB, Client, SendCase
from tests.flow.test_lasting import FakeRest
from tests.web.cases import pause

DATA = os.urandom(3 * MIB + 12345)
DIGEST = Digest.of(DATA)


class RelayTests(SendCase):
    """Bodies that rest nowhere.

    @ivar proofs: the sizes of those that were proved.
    """

    def setUp(self) -> None:
        super().setUp()
        self.proofs: list[int] = []

    def relayed(
        self,
        body: bytes = DATA,
        digest: Digest | None = DIGEST,
        *,
        sized: bool = True,
        part: ContentRange | None = None,
        rest: FakeRest | None = None,
        start: int = 0,
        **turn: Any,
    ) -> Turn:
        """Answer with an origin's body, as it comes."""
        script = Turn(**turn)

        def handle(request: Request) -> Deferred[int]:
            length = len(body) if sized else None
            self.answer = FakeAnswer(200, Headers(), body, length=length, turn=script, clock=cast(Any, reactor))
            if part is not None:
                length = part.stop - part.start
            if length is not None:
                request.setHeader("Content-Length", str(length))
            request.setHeader("X-Request-Id", "mine-1")
            return self.sender.relay(request, self.answer, digest, rest, start, part, self.proofs.append)

        self.bodies.handlers[b"/body"] = handle
        return script

    async def aborted(self, client: Client) -> None:
        """The connection must end as no answer does of which what came is right."""
        await self.until(lambda: client.lost)
        assert client.lost is not None
        self.assertIsNone(client.lost.check(ConnectionDone))

    async def short(self, client: Client) -> None:
        """The connection must end in an orderly way, and the answer not be complete."""
        await self.until(lambda: client.lost)
        assert client.lost is not None
        client.lost.trap(ConnectionDone)
        self.assertLess(len(client.body), len(DATA))
        self.assertFalse(client.body.endswith(b"0\r\n\r\n"))

    async def test_verified(self) -> None:
        """Every byte comes, one answer after another; how many is told."""
        for digest in (DIGEST, None, Digest.of(DATA, "sha512")):
            self.relayed(digest=digest)
            client = await self.begin()
            await self.until(client.answers)
            client.ask("/body")
            await self.until(lambda: len(client.answers()) == 2)  # noqa: B023
            self.assertEqual(client.answers(), [DATA, DATA])
            self.assertEqual(await self.result(), len(DATA))
            self.assertFalse(self.answer.aborted)

    async def test_withheld(self) -> None:
        """With a digest the last bytes wait for the end of the body, and for what it is found to be."""
        for size in (MIB, HELD + 1, 100):
            data = DATA[:size]
            script = self.relayed(data, Digest.of(data), stall=size - 1)
            client = await self.begin()
            sent = max(size - 1 - HELD, 0)
            self.assertEqual(await self.settled(client, sent), data[:sent])
            script.release()
            await self.until(client.answers)
            self.assertEqual(client.answers(), [data])

    async def test_end_of_the_whole(self) -> None:
        """Of a whole body whose end was asked for, that end comes, once all of it is found to be right."""
        for start in (1, MIB - 5, len(DATA) - HELD, len(DATA) - 1):
            script = self.relayed(part=ContentRange(start, len(DATA), len(DATA)), stall=len(DATA) - 1)
            client = await self.begin()
            sent = max(len(DATA) - 1 - HELD - start, 0)
            self.assertEqual(await self.settled(client, sent), DATA[start : start + sent])
            script.release()
            await self.until(client.answers)
            self.assertEqual(client.answers(), [DATA[start:]])
            self.assertEqual(await self.result(), len(DATA) - start)

    async def test_wrong_before_the_end(self) -> None:
        """If it is not right, that end is not complete, wherever the wrong bytes are."""
        for start in (MIB, len(DATA) - 1):
            self.relayed(bytes([DATA[0] ^ 1]) + DATA[1:], part=ContentRange(start, len(DATA), len(DATA)))
            client = await self.begin()
            await self.aborted(client)
            self.assertLessEqual(await self.result(), max(len(DATA) - HELD - start, 0))

    async def test_proved(self) -> None:
        """When all of a body has come and is right, whoever wants to know is told, once, before its client has it all:
        of a whole one, of one whose end was asked for, of an empty one, and of one that broke off and went on."""
        for size in (len(DATA), 100, 0):
            self.relayed(DATA[:size], Digest.of(DATA[:size]))
            client = await self.begin()
            await self.until(client.answers)
            self.assertEqual(self.proofs, [size])
            self.proofs.clear()
        self.relayed(part=ContentRange(MIB, len(DATA), len(DATA)))
        client = await self.begin()
        await self.until(client.answers)
        self.assertEqual(self.proofs, [len(DATA)])
        self.proofs.clear()
        rest = FakeRest(Turn(cut=MIB), data=DATA)
        self.relayed(rest=rest, cut=MIB)
        client = await self.begin()
        await self.until(client.answers)
        self.assertEqual((client.answers(), self.proofs), ([DATA], [len(DATA)]))
        self.assertEqual(rest.asked, [(MIB, len(DATA)), (2 * MIB, len(DATA))])

    async def test_not_proved(self) -> None:
        """Nobody is told so of a body that is wrong, is not whole, has no digest, does not begin at the beginning, or
        whose client has left."""
        self.relayed(digest=Digest.of(b"something else"))
        await self.aborted(await self.begin())
        self.relayed(cut=len(DATA) - 1)
        await self.short(await self.begin())
        rest = FakeRest(data=DATA[:MIB] + bytes(len(DATA) - MIB))
        self.relayed(rest=rest, cut=MIB)
        await self.aborted(await self.begin())
        self.relayed(digest=None)
        await self.until((await self.begin()).answers)
        self.relayed(DATA[5:], Digest.of(DATA[5:]), start=5)
        await self.until((await self.begin()).answers)
        script = self.relayed(stall=len(DATA) - 1)
        client = await self.begin()
        await self.settled(client, len(DATA) - 1 - HELD)
        client.abort()
        await self.result()
        script.release()
        await pause(0.03)
        self.assertEqual(self.proofs, [])

    async def test_not_withheld(self) -> None:
        """Without a digest nothing is."""
        self.relayed(digest=None, stall=MIB)
        client = await self.begin()
        self.assertEqual(await self.settled(client, MIB), DATA[:MIB])

    async def test_head_first(self) -> None:
        """The head goes out before any byte of the body has come."""
        self.relayed(stall=0)
        client = await self.begin()
        await self.until(lambda: b"\r\n\r\n" in client.data)

    async def test_mismatch(self) -> None:
        """Other bytes than the digest's never make a complete answer."""
        for body, sized in ((DATA, True), (DATA, False), (b"abc", True), (b"abc", False), (b"", False)):
            self.relayed(body, Digest.of(b"something else"), sized=sized)
            client = await self.begin()
            await self.aborted(client)
            self.assertLessEqual(len(client.body), max(len(body) - HELD, 0) + 5000)
            self.assertFalse(client.body.endswith(b"0\r\n\r\n"))
            self.assertLessEqual(await self.result(), max(len(body) - HELD, 0))

    async def test_empty_lie(self) -> None:
        """An empty body for what is not empty is no complete answer either, although its head would be one."""
        script = self.relayed(b"", stall=0)
        client = await self.begin()
        await self.until(lambda: self.bodies.results)
        await pause(0.03)
        script.release()
        await self.aborted(client)
        self.assertEqual(client.data, b"")

    async def test_empty(self) -> None:
        """An empty body whose digest it is comes as such."""
        for digest in (None, Digest.of(b"")):
            self.relayed(b"", digest)
            client = await self.begin()
            await self.until(client.answers)
            self.assertEqual(client.answers(), [b""])

    async def test_broken_off(self) -> None:
        """A body that breaks off ends short, with a length or not, with a digest or not: clients ask for the rest."""
        for digest in (DIGEST, None):
            for sized in (True, False):
                self.relayed(digest=digest, sized=sized, cut=MIB)
                client = await self.begin()
                await self.short(client)
                if sized:
                    self.assertEqual(client.body, DATA[: MIB - HELD if digest else MIB])

    async def test_broken_off_http_1_0(self) -> None:
        """Where only the connection's end tells the body's, one that breaks off is reset."""
        self.relayed(sized=False, cut=MIB)
        await self.aborted(await self.begin(version="HTTP/1.0"))

    async def test_says_whose(self) -> None:
        """Whatever goes wrong, the line about it says whose request it was."""

        def broken(work: Any, *args: Any) -> Any:
            return fail(ZeroDivisionError())

        logged = self.logged()
        for wrong, words in (("cut", "broke off"), ("bytes", "are not sha256:"), ("hashing", "hashing")):
            logged.clear()
            if wrong == "hashing":
                self.patch(self.workers, "run", broken)
            digest = Digest.of(b"something else") if wrong == "bytes" else DIGEST
            self.relayed(digest=digest, cut=MIB if wrong == "cut" else None)
            client = await self.begin()
            await (self.aborted(client) if wrong == "bytes" else self.short(client))
            await self.told(logged, "mine-1", words)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_chunked(self) -> None:
        """A body without a length goes out in chunks."""
        for digest in (DIGEST, None):
            self.relayed(digest=digest, sized=False)
            client = await self.begin()
            await self.until(lambda: client.body.endswith(b"\r\n0\r\n\r\n"))  # noqa: B023
            self.assertEqual(client.unchunked(), DATA)

    async def test_back_pressure(self) -> None:
        """A client that does not read pauses the origin; little is in memory; when it reads again all of it comes."""
        data = os.urandom(MIB) * 24
        for digest in (Digest.of(data), None):
            self.relayed(data, digest)
            client = await self.begin()
            await self.until(lambda: client.data)  # noqa: B023
            client.tcp.pauseProducing()
            delivered = -1
            while delivered != self.answer.delivered:
                # The sockets' own buffers have to fill first.
                delivered = self.answer.delivered
                await pause(0.1)
            self.assertTrue(self.answer.paused)
            self.assertLess(delivered, len(data))
            client.tcp.resumeProducing()
            await self.until(client.answers)
            self.assertEqual(client.answers(), [data])

    async def test_slow_hashing(self) -> None:
        """While hashing is slow the origin is paused, too."""
        waiting: list[Deferred[None]] = []

        def slow(work: Any, *args: Any) -> Any:
            waiting.append(Deferred())
            return waiting[-1].addCallback(lambda _: work(*args))

        self.patch(self.workers, "run", slow)
        self.relayed()
        client = await self.begin()
        await self.until(lambda: waiting and self.answer.paused)
        self.assertLessEqual(self.answer.delivered, 2 * BATCH + 65536)
        while not client.answers():
            while waiting:
                waiting.pop(0).callback(None)
            await pause(0.001)
        self.assertEqual(client.answers(), [DATA])

    async def test_client_leaves(self) -> None:
        """A client that goes away ends the origin's answer."""
        for digest in (DIGEST, None):
            self.relayed(digest=digest, stall=MIB)
            client = await self.begin()
            await self.settled(client, MIB - HELD)
            client.abort()
            self.assertGreaterEqual(await self.result(), MIB - HELD)
            self.assertTrue(self.answer.aborted)

    async def test_gone(self) -> None:
        """For a client that has gone before, the answer is given up."""
        requests: list[Request] = []
        self.bodies.handlers[b"/body"] = requests.append
        client = await self.begin()
        await self.until(lambda: requests)
        client.abort()
        await self.until(lambda: requests[0].channel is None)
        answer = FakeAnswer(200, Headers(), DATA)
        self.assertEqual(await self.sender.relay(requests[0], answer, DIGEST), 0)
        self.assertTrue(answer.aborted)
