"""Private images over real sockets: kept, and served to those whom the registry lets in."""

from __future__ import annotations

from pathlib import Path

from crcache import events
from crcache.flow import lending
from crcache.grammar.reference import Registry
from crcache.settings import RegistrySettings, Times, UpstreamSettings
from crcache.testing.auth import Basic, Tokens, basic
from crcache.testing.content import digest_of, noise
from crcache.testing.daemon import Instance
from crcache.testing.script import Fault
from tests.clients.case import IMPATIENT, NAME, REPO, ClientCase, blob_path, eventually, manifest_path
from tests.clients.http import Answer

EVIL = "evil.test"
MIB = 1 << 20
LARGE = noise(3 * MIB + 5)


class PrivateCase(ClientCase):
    """An image behind tokens, and processes that share a cache directory and a runtime directory.

    @cvar upstream: how patient crcache is.
    @ivar targets: what a pull of the image asks for, and what it has to get.
    """

    upstream = IMPATIENT

    def setUp(self) -> None:
        super().setUp()
        self.now = 1_800_000_000.0
        self.tokens = Tokens(users={"alice": "wonderland", "bob": "builder"}, anonymous=())
        self.origin.auth = self.tokens
        self.image = self.origin.add_image(REPO, "1.0")
        blobs = {blob_path(each): self.origin.content.blobs[each] for each in self.image.layers}
        self.targets = {
            manifest_path("1.0"): self.image.manifest,
            manifest_path(self.image.digest): self.image.manifest,
            **blobs,
        }
        self.shared, self.runtime = self.directory(), self.directory()
        self.cache = self.process()

    def process(self, **settings: object) -> Instance:
        """One of them."""
        times = Times(tag_ttl=60.0, negative_ttl=0.0)
        environ = {"RUNTIME_DIRECTORY": str(self.runtime)}
        settings.setdefault("upstream", self.upstream)
        return self.instance(self.shared, environ=environ, times=times, day=lambda: self.now, **settings)

    def bearer(self, user: str = "alice", repository: str = REPO) -> tuple[str, str]:
        """A token of a user, new each time."""
        return "Authorization", "Bearer " + self.tokens.issue(user, [f"repository:{repository}:pull"])

    async def pull(self, *headers: tuple[str, str], to: Instance | None = None) -> list[Answer]:
        """All that the image consists of."""
        answers = [await self.ask(target, *headers, to=to) for target in self.targets]
        await self.settled(to)
        return answers

    def assertPulled(self, answers: list[Answer], status: str | None = None) -> None:
        """It is all there; with this C{Cache-Status}, if that is said."""
        for answer, data in zip(answers, self.targets.values(), strict=True):
            self.assertEqual((answer.status, answer.body, answer.complete), (200, data, True))
            if status is not None:
                self.assertEqual(answer.one("Cache-Status"), status)

    def assertRefused(self, answers: list[Answer]) -> None:
        """Each is a 401 with a challenge."""
        for answer in answers:
            self.assertEqual((answer.status, answer.code), (401, "UNAUTHORIZED"))
            self.assertTrue((answer.one("WWW-Authenticate") or "").startswith("Bearer realm="))

    def asked(self) -> list[tuple[str, str]]:
        """Methods and kinds of what the origin has been asked since this was called last, without tokens."""
        found = [(record.method, record.kind) for record in self.origin.requests if record.kind != "token"]
        self.origin.requests.clear()
        return found


class PullTests(PrivateCase):
    """Whole pulls."""

    async def test_warm(self) -> None:
        """The second pull, with another token, costs the origin one HEAD; the same token then costs nothing."""
        self.assertPulled(await self.pull(self.bearer()))
        self.asked()
        bearer = self.bearer("bob")
        self.assertPulled(await self.pull(bearer), "crcache; hit")
        self.assertEqual(self.asked(), [("HEAD", "manifest")])
        self.assertPulled(await self.pull(bearer), "crcache; hit")
        self.assertEqual(self.asked(), [])

    async def test_strangers(self) -> None:
        """Those without credentials, with wrong ones, or with ones for another repository get none of it."""
        self.assertPulled(await self.pull(self.bearer()))
        self.assertRefused(await self.pull())
        self.assertRefused(await self.pull(("Authorization", "Bearer wrong")))
        self.assertRefused(await self.pull(self.bearer("bob", "team/other")))
        self.assertRefused([await self.ask(each, ("Range", "bytes=0-1")) for each in self.targets if "blobs" in each])

    async def test_basic(self) -> None:
        """Passwords are proved as tokens are."""
        self.origin.auth = Basic({"alice": "wonderland"})
        own = "Authorization", basic("alice", "wonderland")
        self.assertPulled(await self.pull(own))
        self.asked()
        self.assertPulled(await self.pull(own), "crcache; hit")
        self.assertEqual(self.asked(), [])
        for answer in await self.pull(("Authorization", basic("alice", "wrong"))):
            self.assertEqual((answer.status, answer.one("WWW-Authenticate")), (401, 'Basic realm="fake registry"'))

    async def test_origin_down(self) -> None:
        """With the origin gone the known are served, also a stale tag; others get the challenge that was kept."""
        bearer = self.bearer()
        self.assertPulled(await self.pull(bearer))
        await self.origin.stop()
        self.assertPulled(await self.pull(bearer))
        for _ in range(2):
            self.assertRefused(await self.pull())
            self.assertRefused(await self.pull(self.bearer("bob")))
            self.now += 61
        told = [event for event in self.events if event.get("event") is events.ACCESS_UNKNOWN]
        self.assertTrue(told)
        self.assertEqual({(event["registry"], event["repository"]) for event in told}, {(NAME, REPO)})

    async def test_configured_open(self) -> None:
        """With C{access: open} whoever asks is served what somebody has fetched."""
        await self.cache.stop()
        settings = RegistrySettings(Registry(NAME), (self.origin.url,), access="open")
        self.cache = self.process(registries={settings.registry: settings})
        self.assertRefused(await self.pull())
        self.assertPulled(await self.pull(self.bearer()))
        self.assertPulled(await self.pull(), "crcache; hit")


