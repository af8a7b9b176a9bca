"""One fill, whatever becomes of those who make it: daemons that share a cache directory, crash, and start again."""

from __future__ import annotations

from tests.real.daemon import Daemon
from tests.real.images import MIB, make_image
from tests.real.originlog import fetches
from tests.real.processes import until
from tests.real.scene import Download, Scene
from tests.real.statics import StaticOrigin

_NAME = "registry.test"
_REPOSITORY = "team/app"
_SIZE = 32 * MIB
_RATE = 16 * MIB


class FillingTests(Scene):
    """A blob of 32 MiB from an origin that takes two seconds over it."""

    def setUp(self) -> None:
        """Make the blob and begin the origin."""
        super().setUp()
        image = make_image(self.directory / "layout", "1.0", [_SIZE])
        self.digest = image.largest
        self.size = image.blobs[self.digest]
        self.origin = self.ending(StaticOrigin(self.directory / "origin", rate=_RATE))
        self.origin.publish(image, _REPOSITORY)
        self.origin.start()
        self.cache = self.place("cache")

    def daemon(self, name: str) -> Daemon:
        """A crcache on the one cache directory."""
        return self.crcache(self.directory / name, {_NAME: {"url": self.origin.url}}, cache=self.cache)

    def url(self, daemon: Daemon) -> str:
        """Of the blob, at that daemon."""
        return f"{daemon.url}/v2/{_REPOSITORY}/blobs/{self.digest}?ns={_NAME}"

    def download(self, daemon: Daemon) -> Download:
        """Begin to fetch the blob from that daemon."""
        return self.ending(Download(self.url(daemon), self.directory / f"body-{daemon.port}"))

    def settled(self, requests: int = 1) -> None:
        """Wait until the origin has noted the ends of so many answers: each is noted after its last byte."""
        until("the origin's log", lambda: fetches(self.origin.served())[self.digest] >= requests)

    def test_shared_directory(self) -> None:
        """Two daemons asked for a cold blob at once: the origin sends it once, both clients get all of it."""
        daemons = [self.daemon("one"), self.daemon("two")]
        downloads = [self.download(daemon) for daemon in daemons]
        self.assertEqual([download.wait() for download in downloads], [0, 0])
        self.assertEqual([download.digest() for download in downloads], [self.digest] * 2)
        self.settled()
        self.assertEqual(fetches(self.origin.served())[self.digest], 1)
        self.assertEqual(self.origin.sent(self.digest), self.size)

    def test_crashed_and_taken_over(self) -> None:
        """The daemon that fetches is killed: the one that followed goes on, and its client notices nothing."""
        first, second = self.daemon("one"), self.daemon("two")
        cut = self.download(first)
        until("the first has a third", lambda: cut.size() > self.size // 3)
        followed = self.download(second)
        until("the second has a third", lambda: followed.size() > self.size // 3)
        first.kill()
        self.assertNotEqual(cut.wait(), 0)
        self.assertEqual(followed.wait(), 0)
        self.assertEqual(followed.digest(), self.digest)
        self.settled(2)
        self.assertLessEqual(self.origin.sent(self.digest), 1.2 * self.size)

    def test_crashed_and_restarted(self) -> None:
        """The daemon is killed in the middle and starts again: it goes on from what it has."""
        daemon = self.daemon("one")
        cut = self.download(daemon)
        until("a third is there", lambda: cut.size() > self.size // 3)
        daemon.kill()
        self.assertNotEqual(cut.wait(), 0)
        daemon.restart()
        self.assertEqual(self.get(self.url(daemon)), self.digest)
        self.settled(2)
        self.assertLessEqual(self.origin.sent(self.digest), 1.2 * self.size)
        self.assertIn(206, {entry.status for entry in self.origin.served()})
