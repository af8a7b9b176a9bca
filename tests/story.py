"""What the tests of the cache's story share: all of it in memory, with an origin that is told what to answer."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crcache.access import Access
from crcache.asks import Ask, Client, PullBlob, PullManifest
from crcache.blobs import Blobs
from crcache.cache import Cache
from crcache.confirming import Confirming
from crcache.errors import CrcacheError, StoreError
from crcache.facts import Query, Verdict
from crcache.flow.fills import Fills
from crcache.flow.tools import Tools
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import OCI_INDEX, OCI_MANIFEST
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.grants.grants import Grants
from crcache.grants.moments import Moment
from crcache.interfaces import IAnswer
from crcache.manifests import Manifests
from crcache.origin import Origin
from crcache.outcomes import Blob, Manifest, Outcome, Relayed
from crcache.privacies import Privacies
from crcache.provenance import Provenance
from crcache.rules import Rules
from crcache.secret import Secret
from crcache.settings import ACCESS_VERIFY, Times
from crcache.store.memory import Memory
from crcache.testing.fakes import FakeMeter
from crcache.testing.upstream import FakeUpstream, Turn
from crcache.witness import Witness
from crcache.workers import Inline

E = TypeVar("E", bound=CrcacheError)

REGISTRY = Registry("registry.test")
OTHER_REGISTRY = Registry("other.test")
REPOSITORY = Repository("team/app")
OTHER_REPOSITORY = Repository("team/fork")
TAG = Tag("1.0")

LAYER = b"a layer's bytes" * 5000
CONFIG = b'{"architecture": "amd64"}'
CHALLENGE = 'Bearer realm="https://auth.test/token",service="a,b",scope="repository:team/app:pull"'
TIMES = Times(tag_ttl=60.0, stale_if_error=600.0, negative_ttl=10.0)
#: What a client brings.
TOKEN = Secret("Bearer of-the-client")


def image(*layers: bytes, media_type: str = OCI_MANIFEST, note: str = "") -> bytes:
    """A manifest of these layers."""
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": _descriptor(CONFIG, "application/vnd.oci.image.config.v1+json"),
        "layers": [_descriptor(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers],
        "annotations": {"note": note},
    }
    return json.dumps(document).encode()


def index(*manifests: bytes) -> bytes:
    """An index of these manifests."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [_descriptor(each, OCI_MANIFEST) for each in manifests],
    }
    return json.dumps(document).encode()


def _descriptor(data: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}


