"""Caches before caches: what the tests of hierarchies share."""

from __future__ import annotations

import itertools
from typing import Any

from crcache.settings import ParentSettings, UpstreamSettings
from crcache.testing.daemon import Instance
from crcache.testing.registry import FakeRegistry
from tests.clients.case import NAME, REPO, ClientCase, blob_path, manifest_path
from tests.clients.http import Answer
from tests.real.processes import free_port

#: A parent that does not answer is given up within half a second.
BRISK = UpstreamSettings(connect_timeout=0.4, first_byte_timeout=1.0, stall_timeout=0.4, retries=2)


class HierarchyCase(ClientCase):
    """An origin that caches at the top ask, and another address of the same content that only those below know.

    @ivar direct: what is asked by whoever goes past its parents.
    """

    def setUp(self) -> None:
        super().setUp()
        self.direct = self.registry(self.origin.content)
        self.image = self.origin.add_image(REPO, "1.0", [300_000, 200_000])
        content = self.origin.content
        self.targets = {
            manifest_path("1.0"): self.image.manifest,
            manifest_path(self.image.digest): self.image.manifest,
            **{blob_path(each): content.blobs[each] for each in (self.image.config, *self.image.layers)},
        }
        self._ids = itertools.count()

    def top(self, **settings: Any) -> Instance:
        """A cache that asks L{origin}."""
        return self.instance(**{"upstream": BRISK, **settings})

    def below(self, *parents: Instance | FakeRegistry | str, **settings: Any) -> Instance:
        """A cache that asks these, and L{direct}."""
        urls = tuple(ParentSettings(url_of(each)) for each in parents)
        settings.setdefault("upstream", BRISK)
        return self.instance(origins={NAME: self.direct.url}, parents=urls, **settings)

    def port(self) -> int:
        """One that is free."""
        return free_port()

    async def pull(self, to: Instance, *headers: tuple[str, str]) -> list[Answer]:
        """All that the image consists of."""
        answers = [await self.ask(manifest_path("1.0"), *headers, method="HEAD", to=to)]
        answers += [await self.ask(target, *headers, to=to) for target in self.targets]
        await self.settled(to)
        return answers

    def assertPulled(self, answers: list[Answer]) -> None:
        """It is all there."""
        head, *rest = answers
        self.assertEqual(head.status, 200)
        for answer, data in zip(rest, self.targets.values(), strict=True):
            self.assertEqual((answer.status, answer.body == data, answer.complete), (200, True, True))


def url_of(parent: Instance | FakeRegistry | str) -> str:
    """Where it is asked."""
    if isinstance(parent, Instance):
        return f"http://127.0.0.1:{parent.port}"
    return parent.url if isinstance(parent, FakeRegistry) else parent
