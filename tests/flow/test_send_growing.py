"""L{crcache.flow.send}: files that are still growing, or do not stay as they are."""

from __future__ import annotations

import gc
import os
import time
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone

from crcache.errors import BodyCut, OriginLied, StoreError
from crcache.facts import Verdict
from crcache.flow.send import FileSend
from crcache.flow.window import HELD, Window
from crcache.web.site import Request
from tests.flow.sending import MIB, GrowingBody, SendCase
from tests.store.stores import descriptors
from tests.web.cases import pause

DATA = os.urandom(3 * MIB + 12345)
SMALL = os.urandom(5000)


class GrowingTests(SendCase):
    """Bodies that are still growing."""

    async def test_grows(self) -> None:
        """Bytes go out as they become readable, and the last ones once the body is verified."""
        body = self.serve(GrowingBody(DATA))
        client = await self.begin()
        for there in (1, 1000, MIB, MIB + 1, 3 * MIB):
            body.grow(there)
            sent = min(there, len(DATA) - HELD)
            self.assertEqual(await self.settled(client, sent), DATA[:sent])
        body.grow(len(DATA))
        self.assertEqual(await self.settled(client, 0), DATA[: len(DATA) - HELD])
        body.judge(Verdict.VERIFIED)
        await self.until(client.answers)
        self.assertEqual(client.answers(), [DATA])

    async def test_head_first(self) -> None:
        """The head goes out at once, before there is any byte of the body."""
        self.serve(GrowingBody(DATA))
        client = await self.begin()
        await self.until(lambda: b"\r\n\r\n" in client.data)
        self.assertEqual(client.body, b"")

    async def test_closed_range(self) -> None:
        """A closed range is not held back: it goes out to its end without a verdict."""
        body = self.serve(GrowingBody(DATA, there=2 * MIB), MIB, 2 * MIB + 5, held=False)
        client = await self.begin()
        self.assertEqual(await self.settled(client, MIB), DATA[MIB : 2 * MIB])
        body.grow(2 * MIB + 10)
        await self.until(client.answers)
        self.assertEqual(client.answers(), [DATA[MIB : 2 * MIB + 5]])

    async def test_small_held(self) -> None:
        """Of a body shorter than what is held back nothing goes out before the verdict."""
        body = self.serve(GrowingBody(SMALL, there=len(SMALL)))
        client = await self.begin()
        await self.until(lambda: b"\r\n\r\n" in client.data)
        self.assertEqual(await self.settled(client, 0), b"")
        body.judge(Verdict.VERIFIED)
        await self.until(client.answers)
        self.assertEqual(client.answers(), [SMALL])

    async def test_fails(self) -> None:
        """If it may be wrong the connection is aborted: the answer is never complete, nor ends in an orderly way."""
        for there in (0, MIB, len(DATA)):
            body = self.serve(GrowingBody(DATA, there=there))
            client = await self.begin()
            await self.settled(client, min(there, len(DATA) - HELD))
            body.judge(Verdict.FAILED)
            await self.until(lambda: client.lost)  # noqa: B023
            assert client.lost is not None
            self.assertIsNone(client.lost.check(ConnectionDone))
            self.assertEqual(client.answers(), [])
            self.assertLessEqual(await self.result(), len(DATA) - HELD)
            self.assertEqual(body.watchers, set())

    async def test_cannot_be_completed(self) -> None:
        """If what is there is right, but will never be all, that much is sent, and the answer ends short of its length:
        clients ask for the rest.
        """
        for there in (0, MIB, len(DATA)):
            body = self.serve(GrowingBody(DATA, there=there))
            client = await self.begin()
            await self.until(lambda: body.watchers)  # noqa: B023
            body.fail(BodyCut("the origin broke off"))
            await self.until(lambda: client.lost)  # noqa: B023
            assert client.lost is not None
            client.lost.trap(ConnectionDone)
            self.assertEqual(client.body, DATA[: min(there, len(DATA) - HELD)])
            self.assertEqual(await self.result(), len(client.body))
            self.assertEqual(body.watchers, set())

    async def test_lie(self) -> None:
        """If the origin lied, the connection is reset, whatever is there to be sent."""
        body = self.serve(GrowingBody(DATA, there=len(DATA)), 0, len(DATA))
        client = await self.begin()
        await self.settled(client, len(DATA) - HELD)
        body.fail(OriginLied("other bytes"))
        await self.until(lambda: client.lost)
        assert client.lost is not None
        self.assertIsNone(client.lost.check(ConnectionDone))

    async def test_idle(self) -> None:
        """A waiting send uses no processor time, whoever tells it that nothing has changed for it."""
        calls: list[int] = []
        resume = FileSend.resumeProducing

        def counting(send: FileSend) -> None:
            calls.append(1)
            resume(send)

        self.patch(FileSend, "resumeProducing", counting)
        body = self.serve(GrowingBody(DATA, there=MIB))
        clients = [await self.begin() for _ in range(10)]
        for client in clients:
            await self.settled(client, MIB)
        calls.clear()
        used = time.process_time()
        await pause(0.3)
        for _ in range(50):
            body.tell()
        await pause(0.1)
        self.assertEqual(calls, [])
        self.assertLess(time.process_time() - used, 0.1)
        body.judge(Verdict.VERIFIED)
        for client in clients:
            await self.until(client.answers)

    async def test_client_leaves(self) -> None:
        """A client that goes away ends its send, in the middle or while it waits: descriptor and watcher are gone."""
        gc.collect()
        before = descriptors()
        for there in (MIB, len(DATA)):
            body = GrowingBody(DATA, there=there)
            before += 1
            self.serve(body, held=False)
            client = await self.begin()
            if there < len(DATA):
                await self.settled(client, there)
                self.assertEqual(len(body.watchers), 1)
            await self.until(lambda: self.bodies.results)
            client.abort()
            self.assertLessEqual(await self.bodies.results.pop(), there)
            self.assertEqual(body.watchers, set())
            await self.until(lambda: descriptors() == before)  # noqa: B023

    async def test_truncated(self) -> None:
        """With a file that is cut short under it the answer ends short; nothing is made up, and nothing hangs."""
        logged = self.logged()
        body = self.serve(GrowingBody.complete(DATA), headers=(("X-Request-Id", "mine-1"),))
        os.ftruncate(body.fd, MIB)
        client = await self.begin()
        await self.until(lambda: client.lost)
        await self.told(logged, "mine-1", f"ends at byte {MIB}")
        assert client.lost is not None
        client.lost.trap(ConnectionDone)
        self.assertEqual(client.body, DATA[:MIB])

    async def test_defect(self) -> None:
        """With a defect of ours the answer ends short as well, and the line about it says whose request it was."""

        def broken(window: Window) -> int:
            raise ZeroDivisionError

        logged = self.logged()
        body = self.serve(GrowingBody(DATA, there=MIB), headers=(("X-Request-Id", "mine-2"),))
        client = await self.begin()
        await self.settled(client, MIB)
        self.patch(Window, "limit", broken)
        (send,) = body.watchers
        cast(FileSend, send).resumeProducing()
        await self.until(lambda: client.lost)
        await self.told(logged, "mine-2", "sending broke off")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_many(self) -> None:
        """Many clients at once, each at its own pace, get the same right bytes from one growing file."""
        body = self.serve(GrowingBody(DATA))
        clients = [await self.begin() for _ in range(40)]
        for client in clients[::2]:
            client.tcp.pauseProducing()
        for there in range(0, len(DATA), 400_000):
            body.grow(there)
            await pause(0.002)
        body.judge(Verdict.VERIFIED)
        for client in clients[1::2]:
            await self.until(client.answers)
        for client in clients[::2]:
            client.tcp.resumeProducing()
        for client in clients:
            await self.until(client.answers)
            self.assertEqual(client.answers(), [DATA])

    async def test_slow_reader(self) -> None:
        """A client that does not read costs no memory: what it does not take stays in the file."""
        size = 64 * MIB
        fd = os.memfd_create("large", os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
        body = GrowingBody(b"", size=size, there=size, fd=fd)
        body.verdict = Verdict.VERIFIED
        self.serve(body, 0, size)
        transports: list[Any] = []
        handle = self.bodies.handlers[b"/body"]

        def noting(request: Request) -> Deferred[int] | None:
            transports.append(request.channel.transport)
            return handle(request)

        self.bodies.handlers[b"/body"] = noting
        client = await self.begin()
        client.tcp.pauseProducing()
        await pause(0.1)
        (transport,) = transports
        self.assertEqual(len(transport.dataBuffer) + transport._tempDataLen, 0)
        self.assertFalse(self.bodies.results[0].called)
        client.abort()
        self.assertLess(await self.result(), size // 2)

    async def test_no_descriptor(self) -> None:
        """A body that cannot be opened is an error before anything is written."""

        class Closed(GrowingBody):
            def open(self) -> int:
                raise StoreError("too many open files")

        problems: list[StoreError] = []

        def handle(request: Request) -> None:
            try:
                self.sender.send(request, Closed(SMALL), 0, len(SMALL), True)
            except StoreError as problem:
                problems.append(problem)
                self.assertFalse(request.startedWriting)
                request.setResponseCode(503)
                request.finish()

        self.bodies.handlers[b"/body"] = handle
        client = await self.begin()
        await self.until(lambda: b" 503 " in client.data)
        self.assertEqual(len(problems), 1)


class SizedTests(SendCase):
    """Ranges of a body whose size nobody knows wait for it."""

    async def test_known(self) -> None:
        """A known size is there at once."""
        self.assertEqual(await self.sender.sized(GrowingBody(DATA)), len(DATA))

    async def test_learnt(self) -> None:
        """Else it is when it becomes known."""
        body = GrowingBody(DATA, size=None)
        sized = self.sender.sized(body)
        body.grow(500)
        self.assertNoResult(sized)
        body.size = len(DATA)
        body.tell()
        self.assertEqual(await sized, len(DATA))
        self.assertEqual(body.watchers, set())

    async def test_never(self) -> None:
        """A body that fails never has one; whoever leaves does not wait for it."""
        body = GrowingBody(DATA, size=None)
        sized, left = self.sender.sized(body), self.sender.sized(body)
        left.addErrback(lambda _: None)
        left.cancel()
        body.judge(Verdict.FAILED)
        self.failureResultOf(sized, BodyCut)
        self.failureResultOf(self.sender.sized(body), BodyCut)
        self.assertEqual(body.watchers, set())