class MovableClock:
    """The time of day, as the test sets it.

    @ivar now: in seconds since the epoch.
    """

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Fragile(Memory):
    """A store in memory that fails where it is told to.

    @ivar broken: names of methods that fail.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.broken: set[str] = set()

    def __getattribute__(self, name: str) -> Any:
        if name != "broken" and name in self.broken:
            return lambda *_, **__: fail(StoreError("the disk is on fire"))
        return super().__getattribute__(name)


class StoryCase(SynchronousTestCase):
    """A cache whose every part but the origin and the disk is the real one, and all of whose work is done at once.

    @ivar day: the time of day.
    @ivar clock: what timers go by.
    @ivar access: C{access} of every registry.
    """

    access = ACCESS_VERIFY

    def setUp(self) -> None:
        self.day = MovableClock()
        self.clock = Clock()
        self.store = Fragile(self.day)
        self.upstream = FakeUpstream()
        self.meter = FakeMeter()
        self.build()
        self._relayed: list[IAnswer] = []
        self.addCleanup(self._nothing_left_open)

    def _nothing_left_open(self) -> None:
        """What was not passed on to be relayed has been read, or given up: else its connection were lost for good."""
        unread = [answer for answer in self.upstream.answers if answer._done is None and not answer.aborted]
        self.assertEqual([answer for answer in unread if answer not in self._relayed], [])

    def build(
        self,
        *,
        cache_manifests: bool = True,
        ignore: str = "latest",
        times: Times = TIMES,
    ) -> None:
        """A new cache, on the same disk and before the same origin."""
        work = Inline()
        self.grants = Grants(None, work, self.clock, lambda: Moment(self.day.now, self.day.now))
        self.privacies = privacies = Privacies(self.store, self.day, lambda _: times.negative_ttl)
        witness = Witness(self.upstream, self.grants, privacies)
        self.origin = Origin(witness, privacies)
        access = Access(self.store, witness, self.grants, privacies, lambda _: self.access)
        self.provenance = Provenance(self.store, self.origin, privacies, work, self.day, cache_manifests)
        rules = Rules(cache_manifests, re.compile(ignore), lambda _: times)
        tools = Tools(self.clock, self.store, witness, work, self.meter, lambda _: None)
        manifests = Manifests(self.store, self.provenance, access, rules, self.day)
        self.fills = Fills(tools)
        confirming = Confirming(self.store, self.origin, work, self.day)
        blobs = Blobs(self.store, self.origin, access, self.fills, confirming, self.day)
        self.cache = Cache(self.origin, access, manifests, blobs)

    # What the origin has

    def add(self, data: bytes, *tags: Tag, media_type: str = "application/octet-stream") -> Digest:
        """Put content at the origin, under its digest and these tags."""
        digest = Digest.of(data)
        references: tuple[Digest | Tag, ...] = (digest, *tags)
        for reference in references:
            self.upstream.content[reference] = data
            self.upstream.types[reference] = media_type
        return digest

    def add_image(self, *tags: Tag, note: str = "", media_type: str = OCI_MANIFEST) -> Digest:
        """Put an image of one layer at the origin."""
        self.add(LAYER)
        self.add(CONFIG)
        return self.add(image(LAYER, media_type=media_type, note=note), *tags, media_type=media_type)

    def always(self, turn: Turn | None) -> None:
        """How every question is answered from now on; C{None}: as it should be."""
        self.upstream.rule = lambda _: turn

    def close_to_strangers(self, status: int = 401) -> None:
        """The origin wants the client's credentials from now on."""
        turn = Turn(status=status, headers={"WWW-Authenticate": CHALLENGE})
        self.upstream.rule = lambda query: None if query.authorization == TOKEN else turn

    def asked(self) -> list[str]:
        """What the origin has been asked since this was called last: methods and references."""
        queries, self.upstream.queries = self.upstream.queries, []
        return [f"{query.method} {query.reference}" for query in queries]

    def queries(self) -> list[Query]:
        """The same, as they are."""
        queries, self.upstream.queries = self.upstream.queries, []
        return queries

    # Asking

    def client(self, *accept: str, authorization: Secret | None = None) -> Client:
        """A client with these C{Accept} lines."""
        return Client("id-1", accept, authorization)

    def manifest(
        self,
        reference: Tag | Digest = TAG,
        *accept: str,
        body: bool = True,
        authorization: Secret | None = None,
        registry: Registry = REGISTRY,
        repository: Repository = REPOSITORY,
    ) -> PullManifest:
        """Asks for a manifest."""
        return PullManifest(self.client(*accept, authorization=authorization), registry, repository, reference, body)

    def blob(
        self,
        digest: Digest,
        *,
        body: bool = True,
        authorization: Secret | None = None,
        registry: Registry = REGISTRY,
        repository: Repository = REPOSITORY,
        span: tuple[int, int | None] | None = None,
        suffix: int | None = None,
    ) -> PullBlob:
        """Asks for a blob."""
        return PullBlob(self.client(authorization=authorization), registry, repository, digest, body, span, suffix)

    def outcome(self, ask: Ask) -> Outcome:
        """What comes of an ask, at once."""
        found = self.successResultOf(self.cache.handle(ask))
        if isinstance(found, Relayed):
            self._relayed.append(found.answer)
        return found

    def pull(self, ask: PullManifest | None = None) -> Manifest:
        """The manifest; of L{TAG}, if it is not said."""
        return self.pulled(self.cache.handle(ask or self.manifest()))

    def pulled(self, handling: Deferred[Outcome]) -> Manifest:
        """The manifest that an ask under way has ended with."""
        found = self.successResultOf(handling)
        assert isinstance(found, Manifest), found
        return found

    def fetch(self, ask: PullBlob) -> tuple[Blob, bytes]:
        """The blob that an ask is answered with, and its bytes once they are all there."""
        found = self.outcome(ask)
        assert isinstance(found, Blob), found
        return found, self.read(found)

    def read(self, found: Blob) -> bytes:
        """The bytes of a blob, once they are all there."""
        assert found.body is not None
        self.settle()
        self.assertIs(found.body.verdict, Verdict.VERIFIED)
        with os.fdopen(found.body.open(), "rb") as source:
            return os.pread(source.fileno(), (found.body.size or 0) + 1, 0)

    def settle(self) -> None:
        """Let fills end."""
        for _ in range(20):
            self.clock.advance(0.01)

    def refusal(self, ask: Ask, expected: type[E]) -> E:
        """The error that an ask ends with."""
        failure = self.failureResultOf(self.cache.handle(ask), expected)
        error: E = failure.value
        return error

    def written(self) -> int:
        """How much is kept: content, memberships, tags and fills."""
        store = self.store
        return len(store.contents) + len(store.members) + len(store.tags) + len(store.fills)
