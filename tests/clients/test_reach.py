"""Whom a whole crcache asks, and whom it does not, whatever clients, registries and resolvers say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from crcache import events
from crcache.grammar.hosts import HostPattern
from crcache.grammar.reference import Registry
from crcache.secret import Secret
from crcache.settings import Credential, Credentials, Reach, RegistrySettings
from crcache.tap import build
from crcache.testing.auth import Tokens
from crcache.testing.certificates import Authority
from crcache.testing.content import noise
from crcache.testing.daemon import Instance
from crcache.testing.registry import FakeRegistry
from crcache.testing.script import Fault
from tests.clients import test_reload
from tests.clients.case import REPO, ClientCase, blob_path, eventually, manifest_path
from tests.clients.http import Answer
from tests.clients.test_reload import ReloadCase
from tests.upstream.internet import ANOTHER, PUBLIC, Internet
from tests.upstream.test_guard import restore

MIB = 1 << 20
DATA = noise(2 * MIB + 17)
#: A registry that is at a public address, as far as crcache knows, and that nobody has named.
STRANGE = "strange.test"


class ReachCase(ClientCase):
    """An internet of the test's own.

    @ivar internet: what crcache sees of the network.
    @ivar strange: a registry at a public address.
    """

    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority()
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = str(self.authority.write(self.directory()))
        self.addCleanup(restore, before)
        self.internet = Internet()
        self.strange = self.public(STRANGE)
        self.image = self.strange.add_image(REPO, "1.0", [DATA])
        self.layer = blob_path(self.image.layers[0], ns=STRANGE)

    def public(self, name: str, *addresses: str, at: int = 443, content: Any = None, auth: Any = None) -> FakeRegistry:
        """A registry with TLS at public addresses."""
        made = self.registry(content, auth, tls=self.authority.context([name]))
        assert made.listener is not None
        self.internet.put(name, made.listener.port, *addresses, at=at)
        return made

    def instance(self, directory: Path | None = None, **settings: Any) -> Instance:
        """A crcache that sees no other internet; it has no registries but those of C{registries} and C{origins}."""
        made = Instance(build, self.internet, directory or self.directory(), settings.pop("origins", {}), **settings)
        made.start()
        self.addCleanup(made.stop)
        return made

    def assertRefused(self, answer: Answer, *parts: str) -> None:
        """403 C{DENIED} with a message that has these parts."""
        self.assertEqual(answer.status, 403, answer.body)
        (error,) = json.loads(answer.body)["errors"]
        self.assertEqual(error["code"], "DENIED")
        for part in parts:
            self.assertIn(part, error["message"])

    def assertUntouched(self) -> None:
        """Nothing has been resolved or dialled."""
        self.assertEqual((self.internet.resolved, self.internet.dialled), ([], []))


class AddressTests(ReachCase):
    """Registries that nobody has named."""

    async def test_public(self) -> None:
        """One at a public address is pulled from."""
        self.assertEqual((await self.ask(manifest_path("1.0", ns=STRANGE))).body, self.image.manifest)
        answer = await self.ask(self.layer)
        self.assertTrue(answer.complete and answer.body == DATA)

    async def test_private(self) -> None:
        """One whose name means a private address is not, for any kind of request; nothing is dialled, nothing kept."""
        for address in ("127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1"):
            self.internet.names[STRANGE] = [(address,)]
            for target in (
                *(manifest_path("1.0", ns=STRANGE), manifest_path(self.image.digest, ns=STRANGE), self.layer),
                *(f"/v2/{REPO}/tags/list?ns={STRANGE}", f"/v2/{STRANGE}/{REPO}/manifests/1.0"),
            ):
                answer = await self.ask(target)
                self.assertRefused(answer, STRANGE, "name it under registries")
                self.assertNotIn(address.encode(), answer.body)
                head = await self.ask(target, method="HEAD")
                self.assertEqual(head.status, 403)
        self.assertEqual((self.internet.dialled, self.strange.requests), ([], []))
        await self.settled()
        self.assertFalse([path for path in self.trace() if "blobs/" in path])
        failing = json.loads((await self.admin("/api/status")).body)["failing"]
        self.assertEqual(failing, [])

    async def test_named_elsewhere(self) -> None:
        """Credentials for it, being allowed, or being the default registry do not make it one that is named."""
        self.internet.names[STRANGE] = [("127.0.0.1",)]
        registry = Registry.parse(STRANGE)
        self.cache = self.instance(
            credentials=Credentials({(registry, ()): Credential("puller", Secret("secret1"))}),
            reach=Reach(allow=(HostPattern(STRANGE),)),
            default_registry=registry,
        )
        self.assertRefused(await self.ask(manifest_path("1.0", ns=STRANGE)), "name it under registries")
        docker = "User-Agent", "docker/27.3.1 go/go1.22.7"
        self.assertRefused(await self.ask(manifest_path("1.0", ns=None), docker), "name it under registries")
        self.assertEqual(self.internet.dialled, [])
        self.assertEqual(await self.metric("crcache_requests_total", registry=STRANGE, status="403"), 2)

    async def test_rebinding(self) -> None:
        """A name that is public at first and private for the next connection gets no further; what is here already is
        served all the same."""
        await self.ask(manifest_path("1.0", ns=STRANGE))
        self.internet.names[STRANGE] = [("127.0.0.1",)]
        self.strange.fault(Fault(hang_up=True), "blob", times=1)
        self.assertRefused(await self.ask(self.layer), "name it under registries")
        self.assertEqual(set(self.internet.dialled), {(PUBLIC, 443)})
        self.assertHit(await self.ask(manifest_path(self.image.digest, ns=STRANGE)))

    async def test_port(self) -> None:
        """One at another port than 443 or 80 is not asked, though it is at a public address."""
        self.internet.places[PUBLIC, 8443] = self.internet.places[PUBLIC, 443]
        answer = await self.ask(manifest_path("1.0", ns=f"{STRANGE}:8443"))
        self.assertRefused(answer, f"{STRANGE}:8443", "name it under registries")
        self.assertUntouched()

    async def test_spelling(self) -> None:
        """What is an address that is not public, or this host's own name, is refused at once; in any other notation
        than the usual one it is not even a registry's name."""
        for ns in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[64:ff9b::7f00:1]", "localhost", "localhost."):
            self.assertRefused(await self.ask(manifest_path("1.0", ns=ns)), "name it under registries")
        for ns in ("127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::ffff:127.0.0.1]", "[fe80::1%25eth0]"):
            self.assertEqual((await self.ask(manifest_path("1.0", ns=ns))).status, 400, ns)
        self.assertUntouched()

    async def test_nothing_but_a_host(self) -> None:
        """Nor is anything that is more than a host and a port: a user, a path, a query, a control character, another
        host."""
        for ns in (
            *(f"me@{STRANGE}", f"me:pass@{STRANGE}", f"{STRANGE}/", f"{STRANGE}/v2", f"{STRANGE}?x=1", f"{STRANGE}#x"),
            *(f"https://{STRANGE}", f"//{STRANGE}", f"{STRANGE}\r\nHost: x", f"{STRANGE}\n", f"{STRANGE}\x00"),
            *(f" {STRANGE}", f"{STRANGE} 127.0.0.1", f"{STRANGE},127.0.0.1", f"{STRANGE}\\@127.0.0.1", f"{STRANGE}%00"),
            *(f"{STRANGE}:443@127.0.0.1", f"{STRANGE}:", f"{STRANGE}:0", f"{STRANGE}:99999", "stran\u0261e.test", ""),
        ):
            answer = await self.ask(f"/v2/{REPO}/manifests/1.0?ns={quote(ns, safe='')}")
            self.assertEqual(answer.status, 400, ns)
        self.assertUntouched()


