"""Nodes with directories of their own, one bucket, and one registry: all but the machines."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from crcache.asks import Ask, Client, PullBlob, PullManifest
from crcache.engine import Engine
from crcache.errors import OriginLied
from crcache.facts import Verdict
from crcache.flow.collect import collect
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.interfaces import IWatcher
from crcache.outcomes import Blob, Manifest, Relayed
from crcache.secret import Secret
from crcache.settings import Config, RegistrySettings, S3Settings, Times, UpstreamSettings
from crcache.testing.auth import Basic
from crcache.testing.bucket import FakeBucket
from crcache.testing.registry import FakeRegistry
from crcache.tier import uploads
from tests.store.case import logged_by
from tests.web.cases import AsyncTestCase, pause, reactor

REGISTRY = Registry("registry.test")
APP = Repository("team/app")
FORK = Repository("team/fork")
TAG = Tag("1.0")
#: Larger than what is held back before the verdict anyway.
LAYER = os.urandom(300_000)


class Node:
    """One machine's daemon, but for its ports.

    @ivar engine: all of it.
    """

    def __init__(self, config: Config, environ: dict[str, str]) -> None:
        self.engine = Engine(config, reactor, environ, lambda: "it is a test")
        self.root = config.cache_directory
        for workers in self.engine.workers:
            workers.start()
        self.engine.store.start()
        self.engine.open()

    async def stop(self) -> None:
        """As the daemon does, once what is known has been noted."""
        while self.engine._privacies._noting:
            await pause(0.005)
        await self.engine.fills.stop()
        await self.engine.close_upstream()
        for service in (self.engine.evictor, self.engine.scrub, self.engine.grants):
            service.stop()
        for workers in self.engine.workers:
            workers.stop()
        # What they had at hand arrives a moment later.
        await pause(0.01)

    async def ask(self, ask: Ask) -> Any:
        """The outcome."""
        return await self.engine._cache.handle(ask)

    async def manifest(
        self, reference: Tag | Digest = TAG, repository: Repository = APP, authorization: Secret | None = None
    ) -> Manifest:
        """A manifest, as a client pulls it."""
        found = await self.ask(PullManifest(_client(authorization), REGISTRY, repository, reference, True))
        assert isinstance(found, Manifest)
        return found

    async def blob(
        self, digest: Digest, repository: Repository = APP, authorization: Secret | None = None, **more: Any
    ) -> bytes:
        """A blob, as a client pulls it.

        @raise OriginLied: if it proves wrong when its client has begun to get it.
        """
        found = await self.ask(PullBlob(_client(authorization), REGISTRY, repository, digest, True, **more))
        if isinstance(found, Relayed):
            return await collect(found.answer, 1 << 30)
        assert isinstance(found, Blob)
        body = found.body
        assert body is not None
        watcher = _Watcher()
        body.watch(watcher)
        while body.verdict is Verdict.FILLING:
            await pause(0.005)
        body.unwatch(watcher)
        if body.verdict is Verdict.FAILED:
            raise body.problem or OriginLied("wrong")
        fd = body.open()
        try:
            return os.pread(fd, body.size or 0, 0)
        finally:
            os.close(fd)

    def waiting(self) -> list[str]:
        """The queue's files."""
        try:
            return [name for name in os.listdir(self.root / "uploads") if not name.startswith(".")]
        except FileNotFoundError:
            return []


@implementer(IWatcher)
class _Watcher:
    def moved(self) -> None:
        """Nothing: it is looked again and again."""


def _client(authorization: Secret | None) -> Client:
    return Client("an-id", authorization=authorization)


