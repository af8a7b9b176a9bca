"""What the tests of the upstream share: a registry over real sockets, an upstream, and someone who takes the bodies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IConsumer
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from crcache.facts import Query
from crcache.grammar.digest import Digest
from crcache.grammar.hosts import HostPattern
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.interfaces import IAnswer
from crcache.policy import tour
from crcache.secret import Secret
from crcache.settings import Credential, Credentials, RegistrySettings, UpstreamSettings
from crcache.testing.auth import Auth, Tokens
from crcache.testing.content import Content
from crcache.testing.registry import FakeRegistry
from crcache.upstream.client import Upstream
from crcache.upstream.keys import Fixed, Keys

NAME = "team/app"
REPOSITORY = Repository.parse(NAME)


class Meter:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.questions: list[tuple[str, int | None]] = []
        self.bytes = 0
        self.rates: list[int] = []

    def asked(self, registry: Registry, kind: str, status: int | None) -> None:
        self.questions.append((kind, status))

    def received(self, registry: Registry, count: int) -> None:
        self.bytes += count

    def rate_limit(self, registry: Registry, remaining: int) -> None:
        self.rates.append(remaining)


@implementer(IConsumer)
class Taker:
    """Takes a body, and pauses when it is told to.

    @ivar events: register, write and unregister, in order, writes once.
    """

    def __init__(self, pause_after: int | None = None, on_write: Callable[[], object] | None = None) -> None:
        self.pieces: list[bytes] = []
        self.events: list[str] = []
        self.producer: Any = None
        self.count = 0
        self.first: Deferred[None] = Deferred()
        self._pause_after = pause_after
        self._on_write = on_write

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.events.append("register")
        self.producer = producer

    def write(self, data: bytes) -> None:
        if self.events[-1] != "write":
            self.events.append("write")
        self.pieces.append(data)
        self.count += len(data)
        if self._pause_after is not None and self.count >= self._pause_after:
            self._pause_after = None
            self.producer.pauseProducing()
        if not self.first.called:
            self.first.callback(None)
        if self._on_write is not None:
            self._on_write()

    def unregisterProducer(self) -> None:
        self.events.append("unregister")


def later(seconds: float) -> Deferred[None]:
    """Fires after so many real seconds."""
    waiting: Deferred[None] = Deferred()
    clock: Any = reactor
    clock.callLater(seconds, waiting.callback, None)
    return waiting


async def eventually(condition: Callable[[], object]) -> None:
    """Returns once the condition holds; fails after five seconds."""
    for _ in range(500):
        if condition():
            return
        await later(0.01)
    raise AssertionError("it never came about")


class AsyncTestCase(TestCase):
    """Its tests may be coroutines, which trial before Twisted 22.8 would never run."""

    timeout = 20

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, method in list(vars(cls).items()):
            if name.startswith("test") and iscoroutinefunction(method):
                setattr(cls, name, _started(method))


def _started(method: Any) -> Any:
    @wraps(method)
    def test(self: TestCase) -> Deferred[Any]:
        return Deferred.fromCoroutine(method(self))

    return test


class UpstreamCase(AsyncTestCase):
    """Starts registries and upstreams, and ends them."""

    def setUp(self) -> None:
        # Nothing is learned from waiting.
        self.patch(tour, "PAUSES", (0.02, 0.02))
        self.meter = Meter()
        self._upstreams: list[Upstream] = []
        self._registries: list[FakeRegistry] = []

    def tearDown(self) -> Deferred[Any]:  # type: ignore[override]
        closing = [upstream.close() for upstream in self._upstreams]
        stopping = [registry.stop() for registry in self._registries if registry.listener is not None]
        return gatherResults([*closing, *stopping])

    def registry(self, auth: Auth | None = None, tls: Any = None, content: Content | None = None) -> FakeRegistry:
        """A registry that listens; it holds an image of two layers unless given other content."""
        registry = FakeRegistry(content, auth)
        if content is None:
            self.image = registry.add_image(NAME, "1.0", [1000, 300_000])
        registry.start(reactor, tls)
        self._registries.append(registry)
        return registry

    def upstream(
        self,
        *urls: str,
        credential: Credential | None = None,
        clock: Any = None,
        environ: Mapping[str, str] | None = None,
        settings: UpstreamSettings | None = None,
        on_reactor: Any = None,
        keys: Keys | None = None,
        **trust: Any,
    ) -> Upstream:
        """An upstream whose every registry has those URLs, and may send it to any other that listens here.

        @param keys: in place of C{credential}.
        """
        trust.setdefault("trusted_hosts", (HostPattern("127.0.0.1"),))
        entries: dict[tuple[Registry, tuple[str, ...]], Credential] = {}
        if credential is not None:
            entries[self.name, ()] = credential
        upstream = Upstream(
            on_reactor or reactor,
            settings or UpstreamSettings(connect_timeout=3.0, first_byte_timeout=6.0, stall_timeout=3.0),
            lambda registry: RegistrySettings(registry, urls, **trust),
            keys or Fixed(Credentials(entries)),
            self.meter,  # type: ignore[arg-type]
            environ or {},
            clock,
        )
        self._upstreams.append(upstream)
        return upstream

    name = Registry.parse("registry.example.com")

    def blob(self, layer: int = 1, **further: Any) -> Query:
        """Asks for a layer of the image."""
        digest = Digest.parse(self.image.layers[layer])
        return Query(self.name, REPOSITORY, "blob", digest, further.pop("request_id", "rid-1"), **further)

    def manifest(self, reference: str = "1.0", **further: Any) -> Query:
        """Asks for a manifest by its tag or digest."""
        parsed = Digest.parse(reference) if ":" in reference else Tag.parse(reference)
        return Query(self.name, REPOSITORY, "manifest", parsed, "rid-1", **further)

    async def get(self, upstream: Upstream, query: Query) -> tuple[IAnswer, bytes]:
        """The answer and its whole body."""
        answer = await upstream.ask(query)
        taker = Taker()
        await answer.deliver(taker)
        return answer, taker.body

    def events(self) -> list[Any]:
        """The log's events from now on."""
        seen: list[Any] = []
        observer: Any = seen.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return seen

    def directory(self) -> Path:
        """An empty directory."""
        path = Path(self.mktemp())
        path.mkdir(parents=True)
        return path


class Negotiating(UpstreamCase):
    """Registries that want to know who asks."""

    def tokens(self, **further: Any) -> Tokens:
        return Tokens(users={"puller": "secret1"}, **further)

    async def fetch(self, upstream: Any, **further: Any) -> int:
        answer, _ = await self.get(upstream, self.blob(**further))
        return answer.status


def password(text: str = "secret1", user: str = "puller") -> Credential:
    """A user's credential."""
    return Credential(user, Secret(text))
