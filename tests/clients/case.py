"""What the tests of whole pulls share: an origin, a crcache before it, and clients."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from crcache.settings import Times, UpstreamSettings
from crcache.tap import build
from crcache.testing.daemon import Instance
from crcache.testing.registry import FakeRegistry
from tests.clients.http import Answer, request, send
from tests.web.cases import AsyncTestCase, pause, quiet, reactor

#: The registry, as clients name it.
NAME = "registry.test"
#: The repository that most tests pull from.
REPO = "library/app"

MANIFEST_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)

#: Quick to give up, for tests of origins that fail.
IMPATIENT = UpstreamSettings(connect_timeout=2.0, first_byte_timeout=1.0, stall_timeout=0.4, retries=1)


class ClientCase(AsyncTestCase):
    """One origin, one crcache.

    @ivar origin: what crcache pulls from.
    @ivar cache: crcache.
    """

    timeout = 20

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        self._observe(observer)
        self.origin = self.registry()
        self._cache: Instance | None = None
        self.addCleanup(lambda: Deferred.fromCoroutine(quiet()))

    def _observe(self, observer: ILogObserver) -> None:
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def registry(self, *args: Any, tls: Any = None) -> FakeRegistry:
        """Another origin, with the arguments of L{FakeRegistry}."""
        made = FakeRegistry(*args)
        made.start(reactor, tls)
        self.addCleanup(lambda: made.stop() if made.listener is not None else None)
        return made

    def directory(self) -> Path:
        """An empty directory."""
        path = Path(self.mktemp())
        path.mkdir(parents=True)
        return path.absolute()

    def instance(self, directory: Path | None = None, **settings: Any) -> Instance:
        """Another crcache, before L{origin} if C{registries} does not say otherwise."""
        origins = {NAME: self.origin.url}
        settings.setdefault("times", Times(tag_ttl=60.0, negative_ttl=0.0))
        made = Instance(build, reactor, directory or self.directory(), settings.pop("origins", origins), **settings)
        made.start()
        self.addCleanup(made.stop)
        return made

    @property
    def cache(self) -> Instance:
        """The crcache of this test, made when it is first spoken of."""
        if self._cache is None:
            self._cache = self.instance()
        return self._cache

    @cache.setter
    def cache(self, instance: Instance) -> None:
        self._cache = instance

    # Asking

    async def begin(
        self, target: str, *headers: tuple[str, str], method: str = "GET", to: Instance | None = None
    ) -> Answer:
        """Put a request, and return its answer before it has come."""
        answer = await send((to or self.cache).port, request(target, *headers, method=method))
        self.addCleanup(answer.leave)
        return answer

    async def ask(
        self, target: str, *headers: tuple[str, str], method: str = "GET", to: Instance | None = None
    ) -> Answer:
        """Put a request, and return its whole answer."""
        return await (await self.begin(target, *headers, method=method, to=to)).end()

    async def admin(self, path: str) -> Answer:
        """What the admin listener says."""
        return await (await send(self.cache.admin_port, request(path))).end()

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        total = 0.0
        for line in (await self.admin("/metrics")).body.decode().splitlines():
            sample, _, value = line.rpartition(" ")
            found, _, rest = sample.partition("{")
            if found == name and all(f'{label}="{wanted}"' in rest for label, wanted in labels.items()):
                total += float(value)
        return total

    async def metric_becomes(self, expected: float, name: str, **labels: str) -> None:
        """Wait until a metric, as L{metric} says, has this value; fail after some seconds."""
        for _ in range(400):
            if await self.metric(name, **labels) == expected:
                return
            await pause(0.01)
        self.assertEqual(await self.metric(name, **labels), expected)

    async def settled(self, instance: Instance | None = None) -> None:
        """Wait until all that has been fetched is in its place, which is a moment after clients have it."""
        await eventually(lambda: not [path for path in self.trace(instance) if path.startswith("ingest/")])

    def assertHit(self, answer: Answer) -> None:
        """It came from disk."""
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.one("Cache-Status"), "crcache; hit")

    def trace(self, instance: Instance | None = None) -> list[str]:
        """Every file and directory below the cache directory, but those that say how much there is."""
        root = (instance or self.cache).config.cache_directory
        # Not rglob, which fails if a directory vanishes meanwhile.
        found = [os.path.join(at, name) for at, below, files in os.walk(root) for name in (*below, *files)]
        names = (os.path.relpath(path, root) for path in found)
        return sorted(name for name in names if name.partition("/")[0] != "eviction")


def blob_path(digest: str, repository: str = REPO, ns: str | None = NAME) -> str:
    """Where a blob is asked for."""
    return f"/v2/{repository}/blobs/{digest}" + ("" if ns is None else f"?ns={ns}")


def manifest_path(reference: str, repository: str = REPO, ns: str | None = NAME) -> str:
    """Where a manifest is asked for."""
    return f"/v2/{repository}/manifests/{reference}" + ("" if ns is None else f"?ns={ns}")


def remove(directory: Path) -> None:
    """Remove a cache directory that is in use: what is there is counted just now, perhaps."""
    for _ in range(1000):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
    raise AssertionError(f"{directory} cannot be removed")


async def eventually(condition: Callable[[], object]) -> None:
    """Returns once the condition holds; fails after some seconds."""
    for _ in range(800):
        if condition():
            return
        await pause(0.01)
    raise AssertionError("it never came about")
