"""Many clients, several processes, restarts: the origin sends each blob once, and nobody waits for anybody's pace."""

from __future__ import annotations

from twisted.internet.defer import Deferred, gatherResults

from crcache.testing.content import noise
from crcache.testing.script import Fault, Rule
from tests.clients.case import REPO, ClientCase, blob_path, manifest_path
from tests.clients.http import Answer

MIB = 1 << 20
DATA = noise(4 * MIB + 99)


class SharingCase(ClientCase):
    """A cold blob whose origin stops half way, until it is let go on."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.origin.content.add_blob(REPO, DATA)
        self.target = blob_path(self.digest)

    def stall(self, after: int = 2 * MIB) -> Rule:
        """The origin stops after so many bytes."""
        return self.origin.fault(Fault(stall=after), "blob")

    def bodies(self) -> int:
        """How often the origin was asked for the blob."""
        return len(self.origin.asked("blob", "GET"))

    def assertRight(self, answer: Answer) -> None:
        """All of the blob, and nothing else."""
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.complete)
        self.assertTrue(answer.body == DATA)


class ManyClientsTests(SharingCase):
    """One process."""

    async def test_fifty(self) -> None:
        """Fifty clients ask for one cold blob at once: the origin sends it once, and all bodies are right."""
        asking = [Deferred.fromCoroutine(self.ask(self.target)) for _ in range(50)]
        answers = await gatherResults(asking)
        for answer in answers:
            self.assertRight(answer)
        self.assertEqual(self.bodies(), 1)
        statuses = [answer.one("Cache-Status") for answer in answers]
        self.assertEqual(statuses.count("crcache; fwd=miss; stored"), 1)
        self.assertLessEqual(
            set(statuses), {"crcache; fwd=miss; stored", "crcache; fwd=miss; collapsed", "crcache; hit"}
        )

    async def test_leaving(self) -> None:
        """The client that began a fetch leaves, and then the last one: the fetch goes on, and the next one has it."""
        stall = self.stall()
        first = await self.begin(self.target)
        await first.until(MIB)
        second = await self.begin(self.target)
        await second.until(MIB)
        first.leave()
        await first.end()
        third = await self.begin(self.target)
        second.leave()
        await third.until(MIB)
        stall.release()
        self.assertRight(await third.end())
        self.assertEqual(self.bodies(), 1)

    async def test_nobody_left(self) -> None:
        """When nobody is left the fetch is finished all the same."""
        stall = self.stall()
        only = await self.begin(self.target)
        await only.until(MIB)
        only.leave()
        await only.end()
        stall.release()
        await self.settled()
        self.assertHit(await self.ask(self.target))
        self.assertEqual(self.bodies(), 1)

    async def test_slow_client(self) -> None:
        """A client that does not read holds up nobody, and gets its bytes in the end."""
        data = DATA * 5  # more than the sockets' buffers take
        target = blob_path(self.origin.content.add_blob(REPO, data))
        slow = await self.begin(target)
        await slow.until(1)
        slow.pause()
        self.assertTrue((await self.ask(target)).body == data)
        slow.resume()
        self.assertTrue((await slow.end()).body == data)
        self.assertEqual(self.bodies(), 1)

    async def test_followers_are_counted(self) -> None:
        """The metrics say how many fills there are and how many clients follow, while they do."""
        stall = self.stall()
        answers = [await self.begin(self.target) for _ in range(3)]
        for answer in answers:
            await answer.until(MIB)
        self.assertEqual(await self.metric("crcache_fills"), 1.0)
        self.assertEqual(await self.metric("crcache_followers"), 2.0)
        stall.release()
        for answer in answers:
            self.assertRight(await answer.end())
        await self.metric_becomes(0.0, "crcache_fills")
        await self.metric_becomes(0.0, "crcache_followers")

    async def test_two_registries(self) -> None:
        """A blob that two registries have is fetched from one; the other only confirms that it has it, too."""
        other = self.registry(self.origin.content)
        self.cache = self.instance(origins={"one.test": self.origin.url, "two.test": other.url})
        self.assertRight(await self.ask(blob_path(self.digest, ns="one.test")))
        await self.settled()
        for _ in range(2):
            answer = await self.ask(blob_path(self.digest, ns="two.test"))
            self.assertRight(answer)
            self.assertHit(answer)
        self.assertEqual([record.method for record in other.requests], ["HEAD"])
        absent = await self.ask(blob_path(self.digest, "library/other", ns="two.test"))
        self.assertEqual((absent.status, absent.code), (404, "BLOB_UNKNOWN"))


class RestartTests(SharingCase):
    """A daemon that is stopped and begun again."""

    async def test_resumed(self) -> None:
        """A fetch that a stop broke off is resumed with C{Range}; its client's body ended short, not reset."""
        self.stall()
        answer = await self.begin(self.target)
        await answer.until(MIB)
        await self.cache.stop()
        await answer.end()
        self.assertFalse(answer.complete)
        self.assertIs(answer.clean, True)
        self.origin.script.clear()
        self.cache.start()
        self.assertRight(await self.ask(self.target))
        first, second = self.origin.asked("blob")
        self.assertIsNone(first.header("Range"))
        span = second.header("Range") or ""
        self.assertRegex(span, r"\Abytes=\d+-\Z")
        self.assertGreaterEqual(int(span[6:-1]), MIB)

    async def test_warm(self) -> None:
        """What was cached before a restart is served after it without the origin."""
        image = self.origin.add_image(REPO, "1.0")
        targets = manifest_path("1.0"), manifest_path(image.digest), blob_path(image.layers[0]), self.target
        before = [(await self.ask(target)).body for target in targets]
        await self.settled()
        await self.cache.stop()
        await self.origin.stop()
        self.cache.start()
        for target, body in zip(targets, before, strict=True):
            answer = await self.ask(target)
            self.assertHit(answer)
            self.assertEqual(answer.body, body)