class ProcessTests(PrivateCase):
    """Several processes of a host, and one after another."""

    async def test_one_for_all(self) -> None:
        """Whom one of them let in, the others serve without a question."""
        other = self.process()
        bearer = self.bearer()
        self.assertPulled(await self.pull(bearer))
        await eventually(lambda: len(list((self.runtime / "grants").iterdir())) > 1)
        self.asked()
        self.assertPulled(await self.pull(bearer, to=other), "crcache; hit")
        self.assertEqual(self.asked(), [])
        self.assertRefused(await self.pull(to=other))

    async def test_restart(self) -> None:
        """A restart forgets neither the private content, nor whose it is, nor who was let in."""
        bearer = self.bearer()
        self.assertPulled(await self.pull(bearer))
        await self.cache.stop()
        self.cache = self.process()
        self.asked()
        self.assertPulled(await self.pull(bearer), "crcache; hit")
        self.assertEqual(self.asked(), [])
        self.assertRefused(await self.pull())

    async def test_turned_private(self) -> None:
        """What one process notices of a repository that was open, holds for the others."""
        self.origin.auth = Tokens(users={}, anonymous=("",))
        self.assertPulled(await self.pull())
        other = self.process()
        self.assertPulled(await self.pull(to=other), "crcache; hit")
        self.origin.auth = self.tokens
        self.now += 61
        self.assertEqual((await self.ask(manifest_path("1.0"))).status, 401)
        noted = self.shared / "registries" / NAME / REPO / "_private"
        await eventually(noted.exists)
        await self.origin.stop()
        self.assertRefused(await self.pull(to=other))

    async def test_nothing_legible(self) -> None:
        """Neither the cache directory nor the runtime directory holds anything of the credentials."""
        bearer = self.bearer()
        self.assertPulled(await self.pull(bearer))
        await eventually(lambda: len(list((self.runtime / "grants").iterdir())) > 1)
        token = bearer[1].removeprefix("Bearer ").encode()
        for root in (self.shared, self.runtime):
            for path in root.rglob("*"):
                self.assertNotIn(token.decode(), str(path))
                self.assertFalse(path.is_file() and token in path.read_bytes(), path)