class LeadingTests(ReachCase):
    """Registries that lead where they must not."""

    def setUp(self) -> None:
        super().setUp()
        self.inner = self.public("inner.test", ANOTHER, content=self.strange.content)
        assert self.inner.listener is not None
        self.internet.names["inner.test"] = [("127.0.0.1",)]
        self.internet.places["127.0.0.1", 443] = self.inner.listener.port

    def assertInnerUntouched(self) -> None:
        """Nobody has been where nobody may be."""
        self.assertEqual(self.inner.requests, [])
        self.assertEqual(set(self.internet.dialled) - {(PUBLIC, 443)}, set())

    async def test_redirect(self) -> None:
        """A redirect of a blob or a manifest to a private address is refused, by name and by address; the registry is
        asked once, and nothing is kept."""
        for to in ("https://inner.test/cdn/{digest}", "https://127.0.0.1/cdn/{digest}", "https://0x7f.1/cdn/{digest}"):
            self.strange.fault(Fault(redirect=to), times=None)
            for target in (self.layer, manifest_path(self.image.digest, ns=STRANGE)):
                self.strange.requests.clear()
                self.assertRefused(await self.ask(target), f"{STRANGE} leads to", "under registries")
                self.assertEqual(len(self.strange.asked(method="GET")), 1)
            self.strange.script.clear()
        self.assertInnerUntouched()
        await self.settled()
        self.assertFalse([path for path in self.trace() if "blobs/" in path])

    async def test_realm(self) -> None:
        """So is a token realm there, and the client's own credentials are not tried instead."""
        self.strange.auth = Tokens(realm="https://inner.test/token")
        answer = await self.ask(self.layer, ("Authorization", "Basic bWU6c2VjcmV0MQ=="))
        self.assertRefused(answer, f"{STRANGE} leads to inner.test:443", "under registries")
        self.assertEqual([record.header("Authorization") for record in self.strange.requests], [None])
        self.assertInnerUntouched()

    async def test_resumed(self) -> None:
        """A registry that redirects there in the middle, when the rest of a body is asked for, is not followed: the
        body ends short, and nobody tries again."""
        self.strange.fault(Fault(cut=MIB + 5), "blob", times=1)
        rule = self.strange.fault(Fault(redirect="https://inner.test/cdn/{digest}"), "blob", times=None)
        answer = await self.ask(self.layer)
        self.assertEqual((answer.status, answer.complete), (200, False))
        self.assertEqual(answer.body, DATA[: len(answer.body)])
        self.assertInnerUntouched()
        asked = len(self.strange.asked("blob"))
        self.assertLessEqual(asked, 3)
        told = [event for event in self.events if event.get("event") is events.LED_ASTRAY]
        self.assertEqual(len(told), asked - 1)
        # What came is kept, and good once the registry is.
        self.strange.script.rules.remove(rule)
        self.assertTrue((await self.ask(self.layer)).body == DATA)

    async def test_out_of_turn(self) -> None:
        """Nor when what is far ahead is asked for by itself."""
        digest = self.strange.content.add_blob(REPO, noise(24 * MIB))
        held = self.strange.fault(Fault(stall=MIB), "blob", times=1)
        self.strange.fault(Fault(redirect="https://inner.test/cdn/{digest}"), "blob", times=None)
        target = blob_path(digest, ns=STRANGE)
        first = await self.begin(target)
        await first.until(MIB // 2)
        ahead = await self.begin(target, ("Range", f"bytes={20 * MIB}-{20 * MIB + 9}"))
        await eventually(lambda: len(self.strange.asked("blob")) >= 2)
        await eventually(lambda: [event for event in self.events if event.get("event") is events.LED_ASTRAY])
        held.release()
        await first.end()
        await ahead.end()
        self.assertTrue(first.body == noise(24 * MIB))
        self.assertEqual(ahead.body, noise(24 * MIB)[20 * MIB : 20 * MIB + 10])
        self.assertInnerUntouched()
        self.assertEqual(len(self.strange.asked("blob")), 2)

    async def test_trusted(self) -> None:
        """What an administrator trusts is followed, once it is said for that registry, by host and port."""
        self.strange.fault(Fault(redirect="https://inner.test/cdn/{digest}"), "blob", times=None)
        registry = Registry.parse(STRANGE)
        for port, status in ((444, 403), (80, 403), (443, 200)):
            hosts = (HostPattern("inner.test", port),)
            settings = RegistrySettings(registry, (f"https://{STRANGE}",), trusted_hosts=hosts)
            self.cache = self.instance(registries={registry: settings})
            answer = await self.ask(self.layer)
            self.assertEqual(answer.status, status, hosts)
            if status == 403:
                self.assertRefused(answer, f"registries.{STRANGE}.trusted-hosts", "inner.test:443")
                self.assertInnerUntouched()
        self.assertTrue(answer.body == DATA)


class ListTests(ReloadCase):
    """C{reach.allow} and C{reach.deny}, and what a reload does."""

    def setUp(self) -> None:
        super().setUp()
        self.internet = Internet()
        self.layer = blob_path(self.image.layers[0])

    def begin_with(self, text: str, *flags: str) -> None:
        """Start it, on an internet of its own."""
        self.patch(test_reload, "reactor", self.internet)
        super().begin_with(text, *flags)

    async def refused(self, target: str, *parts: str) -> None:
        """403 with these parts, and nothing resolved or dialled."""
        before = list(self.internet.resolved), list(self.internet.dialled)
        answer = await self.ask(target)
        self.assertEqual(answer.status, 403)
        (error,) = json.loads(answer.body)["errors"]
        self.assertEqual(error["code"], "DENIED")
        for part in parts:
            self.assertIn(part, error["message"])
        self.assertEqual((self.internet.resolved, self.internet.dialled), before)

    async def test_denied(self) -> None:
        """A registry that is denied, though it is named, is refused at once, in every kind of request, what is cached
        of it too; once it is not denied any more, that is there as before."""
        self.begin_with(self.configuration())
        for target in (manifest_path("1.0"), self.layer):
            self.assertEqual((await self.ask(target)).status, 200)
        await self.settled()
        asked = len(self.origin.requests)
        await self.reload(self.configuration("reach:", '  deny: ["*.test"]'))
        for target in (
            *(manifest_path("1.0"), manifest_path(self.image.digest), self.layer),
            *(f"/v2/{REPO}/tags/list?ns=registry.test", f"/v2/{REPO}/referrers/{self.image.digest}?ns=registry.test"),
            *("/v2/registry.test/library/app/manifests/1.0", manifest_path("1.0", ns="Registry.TEST.")),
        ):
            await self.refused(target, "registry.test is not asked", "reach.deny")
        self.assertEqual((await self.ask("/v2/")).status, 200)
        self.assertEqual(len(self.origin.requests), asked)
        told = [event for event in self.events if event.get("event") is events.NOT_ALLOWED]
        self.assertEqual({event["registry"] for event in told}, {"registry.test"})
        self.assertEqual(len(told), 7)
        await self.reload(self.configuration())
        self.assertHit(await self.ask(self.layer))

    async def test_allowed(self) -> None:
        """With a list of those that are allowed, no other is asked; those that are named are."""
        self.begin_with(self.configuration("reach:", "  allow: [ghcr.io]"))
        await self.refused(manifest_path("1.0", ns="docker.io"), "docker.io is not asked", "reach.allow")
        await self.refused(manifest_path("1.0", ns="index.docker.io"), "docker.io is not asked", "reach.allow")
        self.assertEqual((await self.ask(manifest_path("1.0"))).status, 200)
        # Allowed, and asked, though there is nobody of that name in this internet.
        self.assertEqual((await self.ask(manifest_path("1.0", ns="ghcr.io"))).status, 502)
        self.assertEqual(self.internet.resolved[-1], "ghcr.io")
        self.assertEqual(await self.metric("crcache_requests_total", registry="ghcr.io", status="502"), 1)
        await self.reload(self.configuration("reach:", "  allow: [docker.io]"))
        await self.refused(manifest_path("1.0", ns="ghcr.io"), "reach.allow")
        self.assertEqual((await self.ask(manifest_path("1.0", ns="docker.io"))).status, 502)
        self.assertEqual(self.internet.resolved[-1], "registry-1.docker.io")

    async def test_reload(self) -> None:
        """Naming a host among the trusted ones, and taking it away, is in force with the next question; the idle
        connection of before is of no use to it."""
        cdn = self.registry(self.origin.content)
        assert cdn.listener is not None
        self.origin.fault(Fault(redirect=cdn.url + "/cdn/{digest}"), "blob", times=None)
        trusting = self.configuration(registry=(f'trusted-hosts: ["127.0.0.1:{cdn.listener.port}"]',))
        layers = [blob_path(self.origin.content.add_blob(REPO, noise(1000, seed))) for seed in (1, 2, 3)]
        self.begin_with(self.configuration())
        key = "registries.registry.test.trusted-hosts"
        self.assertIn(key, json.loads((await self.ask(layers[0])).body)["errors"][0]["message"])
        await self.reload(trusting)
        self.assertEqual((await self.ask(layers[0])).status, 200)
        await self.reload(self.configuration())
        self.assertIn(key, json.loads((await self.ask(layers[1])).body)["errors"][0]["message"])
        self.assertEqual(len(cdn.asked("cdn")), 1)
        await self.reload(trusting)
        self.assertEqual((await self.ask(layers[1])).status, 200)

    async def test_unnamed(self) -> None:
        """A registry at a private address that is taken out of the file is not asked any more."""
        name = "inner.test"
        self.internet.names[name] = [("127.0.0.1",)]
        section = f"registries:\n  {name}:\n    url: {self.origin.url}\n"
        self.begin_with(self.configuration().replace("registries:\n", section))
        self.assertEqual((await self.ask(manifest_path("1.0", ns=name))).status, 200)
        await self.reload(self.configuration())
        dialled = list(self.internet.dialled)
        answer = await self.ask(f"/v2/{REPO}/tags/list?ns={name}")
        self.assertEqual(answer.status, 403)
        self.assertIn(b"name it under registries", answer.body)
        self.assertEqual(self.internet.dialled, dialled)
