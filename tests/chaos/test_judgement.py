"""The client of a chaos run puts up with what it should, and with nothing else."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from crcache.testing.content import Image
from crcache.testing.registry import FakeRegistry
from crcache.testing.script import Fault
from tests.chaos.images import Wanted
from tests.chaos.puller import WRONG, Puller, Tally
from tests.web.cases import AsyncTestCase, quiet, reactor

LARGE, SMALL = 200_000, 2_000


class Told:
    """What has been done on purpose, as a test says.

    @ivar kills: whether the daemon was killed just now, whenever that is asked.
    @ivar lies: references that were lied about just now.
    """

    def __init__(self) -> None:
        self.kills = False
        self.lies: set[str] = set()

    def killed(self, since: float) -> bool:
        """As L{tests.chaos.puller.World}."""
        return self.kills

    def lied(self, reference: str, since: float) -> bool:
        """As L{tests.chaos.puller.World}."""
        return reference in self.lies


class PullerTests(AsyncTestCase):
    """A registry takes crcache's place."""

    def setUp(self) -> None:
        self.registry = FakeRegistry()
        self.registry.start(reactor)
        self.image: Image = self.registry.add_image("team/app", "v1", [LARGE, SMALL])
        self.large, self.small = self.image.layers
        self.told = Told()
        self.tally = Tally()
        self.addCleanup(self.registry.stop)
        self.addCleanup(lambda: Deferred.fromCoroutine(quiet()))

    async def pull(self, *, head: bool = False) -> str:
        """What became of a pull: a failure's kind, or nothing."""
        assert self.registry.listener is not None
        puller = Puller("client", self.registry.listener.port, self.told, self.tally)
        await deferToThread(puller.pull, Wanted("v1", self.image), head)
        puller.close()
        self.assertEqual(self.tally.counts["pulls"], 1)
        return ", ".join(trouble.kind for _, _, trouble in self.tally.failed)

    def asked(self, reference: str) -> list[str | None]:
        """The ranges that were asked of it."""
        return [record.header("Range") for record in self.registry.requests if record.path.endswith(reference)]

    async def test_good(self) -> None:
        """All of an image is asked for, on one connection, and each request has an id of its own."""
        for head in (True, False):
            self.tally.counts.clear()
            self.assertEqual(await self.pull(head=head), "")
        methods = [f"{record.method} {record.kind}" for record in self.registry.requests]
        once = ["GET manifest", "GET blob", "GET blob", "GET blob"]
        self.assertEqual(methods, ["HEAD manifest", *once, "GET manifest", *once])
        self.assertEqual(len({record.header("X-Request-Id") for record in self.registry.requests[:5]}), 5)
        assert self.registry.listener is not None
        self.assertEqual(self.registry.listener.accepted, 2)

    async def test_wrong_bytes(self) -> None:
        """A body that looks whole and is not right is a failure, lie or not."""
        for kind in ("blob", "manifest"):
            self.tally.failed.clear()
            self.tally.counts.clear()
            self.told.lies = {self.image.config, self.image.digest, "v1"}
            self.registry.fault(Fault(wrong=True), kind)
            self.assertEqual(await self.pull(), WRONG)

    async def test_wrong_head(self) -> None:
        """So is a HEAD that says another digest."""
        self.registry.fault(Fault(headers=(("Docker-Content-Digest", self.small),)), "manifest")
        self.assertEqual(await self.pull(head=True), WRONG)

    async def test_status(self) -> None:
        """Any error is a failure, daemon killed or not, to HEAD and to GET."""
        self.told.kills = True
        for method in ("GET", "HEAD"):
            self.tally.failed.clear()
            self.tally.counts.clear()
            self.registry.fault(Fault(status=502), "manifest", method=method)
            self.assertEqual(await self.pull(head=True), f"502 to {method}")

    async def test_cut(self) -> None:
        """A body that is cut, though nobody was killed and nobody lied, is a failure."""
        self.registry.fault(Fault(cut=100_000), "blob", path=self.large)
        self.assertEqual(await self.pull(), "cut")

    async def test_no_answer(self) -> None:
        """So is a request without an answer."""
        self.registry.fault(Fault(hang_up=True), "manifest", times=2)
        self.assertEqual(await self.pull(), "no answer")

    async def test_resumed(self) -> None:
        """What a kill has cut is asked for from there, and checked as a whole."""
        self.told.kills = True
        self.registry.fault(Fault(cut=100_000), "blob", path=self.large)
        self.registry.fault(Fault(cut=50_000, reset=True), "blob", path=self.large)
        self.assertEqual(await self.pull(), "")
        self.assertEqual(self.asked(self.large), [None, "bytes=100000-", "bytes=150000-"])
        self.assertEqual(self.tally.counts["resumed"], 2)

    async def test_resumed_badly(self) -> None:
        """A whole body in place of the rest of it is a failure."""
        self.told.kills = True
        self.registry.fault(Fault(cut=100_000), "blob", path=self.large)
        self.registry.fault(Fault(ignore_range=True), "blob", path=self.large)
        self.assertEqual(await self.pull(), "200 to GET")

    async def test_resumed_in_vain(self) -> None:
        """After three resumptions that bring nothing it is one as well."""
        self.told.kills = True
        self.registry.fault(Fault(cut=0), "blob", path=self.large, times=None)
        self.assertEqual(await self.pull(), "cut")
        self.assertEqual(len(self.asked(self.large)), 4)

    async def test_lie(self) -> None:
        """What was cut for a lie is begun anew, if some of it must have left before that could be known."""
        self.told.lies = {self.large, self.small}
        self.registry.fault(Fault(cut=100_000), "blob", path=self.large)
        self.assertEqual(await self.pull(), "")
        self.assertEqual(self.asked(self.large), [None, None])
        self.assertEqual(self.tally.counts["anew"], 1)

    async def test_small_lie(self) -> None:
        """Of what is small nothing had to leave: cut, it is a failure."""
        self.told.lies = {self.large, self.small}
        self.registry.fault(Fault(cut=100), "blob", path=self.small)
        self.assertEqual(await self.pull(), "cut for a small lie")
