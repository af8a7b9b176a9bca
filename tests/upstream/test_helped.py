"""Credentials that a program knows: waited for, renewed when they are refused, and done without."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from crcache.credentials.helper import HelperFailed
from crcache.credentials.helpers import Helpers
from crcache.credentials.keyring import Keyring
from crcache.errors import OriginTimeout
from crcache.facts import Query
from crcache.secret import Secret
from crcache.settings import Credential, Credentials, UpstreamSettings
from crcache.testing.auth import Basic
from crcache.workers import Inline
from tests.upstream.harness import Negotiating, password


class Program:
    """A helper whose answers come one after the other; the last one stays.

    @ivar asked: how often it was asked.
    @ivar held: if there is one, it answers when that fires.
    """

    def __init__(self, *answers: Credential | None) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.held: Deferred[None] | None = None

    def ask(self, name: str, server: str) -> Credential | None:
        self.asked += 1
        if not self.answers:
            raise HelperFailed("it is broken")
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def keyring(self) -> Keyring:
        program = self

        class Held(Inline):
            def run(self, work: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
                done = super().run(work, *args, **kwargs)
                return done if program.held is None else program.held.addCallback(lambda _: done)

        return Keyring(Credentials(store="x"), Helpers(Held(), Clock(), self.ask))


class Helped(Negotiating):
    """One helper for all registries."""

    async def test_kept(self) -> None:
        """It is asked once for many pulls, and not at all as long as nobody wants to know who asks."""
        program = Program(password())
        keys = program.keyring()
        open_registry = self.registry()
        self.assertEqual(await self.fetch(self.upstream(open_registry.url, keys=keys)), 200)
        self.assertEqual(program.asked, 0)
        tokens = self.tokens(anonymous=())
        upstream = self.upstream(self.registry(tokens).url, keys=keys)
        for _ in range(3):
            self.assertEqual(await self.fetch(upstream), 200)
        self.assertEqual((program.asked, len(tokens.requests)), (1, 1))

    async def test_renewed(self) -> None:
        """A login that has ended, as those of clouds do, is renewed within the same pull: with Basic, at a realm, and
        as an identity token."""
        old, new = password("ended"), password()
        for auth in (Basic({"puller": "secret1"}), self.tokens(anonymous=())):
            program = Program(old, new)
            upstream = self.upstream(self.registry(auth).url, keys=program.keyring())
            self.assertEqual(await self.fetch(upstream), 200, auth)
            self.assertEqual(await self.fetch(upstream), 200, auth)
            self.assertEqual(program.asked, 2)
        tokens = self.tokens(anonymous=(), identity_tokens={"idt-2": "puller"})
        identities = [Credential("<token>", Secret(text), identity_token=True) for text in ("idt-1", "idt-2")]
        program = Program(*identities)
        self.assertEqual(await self.fetch(self.upstream(self.registry(tokens).url, keys=program.keyring())), 200)
        self.assertEqual([each.user for each in tokens.requests], [None, "puller"])

    async def test_renewed_later(self) -> None:
        """So is one that ends after it has been taken."""
        users = {"puller": "first"}
        registry = self.registry(Basic(users))
        program = Program(password("first"), password("second"))
        upstream = self.upstream(registry.url, keys=program.keyring())
        self.assertEqual(await self.fetch(upstream), 200)
        users["puller"] = "second"
        self.assertEqual(await self.fetch(upstream), 200)
        self.assertEqual(program.asked, 2)

    async def test_refused_for_good(self) -> None:
        """One that is refused again is not asked for over and over; the anonymous way is left."""
        for auth, expected in ((Basic({"puller": "other"}), 401), (self.tokens(), 200)):
            program = Program(password("wrong-1"), password("wrong-2"), password("wrong-3"))
            upstream = self.upstream(self.registry(auth).url, keys=program.keyring())
            for _ in range(3):
                self.assertEqual(await self.fetch(upstream), expected)
            self.assertEqual(program.asked, 2)

    async def test_broken(self) -> None:
        """Without an answer the registry is asked anonymously."""
        for answers in ((), (None,)):
            program = Program(*answers)
            upstream = self.upstream(self.registry(self.tokens()).url, keys=program.keyring())
            self.assertEqual(await self.fetch(upstream), 200)
            self.assertEqual(program.asked, 1)

    async def test_slow(self) -> None:
        """One that hangs costs whoever waits no more than the time for a first byte; its answer is there for the
        next one."""
        program = Program(password())
        program.held = Deferred()
        settings = UpstreamSettings(connect_timeout=1.0, first_byte_timeout=0.2, stall_timeout=1.0)
        registry = self.registry(Basic({"puller": "secret1"}))
        upstream = self.upstream(registry.url, keys=program.keyring(), settings=settings)
        with self.assertRaises(OriginTimeout):
            await upstream.ask(self.blob())
        held, program.held = program.held, None
        held.callback(None)
        self.assertEqual(await self.fetch(upstream), 200)
        self.assertEqual(program.asked, 1)

    async def test_clients_own(self) -> None:
        """It is not asked where a client brings what it has."""
        program = Program(password())
        registry = self.registry(Basic({"puller": "secret1"}))
        query: Query = self.blob(authorization=Secret("Basic x"))
        answer, _ = await self.get(self.upstream(registry.url, keys=program.keyring()), query)
        self.assertEqual((answer.status, program.asked), (401, 0))


class Changing(Negotiating):
    """Files that say something else than before."""

    async def test_others_in_force(self) -> None:
        """What was had with credentials that have changed is not used any more; what was had with others is, and
        connections stay."""
        tokens = self.tokens(anonymous=())
        tokens.users = {"puller": "secret1", "other": "secret2"}
        registry = self.registry(tokens)
        keys = Keyring(Credentials({(self.name, ()): password()}), Helpers(Inline(), Clock(), lambda _, __: None))
        upstream = self.upstream(registry.url, keys=keys)
        await self.fetch(upstream)
        assert registry.listener is not None
        connections = registry.listener.accepted
        keys.use(Credentials({(self.name, ()): password(), (self.name, ("elsewhere",)): password("x")}))
        await self.fetch(upstream)
        self.assertEqual([each.user for each in tokens.requests], ["puller"])
        keys.use(Credentials({(self.name, ()): password("secret2", "other")}))
        self.assertEqual(await self.fetch(upstream), 200)
        self.assertEqual([each.user for each in tokens.requests], ["puller", "other"])
        keys.use(Credentials())
        self.assertEqual(await self.fetch(upstream), 401)
        self.assertEqual(tokens.requests[-1].user, None)
        self.assertEqual(registry.listener.accepted, connections)