class TwoDaemonsTests(SharingCase):
    """Two daemons on one cache directory."""

    def setUp(self) -> None:
        super().setUp()
        directory = self.directory()
        self.one = self.instance(directory)
        self.two = self.instance(directory)

    async def test_one_fetch(self) -> None:
        """Clients of both ask for one cold blob at once: one fetch, and all bodies are right."""
        stall = self.stall()
        answers = [await self.begin(self.target, to=each) for each in (self.one, self.two) * 3]
        for answer in answers:
            await answer.until(MIB)
        self.assertEqual(self.bodies(), 1)
        stall.release()
        for answer in answers:
            self.assertRight(await answer.end())
        self.assertEqual(self.bodies(), 1)

    async def test_taken_over(self) -> None:
        """If the one that fetches stops, the other takes over from where it was; its clients notice nothing."""
        self.stall()
        left = await self.begin(self.target, to=self.one)
        await left.until(MIB)
        kept = await self.begin(self.target, to=self.two)
        await kept.until(MIB)
        await self.one.stop()
        await left.end()
        self.assertFalse(left.complete)
        self.assertRight(await kept.end())
        second = self.origin.asked("blob", "GET")[1]
        self.assertRegex(second.header("Range") or "", r"\Abytes=\d{7}-\Z")

    async def test_warm_for_both(self) -> None:
        """What one has fetched is a hit for the other: blobs, manifests, tags."""
        image = self.origin.add_image(REPO, "1.0")
        targets = manifest_path("1.0"), manifest_path(image.digest), blob_path(image.layers[0])
        for target in targets:
            await self.ask(target, to=self.one)
        await self.settled(self.one)
        asked = len(self.origin.requests)
        for target in targets:
            self.assertHit(await self.ask(target, to=self.two))
        self.assertEqual(len(self.origin.requests), asked)