class TierCase(AsyncTestCase):
    """Has a bucket and a registry with an image.

    @ivar bucket: the service that has it.
    @ivar origin: the registry.
    @ivar layer: the image's layer; C{top}: its manifest.
    """

    timeout = 30
    #: Seconds for an answer of the bucket's to begin.
    patience = 1.0

    def setUp(self) -> None:
        """Begin both."""
        self.directory = Path(tempfile.mkdtemp(prefix="crcache-test-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        for name, value in (("AWS_ACCESS_KEY_ID", "AKEY"), ("AWS_SECRET_ACCESS_KEY", "a-secret-key")):
            before = os.environ.get(name)
            os.environ[name] = value
            self.addCleanup(_restore, name, before)
        for module, constant, seconds in (
            (uploads, "SPREAD", 0.01),
            (uploads, "LOOK", 0.1),
            (uploads, "NOT_YET", 0.05),
        ):
            self.patch(module, constant, seconds)
        self.logged = logged_by(self)
        self.bucket = FakeBucket()
        self.bucket.start(reactor)
        self.addCleanup(lambda: self.bucket.listener and self.bucket.stop())
        self.origin = FakeRegistry()
        self.origin.start(reactor)
        self.addCleanup(lambda: self.origin.listener and self.origin.stop())
        self.image = self.origin.add_image(str(APP), str(TAG), [LAYER])
        self.top = Digest.parse(self.image.digest)
        self.layer = Digest.of(LAYER)
        self.nodes = 0

    def settings(self, **more: Any) -> S3Settings:
        """Where the bucket is."""
        return S3Settings(**{"bucket": "cache", "endpoint": self.bucket.url, "timeout": self.patience, **more})

    def config(self, name: str, s3: S3Settings | None) -> Config:
        """Of a node whose directory is called so."""
        registry = RegistrySettings(REGISTRY, (self.origin.url or "http://127.0.0.1:9",), times=Times(60.0, 600.0, 0.0))
        return Config(
            self.directory / name,
            registries={REGISTRY: registry},
            upstream=UpstreamSettings(connect_timeout=2, first_byte_timeout=3, stall_timeout=2, retries=1),
            s3=s3,
        )

    def node(self, name: str = "", **more: Any) -> Node:
        """A node, which ends with the test."""
        self.nodes += 1
        directory = self.directory / "run"
        node = Node(
            self.config(name or f"node-{self.nodes}", self.settings(**more)), {"RUNTIME_DIRECTORY": str(directory)}
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(node.stop()))
        return node

    async def until(self, what: str, holds: Callable[[], Any], seconds: float = 30.0) -> None:
        """Come back as soon as it does."""
        for _ in range(int(seconds / 0.01)):
            if holds():
                return
            await pause(0.01)
        self.fail(f"{what}: not within {seconds:g} s")

    async def uploaded(self, node: Node) -> None:
        """Wait until nothing waits."""
        await self.until("the queue is empty", lambda: not node.waiting())

    async def pulled(self, node: Node, **how: Any) -> None:
        """A whole pull by the tag, as containerd does it."""
        manifest = await node.manifest(**how)
        self.assertEqual(manifest.digest, self.top)
        self.assertEqual((await node.manifest(self.top, **how)).digest, self.top)
        for digest in (self.image.config, *self.image.layers):
            found = await node.blob(Digest.parse(digest), **how)
            self.assertTrue(found == self.origin.content.blobs[digest])
        # Clients have all of it a moment before it is kept.
        await self.until("all is kept", lambda: not len(node.engine.fills))

    async def warm(self) -> Node:
        """A node that has pulled the image and uploaded it."""
        node = self.node()
        await self.pulled(node)
        await self.uploaded(node)
        return node

    async def cold(self) -> Node:
        """Another, after one; the origin has forgotten who asked it."""
        await self.warm()
        self.origin.requests.clear()
        self.bucket.requests.clear()
        return self.node()

    def events(self, name: str) -> list[Any]:
        """What has been logged of this kind."""
        return [event for event in self.logged if getattr(event.get("event"), "name", "") == name]

    def private(self) -> Secret:
        """Make the registry ask for a password; the client's `Authorization` that it takes."""
        self.origin.auth = Basic({"alice": "s3cret"})
        return Secret("Basic YWxpY2U6czNjcmV0")


def _restore(name: str, before: str | None) -> None:
    if before is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = before
