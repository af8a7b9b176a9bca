"""Origins that break off in mid-body and are asked again: one response, right bytes, and no client notices."""

from __future__ import annotations

import socket
from typing import Any

from twisted.web.server import Site

from crcache.grammar.reference import Registry
from crcache.settings import RegistrySettings, UpstreamSettings
from crcache.testing.auth import Tokens
from crcache.testing.content import noise
from crcache.testing.daemon import Instance
from crcache.testing.registry import FakeRegistry
from crcache.testing.script import Fault
from crcache.upstream.resolver import Resolver
from tests.clients.case import IMPATIENT, NAME, REPO, ClientCase, blob_path
from tests.clients.http import Answer
from tests.web.cases import pause, reactor

MIB = 1 << 20
DATA = noise(3 * MIB + 77)

#: Quick to notice a stall, but not to give up.
PATIENT = UpstreamSettings(connect_timeout=2.0, first_byte_timeout=2.0, stall_timeout=0.4, retries=5)


class ResumingCase(ClientCase):
    """A cold blob of some segments."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.origin.content.add_blob(REPO, DATA)
        self.target = blob_path(self.digest)
        self.cache = self.instance(upstream=PATIENT)

    def before(self, *urls: str, upstream: UpstreamSettings = PATIENT) -> Instance:
        """A crcache before a registry that has these URLs."""
        name = Registry.parse(NAME)
        settings = RegistrySettings(name, urls)
        self.cache = self.instance(upstream=upstream, registries={name: settings})
        return self.cache

    def spans(self, origin: FakeRegistry | None = None) -> list[str | None]:
        """The ranges that the origin was asked for."""
        return [record.header("Range") for record in (origin or self.origin).asked("blob", "GET")]

    def assertRight(self, answer: Answer) -> None:
        """All of the blob, in one response that looks like any other."""
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.one("Content-Length"), str(len(DATA)))
        self.assertTrue(answer.complete)
        self.assertTrue(answer.body == DATA)

    async def right(self) -> None:
        """A client asks for the blob, and gets it; the next one gets it from disk."""
        self.assertRight(await self.ask(self.target))
        await self.settled()
        asked = len(self.origin.requests)
        self.assertHit(await self.ask(self.target))
        self.assertEqual(len(self.origin.requests), asked)


class CutTests(ResumingCase):
    """What the origin answers when it is asked to go on."""

    async def test_once(self) -> None:
        """It breaks off once, in either way."""
        for reset in (False, True):
            self.cache = self.instance(upstream=PATIENT)
            self.origin.requests.clear()
            self.origin.fault(Fault(cut=MIB + 5, reset=reset), "blob")
            await self.right()
            self.assertEqual(self.spans(), [None, f"bytes={MIB + 5}-"])

    async def test_five_times(self) -> None:
        """It breaks off five times, now early, now late."""
        cuts = (5, MIB, 1, 300_000, MIB)
        for cut in cuts:
            self.origin.fault(Fault(cut=cut), "blob")
        await self.right()
        self.assertEqual(self.spans(), [None, *(f"bytes={sum(cuts[:n])}-" for n in range(1, 6))])

    async def test_every_offset(self) -> None:
        """It breaks off at whatever byte of a small blob, or hangs up behind the last."""
        for cut in range(1, 42):
            data = noise(41, cut)
            target = blob_path(self.origin.content.add_blob(REPO, data))
            rule = self.origin.fault(Fault(cut=cut), "blob", path=target.partition("?")[0])
            answer = await self.ask(target)
            self.assertEqual((answer.status, answer.body, answer.complete), (200, data, True), cut)
            self.assertEqual(rule.used, 1)

    async def test_range_ignored(self) -> None:
        """It ignores the range, once and then again."""
        self.origin.fault(Fault(cut=MIB + 5), "blob")
        self.origin.fault(Fault(ignore_range=True, cut=2 * MIB), "blob")
        self.origin.fault(Fault(ignore_range=True), "blob")
        await self.right()
        self.assertEqual(self.spans(), [None, f"bytes={MIB + 5}-", f"bytes={2 * MIB}-"])

    async def test_statuses(self) -> None:
        """It answers 416, a refusal or an error first, and then as it should."""
        for status in (416, 500, 503, 429, 404, 403):
            self.cache = self.instance(upstream=PATIENT)
            self.origin.requests.clear()
            self.origin.fault(Fault(cut=MIB), "blob")
            self.origin.fault(Fault(status=status), "blob")
            await self.right()
            self.assertEqual(self.spans()[-1], f"bytes={MIB}-", status)

    async def test_changed(self) -> None:
        """It speaks of another length or entity tag, and then as before."""
        other = len(DATA) + 1
        for fault in (
            Fault(headers=(("Content-Range", f"bytes {MIB}-{other - 1}/{other}"), ("ETag", '"other"'))),
            Fault(headers=(("ETag", '"other"'),), cut=5),
            Fault(ignore_range=True, body=DATA + b"x"),
            Fault(headers=(("Content-Range", "nonsense"),)),
        ):
            self.cache = self.instance(upstream=PATIENT)
            self.origin.fault(Fault(cut=MIB, headers=(("ETag", '"one"'),)), "blob")
            self.origin.fault(fault, "blob")
            await self.right()

    async def test_stalled(self) -> None:
        """It falls silent, and is asked again when the stall timeout is over."""
        self.origin.fault(Fault(stall=MIB), "blob", times=2)
        await self.right()
        self.assertEqual(self.spans(), [None, f"bytes={MIB}-", f"bytes={2 * MIB}-"])

    async def test_token_expired(self) -> None:
        """Its token has expired meanwhile: another one is got."""
        tokens = self.origin.auth = Tokens()
        stall = self.origin.fault(Fault(stall=MIB, cut=MIB), "blob", skip=1)
        answer = await self.begin(self.target)
        await answer.until(MIB)
        tokens.revoke()
        stall.release()
        self.assertRight(await answer.end())
        self.assertEqual([record.status for record in self.origin.asked("blob")], [401, 200, 401, 206])
        self.assertEqual(len(tokens.requests), 2)

    async def test_link_expired(self) -> None:
        """The link that it signed has expired: the registry is asked for another one, not the place it led to."""
        cdn = self.registry(self.origin.content)
        self.origin.fault(Fault(redirect=cdn.url + "/cdn/{digest}?signed=1"), "blob", times=2)
        self.origin.fault(Fault(redirect=cdn.url + "/cdn/{digest}?signed=2"), "blob", times=None)
        cdn.fault(Fault(cut=MIB), "cdn")
        cdn.fault(Fault(status=403), "cdn")
        await self.right()
        asked = [(record.query, record.header("Range"), record.status) for record in cdn.asked("cdn")]
        link, mark = ("signed=1", "signed=2"), f"bytes={MIB}-"
        self.assertEqual(asked, [(link[0], None, 200), (link[0], mark, 403), (link[1], mark, 206)])


class ElsewhereTests(ResumingCase):
    """Registries that are in several places."""

    async def test_comes_back(self) -> None:
        """It is gone for a moment, and is there again."""
        self.origin.fault(Fault(stall=MIB), "blob")
        answer = await self.begin(self.target)
        await answer.until(MIB // 2)
        assert self.origin.listener is not None
        port = int(self.origin.url.rpartition(":")[2])
        await self.origin.stop()
        await pause(0.2)
        self.origin.start(reactor, None, port)
        self.assertRight(await answer.end())

    async def test_another_address(self) -> None:
        """It comes back on another address of its name."""
        there = ["127.0.0.1"]

        def lookup(host: str, *args: Any) -> Any:
            return socket.getaddrinfo(there[0] if host == "moved.test" else host, *args)

        defaults: Any = Resolver.__init__.__defaults__
        self.patch(Resolver.__init__, "__defaults__", (lookup, *defaults[1:]))
        port = int(self.origin.url.rpartition(":")[2])
        second = FakeRegistry(self.origin.content)
        listening = reactor.listenTCP(port, Site(second), interface="127.0.0.2")
        self.addCleanup(listening.stopListening)
        self.before(f"http://moved.test:{port}")
        self.origin.fault(Fault(stall=MIB), "blob")
        answer = await self.begin(self.target)
        await answer.until(MIB // 2)
        there[0] = "127.0.0.2"
        await self.origin.stop()
        self.assertRight(await answer.end())
        self.assertEqual(self.spans(second), [f"bytes={MIB}-"])

    async def test_next_url(self) -> None:
        """It breaks off at one URL: the next one is asked for the rest."""
        second = self.registry(self.origin.content)
        self.before(self.origin.url, second.url)
        self.origin.fault(Fault(cut=MIB), "blob", times=None)
        self.assertRight(await self.ask(self.target))
        self.assertEqual((self.spans(), self.spans(second)), ([None], [f"bytes={MIB}-"]))

    async def test_stalls_at_one(self) -> None:
        """It stalls at one URL, and breaks off at the other: each goes on from where the body is."""
        second = self.registry(self.origin.content)
        self.before(self.origin.url, second.url)
        self.origin.fault(Fault(stall=MIB), "blob")
        second.fault(Fault(cut=MIB), "blob")
        self.assertRight(await self.ask(self.target))
        self.assertEqual((self.spans(), self.spans(second)), ([None, f"bytes={2 * MIB}-"], [f"bytes={MIB}-"]))

    async def test_lies_at_one(self) -> None:
        """It lies at one URL: nobody gets a complete wrong body, nothing is kept, and the next ask goes elsewhere."""
        second = self.registry(self.origin.content)
        self.before(self.origin.url, second.url)
        self.origin.fault(Fault(wrong=True), "blob", times=None)
        answer = await self.ask(self.target)
        self.assertEqual((answer.complete, answer.clean), (False, False))
        await self.settled()
        self.assertRight(await self.ask(self.target))
        self.assertEqual((self.spans(), self.spans(second)), ([None], [None]))

    async def test_lies_before_the_head(self) -> None:
        """It lies in the head of its answer: the other URL is asked at once, and the client hears nothing of it."""
        second = self.registry(self.origin.content)
        self.before(self.origin.url, second.url)
        for fault in (Fault(gzip=True), Fault(status=204), Fault(body=b"")):
            self.cache = self.before(self.origin.url, second.url)
            self.origin.fault(fault, "blob")
            self.assertRight(await self.ask(self.target))

    async def test_other_registries(self) -> None:
        """A registry that stalls or lies neither holds up nor spoils the same blob of another."""
        other = self.registry(self.origin.content)
        self.cache = self.instance(upstream=PATIENT, origins={NAME: self.origin.url, "other.test": other.url})
        target = blob_path(self.digest, ns="other.test")
        for fault in (Fault(stall=MIB), Fault(wrong=True, stall=MIB), Fault(rate=100_000.0)):
            rule = self.origin.fault(fault, "blob", times=None)
            held = await self.begin(self.target)
            await held.until(1)
            self.assertRight(await self.ask(target))
            self.assertFalse(held.complete)
            held.leave()
            rule.release()
            self.origin.script.clear()
            self.cache = self.instance(upstream=PATIENT, origins={NAME: self.origin.url, "other.test": other.url})


class GoneTests(ResumingCase):
    """Origins that do not come back."""

    async def test_gone(self) -> None:
        """After some tries without progress the client's body ends short; the next ask carries on from what came."""
        self.cache = self.instance(upstream=IMPATIENT)
        self.origin.fault(Fault(cut=MIB), "blob")
        self.origin.fault(Fault(cut=0), "blob", times=IMPATIENT.retries + 1)
        answer = await self.ask(self.target)
        self.assertEqual((answer.status, answer.complete, answer.clean), (200, False, True))
        self.assertTrue(DATA.startswith(answer.raw))
        self.assertEqual(len(self.spans()), 1 + IMPATIENT.retries)
        self.origin.script.clear()
        await self.settled_or_left()
        self.assertRight(await self.ask(self.target))
        self.assertEqual(self.spans()[-1], f"bytes={MIB}-")
        self.assertEqual(sum(record.sent for record in self.origin.asked("blob")), len(DATA))

    async def settled_or_left(self) -> None:
        """Until the fill that failed is over."""
        await self.metric_becomes(0.0, "crcache_fills")

    async def test_back_off(self) -> None:
        """Between tries there are pauses. How they grow: tests.policy.test_retry."""
        self.origin.fault(Fault(cut=MIB), "blob")
        self.origin.fault(Fault(hang_up=True), "blob", times=3)
        began = reactor.seconds()
        await self.right()
        # After two questions that were put again at once, each a tenth of a second later at least, a pause of its own.
        self.assertGreater(reactor.seconds() - began, 0.2)
        self.assertEqual(len(self.spans()), 5)
