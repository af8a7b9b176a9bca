"""Two processes on one cache directory, one of which stops, dies, or fails: the other's clients notice nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from crcache import events
from crcache.settings import UpstreamSettings
from crcache.store import ingest
from crcache.testing.content import noise
from crcache.testing.daemon import Instance
from crcache.testing.script import Fault
from tests.clients.case import IMPATIENT, NAME, REPO, ClientCase, blob_path, eventually
from tests.clients.http import Answer, request, send
from tests.clients.test_disk import Disk
from tests.real.daemon import Daemon

MIB = 1 << 20
DATA = noise(12 * MIB + 99)
#: The follower waits one and a half times as long for the owner.
STALL = 1.0


class TwoProcessesCase(ClientCase):
    """A cold blob whose origin comes to a halt, and a crcache that follows another one."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.origin.content.add_blob(REPO, DATA)
        self.target = blob_path(self.digest)
        self.shared = self.directory()
        self.rule = self.origin.fault(Fault(stall=2 * MIB), "blob")

    def following(self) -> Instance:
        """The one that follows."""
        self.cache = self.instance(self.shared, upstream=UpstreamSettings(stall_timeout=STALL, retries=2))
        return self.cache

    def assertRight(self, answer: Answer, data: bytes = DATA) -> None:
        """All of it, and nothing else."""
        self.assertTrue(answer.complete, (answer.status, len(answer.raw)))
        self.assertTrue(answer.body == data)


class ProcessTests(TwoProcessesCase):
    """The other one is a process of its own, which fetches."""

    def setUp(self) -> None:
        super().setUp()
        directory = self.directory()
        self.owner = Daemon(directory, {NAME: {"url": self.origin.url}}, cache=self.shared)
        self.addCleanup(self.owner.stop)
        self.addCleanup(self.signal, signal.SIGCONT)
        self.following()

    def signal(self, number: int) -> None:
        """Send it one, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.owner.pid, number)

    async def both(self) -> Answer:
        """A client of each has something; the follower's."""
        self.of_owner = await self.begin_at(self.owner.port)
        await self.of_owner.until(MIB)
        answer = await self.begin(self.target)
        await answer.until(MIB)
        self.assertEqual(len(self.origin.asked("blob", "GET")), 1)
        return answer

    async def begin_at(self, port: int) -> Answer:
        """Ask the owner for the blob."""
        answer = await send(port, request(self.target))
        self.addCleanup(answer.leave)
        return answer

    async def test_stopped(self) -> None:
        """When the owner is stopped, the follower's clients get the rest from the origin after a while, on the same
        answer; new ones do not wait for it again. When it goes on, it is followed again.
        """
        answer = await self.both()
        self.signal(signal.SIGSTOP)
        began = time.monotonic()
        self.assertRight(await answer.end())
        self.assertGreaterEqual(time.monotonic() - began, STALL)
        self.assertRegex(self.origin.asked("blob", "GET")[1].header("Range") or "", r"\Abytes=[1-9]\d*-\Z")
        for _ in range(2):
            began = time.monotonic()
            again = await self.ask(self.target)
            self.assertRight(again)
            self.assertEqual(again.one("Cache-Status"), "crcache; fwd=bypass")
            self.assertLess(time.monotonic() - began, STALL)
        self.signal(signal.SIGCONT)
        self.rule.release()
        self.assertRight(await self.of_owner.end())
        await self.settled()
        self.assertHit(await self.ask(self.target))

    async def test_killed(self) -> None:
        """When the owner is killed, the follower takes over; its clients notice nothing, and little is sent twice."""
        answer = await self.both()
        self.owner.kill()
        self.assertRight(await answer.end())
        await self.settled()
        self.assertHit(await self.ask(self.target))
        self.assertLessEqual(sum(record.sent for record in self.origin.asked("blob", "GET")), 1.2 * len(DATA))


class FollowingTests(TwoProcessesCase):
    """The other one is as good as a process of its own."""

    async def test_far_ahead(self) -> None:
        """A range far ahead of the other's front comes from the origin at once, and is not stored; one that is near
        waits for the other.
        """
        owner = self.instance(self.shared)
        self.following()
        answer = await self.begin(self.target, to=owner)
        await answer.until(MIB)
        far = await self.ask(self.target, ("Range", f"bytes={11 * MIB}-{12 * MIB}"))
        self.assertEqual((far.status, far.one("Cache-Status")), (206, "crcache; fwd=bypass"))
        self.assertRight(far, DATA[11 * MIB : 12 * MIB + 1])
        near = await self.begin(self.target, ("Range", f"bytes={3 * MIB}-{4 * MIB}"))
        await near.until(0)
        self.assertEqual(near.raw, b"")
        self.rule.release()
        self.assertRight(await near.end(), DATA[3 * MIB : 4 * MIB + 1])
        self.assertRight(await answer.end())
        spans = [record.header("Range") for record in self.origin.asked("blob", "GET")]
        self.assertEqual(spans, [None, f"bytes={11 * MIB}-{12 * MIB}"])

    async def test_disk_full(self) -> None:
        """When the other one's disk is full, nobody here is told why it gave up: clients get the rest all the same."""
        disk = Disk()
        self.patch(ingest, "write_all", disk.write)
        disk.room = 3 * MIB
        owner = self.instance(self.shared, upstream=IMPATIENT)
        self.following()
        answers = [await self.begin(self.target, to=each) for each in (owner, self.cache)]
        for answer in answers:
            await answer.until(MIB)
        self.rule.release()
        for answer in answers:
            self.assertRight(await answer.end())
        self.assertEqual(len([each for each in self.events if each.get("event") is events.CARRIED_ON]), 2)

    async def test_lie(self) -> None:
        """When the other one finds that the origin lied, nobody here gets a complete answer either."""
        self.origin.script.clear()
        rule = self.origin.fault(Fault(wrong=True, stall=2 * MIB), "blob")
        owner = self.instance(self.shared)
        self.following()
        answers = [await self.begin(self.target, to=each) for each in (owner, self.cache)]
        for answer in answers:
            await answer.until(MIB)
        rule.release()
        for answer in answers:
            await answer.end()
            self.assertEqual((answer.complete, answer.clean), (False, False))
        await eventually(lambda: not list((self.shared / "ingest").iterdir()))
