"""A request's id: what a client sent is found in every line that the request gave rise to."""

from __future__ import annotations

from twisted.logger import eventAsText

from crcache.testing.content import digest_of, noise
from crcache.testing.script import Fault
from tests.clients.case import REPO, ClientCase, blob_path, manifest_path

ID = "pull-7.of_node-3"
OURS = ("crcache.cache", "crcache.flow", "crcache.manifests", "crcache.provenance", "crcache.upstream", "crcache.web")


class RequestIdTests(ClientCase):
    """`X-Request-Id`."""

    def lines(self) -> list[str]:
        """What crcache has logged so far, and forgets now; the origin's own lines are not crcache's."""
        found = [
            eventAsText(event, includeTimestamp=False)
            for event in self.events
            if str(event.get("log_namespace", "")).startswith(OURS)
        ]
        self.events.clear()
        return found

    async def test_in_every_line(self) -> None:
        """Each line of a pull, cold, failed or resumed, has the id; and the origin is sent it."""
        image = self.origin.add_image(REPO, "1.0")
        blob = self.origin.content.add_blob(REPO, noise(300_000))
        absent = digest_of(b"absent")
        self.origin.fault(Fault(cut=100_000), "blob", times=1, path=f"/v2/{REPO}/blobs/{blob}")
        self.cache  # noqa: B018
        self.lines()
        for path in (manifest_path("1.0"), blob_path(image.layers[0]), blob_path(blob), blob_path(absent)):
            answer = await self.ask(path, ("X-Request-Id", ID))
            self.assertIn(answer.status, (200, 404))
            await self.settled()
            lines = self.lines()
            self.assertTrue(lines)
            self.assertEqual([line for line in lines if ID not in line], [])
        self.assertEqual({seen.header("X-Request-Id") for seen in self.origin.requests}, {ID})