class AttackTests(PrivateCase):
    """Somebody runs a registry of his own, and knows all private digests."""

    def setUp(self) -> None:
        super().setUp()
        self.evil = self.registry()
        self.cache = self.instance(self.directory(), origins={NAME: self.origin.url, EVIL: self.evil.url})
        self.private = [path.split("?")[0] for path in self.targets if "sha256:" in path]

    async def assertClosed(self) -> None:
        """His registry, that now says to HEADs that it has the layers, leads to none of them."""
        for digest in self.image.layers:
            size = str(len(self.origin.content.blobs[digest]))
            head = Fault(status=200, headers=(("Docker-Content-Digest", digest), ("Content-Length", size)))
            self.evil.fault(head, "blob", path=digest, method="HEAD", times=None)
            for headers in ((), (("Range", "bytes=0-9"),), (("Authorization", "Bearer his"),)):
                for method in ("HEAD", "GET", "HEAD", "GET"):
                    answer = await self.ask(blob_path(digest, ns=EVIL), *headers, method=method)
                    self.assertNotIn(self.origin.content.blobs[digest][:10], answer.body)
                    if method == "GET":
                        self.assertEqual(answer.status, 404)

    async def test_named(self) -> None:
        """A manifest of his names the private layers, an index the private manifest, HEADs say that he has them all:
        none of it opens what he cannot send himself."""
        self.assertPulled(await self.pull(self.bearer()))
        tag = self.evil.content.add_manifest(REPO, self.image.manifest, self.image.media_type, "1.0")
        self.assertEqual(tag, self.image.digest)
        # He has the manifest, and so may name what it names.
        self.assertEqual((await self.ask(manifest_path("1.0", ns=EVIL))).body, self.image.manifest)
        await self.assertClosed()

    async def test_other_repositories(self) -> None:
        """Nor does another repository of the same registry, to which he may push names alone."""
        self.assertPulled(await self.pull(self.bearer()))
        his = self.bearer("bob", "bob/own")
        for digest in (*self.image.layers, self.image.digest):
            for target in (blob_path(digest, "bob/own"), manifest_path(digest, "bob/own")):
                self.assertEqual((await self.ask(target, his)).status, 404)

    async def test_turned(self) -> None:
        """Nor what was open until a moment ago: everyone was given it, and he has named it since before that."""
        self.origin.auth = Tokens(users={}, anonymous=("",))
        self.cache = self.instance(
            self.directory(), origins={NAME: self.origin.url, EVIL: self.evil.url}, day=lambda: self.now
        )
        self.assertPulled(await self.pull())
        self.evil.content.add_manifest(REPO, self.image.manifest, self.image.media_type, "1.0")
        self.assertEqual((await self.ask(manifest_path("1.0", ns=EVIL))).status, 200)
        layers = self.image.layers
        for digest in layers:
            self.assertEqual((await self.ask(blob_path(digest, ns=EVIL))).body, self.origin.content.blobs[digest])
        self.origin.auth = self.tokens
        self.now += 61
        self.assertEqual((await self.ask(manifest_path("1.0"))).status, 401)
        await eventually(
            lambda: not [path for path in self.trace() if path.startswith("openly/") and layers[0][7:] in path]
        )
        await self.assertClosed()
        self.assertRefused(await self.pull())
        self.assertPulled(await self.pull(self.bearer()))

    async def test_while_it_comes(self) -> None:
        """Nor while it is being fetched for those who may."""
        digest = self.origin.content.add_blob(REPO, LARGE)
        self.assertRefused([await self.ask(manifest_path("1.0"))])
        rule = self.origin.fault(Fault(stall=MIB), "blob")
        answer = await self.begin(blob_path(digest), self.bearer())
        await answer.until(1000)
        self.assertEqual((await self.ask(blob_path(digest, ns=EVIL))).status, 404)
        self.assertEqual((await self.ask(blob_path(digest, "bob/own"), self.bearer("bob", "bob/own"))).status, 404)
        self.assertEqual((await self.ask(blob_path(digest))).status, 401)
        self.assertEqual((await self.ask(blob_path(digest), ("Authorization", "Bearer wrong"))).status, 401)
        rule.release()
        self.assertEqual(digest_of((await answer.end()).body), digest)

    async def test_shown(self) -> None:
        """What he can send himself, all of it, comes from disk afterwards, for his registry's name too."""
        self.assertPulled(await self.pull(self.bearer()))
        layer = self.image.layers[0]
        data = self.origin.content.blobs[layer]
        self.evil.content.add_blob(REPO, data)
        first = await self.ask(blob_path(layer, ns=EVIL))
        self.assertEqual((first.body, first.one("Cache-Status")), (data, "crcache; fwd=bypass"))

        async def hit() -> bool:
            answer = await self.ask(blob_path(layer, ns=EVIL))
            return answer.body == data and answer.one("Cache-Status") == "crcache; hit"

        self.assertTrue(await hit())
        self.assertEqual((await self.ask(blob_path(layer))).status, 401)


class FillTests(PrivateCase):
    """Private content that is long in coming."""

    upstream = UpstreamSettings()

    def setUp(self) -> None:
        super().setUp()
        self.patch(lending, "MOMENT", 0.3)
        self.patch(lending, "LINGER", 0.1)
        self.digest = self.origin.content.add_blob(REPO, LARGE)
        self.target = blob_path(self.digest)

    def marks(self) -> list[Path]:
        """What is in progress."""
        return list((self.shared / "ingest").glob("*.marks"))

    async def test_pauses(self) -> None:
        """When its client leaves, it pauses; the next one, with a token of its own, goes on from there."""
        self.assertRefused([await self.ask(manifest_path("1.0"))])
        rule = self.origin.fault(Fault(stall=2 * MIB), "blob")
        answer = await self.begin(self.target, self.bearer())
        await answer.until(MIB)
        answer.leave()
        self.assertEqual(len(self.marks()), 1)
        await self.metric_becomes(0, "crcache_fills")
        rule.release()
        self.origin.script.clear()
        self.origin.requests.clear()
        found = await self.ask(self.target, self.bearer("bob"))
        self.assertEqual((found.status, found.body == LARGE), (200, True))
        spans = [record.header("Range") for record in self.origin.asked("blob") if record.status == 206]
        self.assertTrue(spans and spans[0] and spans[0] >= "bytes=1048576-", spans)
        await self.settled()
        self.assertEqual(self.marks(), [])

    async def test_two_clients(self) -> None:
        """If one of two clients leaves, it goes on with what the other brought."""
        self.assertRefused([await self.ask(manifest_path("1.0"))])
        rule = self.origin.fault(Fault(stall=MIB, cut=MIB), "blob")
        first = await self.begin(self.target, self.bearer())
        await first.until(1000)
        second = await self.begin(self.target, self.bearer("bob"))
        await second.until(1000)
        first.leave()
        rule.release()
        whole = await second.end()
        self.assertEqual((whole.complete, whole.body == LARGE), (True, True))
