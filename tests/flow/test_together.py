"""Origin, fill, store and clients together: threads, a directory, real sockets."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone

from crcache.facts import Query
from crcache.flow import lending
from crcache.flow.fills import Fills
from crcache.flow.tools import Tools
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Repository
from crcache.secret import Secret
from crcache.store.filesystem import Filesystem
from crcache.testing.fakes import FakeMeter
from crcache.testing.upstream import FakeUpstream, Turn
from crcache.web.site import Request
from tests.flow.sending import MIB, SendCase
from tests.store.stores import descriptors

DATA = os.urandom(9 * MIB + 4321)
DIGEST = Digest.of(DATA)
QUERY = Query(DOCKER_IO, Repository("library/alpine"), "blob", DIGEST, "request-1")


class TogetherTests(SendCase):
    """A cold blob and many clients."""

    def setUp(self) -> None:
        """Have an origin, a cache directory, and two processes' worth of fills."""
        super().setUp()
        self.root = Path(tempfile.mkdtemp(prefix="crcache-test-"))
        self.addCleanup(shutil.rmtree, self.root)
        self.upstream = FakeUpstream(DATA, clock=cast(Any, reactor))
        self.first, self.second = self._process(), self._process()
        self.bodies.handlers[b"/first"] = lambda request: self._pull(request, self.first)
        self.bodies.handlers[b"/second"] = lambda request: self._pull(request, self.second)

    def _process(self) -> Fills:
        store = Filesystem(self.root, self.workers, time.time)
        store.start()
        clock = cast(Any, reactor)
        fills = Fills(Tools(clock, store, self.upstream, self.workers, FakeMeter(), lambda n: 0.02 if n < 3 else None))
        self.addCleanup(fills.stop)
        return fills

    def _pull(self, request: Request, fills: Fills) -> Deferred[int]:
        line = request.getHeader("Authorization")
        authorization = None if line is None else Secret(line)

        async def pull() -> int:
            fill = fills.begin(replace(QUERY, authorization=authorization), None)
            body = fill if authorization is None else fill.lend(authorization)
            await fill.opened()
            request.setHeader("Content-Length", str(len(DATA)))
            return await self.sender.send(request, body, 0, len(DATA), True)

        return Deferred.fromCoroutine(pull())

    async def test_many(self) -> None:
        """Twenty clients of two processes get the right bytes; the origin, which breaks off twice, sends them once."""
        self.upstream.turns = [Turn(cut=2 * MIB), Turn(cut=3 * MIB + 77)]
        clients = [await self.begin(path) for path in ("/first", "/second") * 10]
        clients[0].abort()
        for client in clients[1:]:
            await self.until(lambda: client.answers() or client.lost)  # noqa: B023
            self.assertEqual(client.answers(), [DATA])
        self.assertEqual(sum(answer.delivered for answer in self.upstream.answers), len(DATA))
        self.assertEqual([query.span for query in self.upstream.queries], [None, (2 * MIB, None), (5 * MIB + 77, None)])
        await self.until(lambda: not len(self.first) and not len(self.second))
        content = self.root / "blobs" / "sha256" / DIGEST.hex
        self.assertEqual(content.read_bytes(), DATA)
        self.assertEqual(list((self.root / "ingest").iterdir()), [])

    async def test_private(self) -> None:
        """So do twenty that bring credentials of their own; when those leave whose process asks the origin, and when
        all have left, others go on from there with theirs."""
        self.patch(lending, "LINGER", 0.05)
        halts = [Turn(stall=2 * MIB), Turn(stall=MIB), Turn(cut=3 * MIB)]
        self.upstream.turns = list(halts)
        leaving = [await self.begin("/first", headers=f"Authorization: Bearer {n}\r\n") for n in range(10)]
        for client in leaving:
            await self.until(lambda: len(client.body) == 2 * MIB)  # noqa: B023
        staying = [await self.begin("/second", headers=f"Authorization: Bearer {n}\r\n") for n in range(10, 20)]
        for client in staying:
            await self.until(lambda: len(client.body) == 2 * MIB)  # noqa: B023
        for client in leaving:
            client.abort()
        for client in staying:
            await self.until(lambda: len(client.body) == 3 * MIB)  # noqa: B023
            client.abort()
        await self.until(lambda: not len(self.first) and not len(self.second))
        paths = ("/first", "/second") * 5
        clients = [await self.begin(path, headers="Authorization: Basic abc\r\n") for path in paths]
        for client in clients:
            await self.until(lambda: client.answers() or client.lost)  # noqa: B023
            self.assertEqual(client.answers(), [DATA])
        asked = [(cast(Secret, each.authorization).reveal(), each.span) for each in self.upstream.queries]
        self.assertEqual([span for _, span in asked], [None, (2 * MIB, None), (3 * MIB, None), (6 * MIB, None)])
        self.assertIn(asked[1][0], [f"Bearer {n}" for n in range(10, 20)])
        self.assertEqual([line for line, _ in asked[2:]], ["Basic abc"] * 2)
        await self.until(lambda: not len(self.first) and not len(self.second))
        self.assertEqual(list((self.root / "ingest").iterdir()), [])
        self.assertEqual((self.root / "blobs" / "sha256" / DIGEST.hex).read_bytes(), DATA)

    async def test_lie(self) -> None:
        """Of a lying origin's body nobody gets a complete answer, in neither process, and nothing is kept."""
        self.upstream.rule = lambda _: Turn(wrong=True)
        clients = [await self.begin(path) for path in ("/first", "/second") * 5]
        for client in clients:
            await self.until(lambda: client.lost)  # noqa: B023
            assert client.lost is not None
            self.assertIsNone(client.lost.check(ConnectionDone))
            self.assertEqual(client.answers(), [])
        await self.until(lambda: not len(self.first) and not len(self.second))
        kept = {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}
        self.assertEqual(kept, {"VERSION"})

    async def test_descriptors(self) -> None:
        """When all is over, all descriptors are closed."""
        # What earlier tests have left is not to be closed meanwhile.
        gc.collect()
        before = descriptors()
        for headers in ("", "Authorization: Bearer a\r\n") * 2:
            clients = [await self.begin(path, headers=headers) for path in ("/first", "/second")]
            for client in clients:
                await self.until(client.answers)
                client.abort()
            await self.until(lambda: not len(self.first) and not len(self.second))
            shutil.rmtree(self.root / "blobs")
        self.bodies.results.clear()
        await self.until(lambda: descriptors() <= before)
