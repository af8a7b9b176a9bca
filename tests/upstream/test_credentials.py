"""The administrator's credentials: shown to the registry and its realm, and to nobody else."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.task import Clock

from crcache.grammar.reference import Repository
from crcache.secret import Secret
from crcache.settings import Credential, UpstreamSettings
from crcache.testing.auth import Basic, basic
from crcache.testing.certificates import Authority
from crcache.testing.listener import Listener
from crcache.testing.script import Fault
from tests.upstream.harness import NAME, Negotiating, password


class Passwords(Negotiating):
    """Registries that know the administrator."""

    async def test_token(self) -> None:
        """The administrator's name and password go to the realm, and only there."""
        tokens = self.tokens(anonymous=())
        registry = self.registry(tokens)
        self.assertEqual(await self.fetch(self.upstream(registry.url, credential=password())), 200)
        self.assertEqual(tokens.requests[0].authorization, basic("puller", "secret1"))
        self.assertEqual(tokens.requests[0].user, "puller")
        blobs = [record.header("Authorization") or "" for record in registry.asked("blob")]
        self.assertEqual([text.partition(" ")[0] for text in blobs], ["", "Bearer"])

    async def test_identity_token(self) -> None:
        """An identity token is exchanged as OAuth 2 says, and is never in a URL or an `Authorization`."""
        tokens = self.tokens(anonymous=(), identity_tokens={"idt-1": "puller"})
        registry = self.registry(tokens)
        credential = Credential("<token>", Secret("idt-1"), identity_token=True)
        upstream = self.upstream(registry.url, credential=credential)
        self.assertEqual(await self.fetch(upstream), 200)
        self.assertEqual(await self.fetch(upstream), 200)
        request = tokens.requests[0]
        self.assertEqual((request.method, request.user, request.authorization), ("POST", "puller", None))
        self.assertEqual((request.service, request.scopes), ("fake", (f"repository:{NAME}:pull",)))
        self.assertNotIn("idt-1", registry.asked("token")[0].query)
        self.assertEqual(len(tokens.requests), 1)

    async def test_identity_token_refused(self) -> None:
        """A refused identity token leads to the anonymous way."""
        tokens = self.tokens()
        registry = self.registry(tokens)
        credential = Credential("<token>", Secret("wrong"), identity_token=True)
        self.assertEqual(await self.fetch(self.upstream(registry.url, credential=credential)), 200)
        self.assertEqual([request.method for request in tokens.requests], ["POST", "GET"])

    async def test_refused(self) -> None:
        """Refused credentials are logged once, without the password, and left out for a minute."""
        clock = Clock()
        tokens = self.tokens()
        registry = self.registry(tokens)
        registry.add_image("other", "1.0")
        upstream = self.upstream(registry.url, credential=password("wrong"), clock=clock)
        events = self.events()
        self.assertEqual(await self.fetch(upstream), 200)
        self.assertEqual([request.status for request in tokens.requests], [401, 200])
        query = self.manifest()
        other = type(query)(**{**vars(query), "repository": Repository.parse("other")})
        answer, _ = await self.get(upstream, other)
        self.assertEqual(answer.status, 200)
        self.assertEqual([request.status for request in tokens.requests], [401, 200, 200])
        warnings = [event for event in events if event["log_level"].name == "warn"]
        self.assertEqual(len(warnings), 1)
        self.assertNotIn("wrong", repr(warnings) + warnings[0]["log_format"].format(**warnings[0]))
        clock.advance(61)
        await self.get(upstream, other)
        self.assertEqual([request.status for request in tokens.requests], [401, 200, 200, 401])

    async def test_refused_for_one_repository(self) -> None:
        """Credentials that have been taken are still used for other repositories when one of them refuses."""
        tokens = self.tokens(anonymous=())
        registry = self.registry(tokens)
        registry.add_image("other", "1.0")
        upstream = self.upstream(registry.url, credential=password())
        self.assertEqual(await self.fetch(upstream), 200)
        registry.fault(Fault(status=401), "token")
        query = self.manifest()
        other = type(query)(**{**vars(query), "repository": Repository.parse("other")})
        answer, _ = await self.get(upstream, other)
        self.assertEqual(answer.status, 401)
        tokens.revoke()
        self.assertEqual(await self.fetch(upstream), 200)

    async def test_realm_redirects(self) -> None:
        """A realm's redirects are followed without the credentials, even within its host."""
        tokens = self.tokens()
        registry = self.registry(tokens)
        registry.fault(Fault(redirect="/token?scope=x&again=1"), "token")
        await self.fetch(self.upstream(registry.url, credential=password()))
        first, second, *_ = registry.asked("token")
        self.assertIsNotNone(first.header("Authorization"))
        self.assertIsNone(second.header("Authorization"))
        self.assertIn("again=1", second.query)

    async def test_realm_elsewhere(self) -> None:
        """A realm may be on another host."""
        tokens = self.tokens(anonymous=())
        realm = Listener(reactor, tokens.resource())
        self.addCleanup(realm.stop)
        tokens.realm = realm.url + "/auth"
        registry = self.registry(tokens)
        self.assertEqual(await self.fetch(self.upstream(registry.url, credential=password())), 200)
        self.assertEqual(tokens.requests[0].user, "puller")

    async def test_plain_realm(self) -> None:
        """Credentials do not go to a plain realm if the registry's own URL is https."""
        authority = Authority()
        tokens = self.tokens()
        realm = Listener(reactor, tokens.resource())
        self.addCleanup(realm.stop)
        tokens.realm = realm.url + "/auth"
        registry = self.registry(tokens, tls=authority.context())
        ca = authority.write(self.directory())
        self.assertEqual(await self.fetch(self.upstream(registry.url, credential=password(), ca=ca)), 200)
        self.assertEqual([request.authorization for request in tokens.requests], [None])


class BasicWay(Negotiating):
    """Registries that want a password with every request."""

    async def test_basic(self) -> None:
        """The password is sent after a challenge, and from then on without waiting."""
        registry = self.registry(Basic({"puller": "secret1"}))
        upstream = self.upstream(registry.url, credential=password())
        for _ in range(3):
            self.assertEqual(await self.fetch(upstream), 200)
        self.assertEqual([record.status for record in registry.requests], [401, 200, 200, 200])

    async def test_no_credentials(self) -> None:
        """Without credentials the 401 is the answer."""
        registry = self.registry(Basic({"puller": "secret1"}))
        identity = Credential("<token>", Secret("idt"), identity_token=True)
        self.assertEqual(await self.fetch(self.upstream(registry.url)), 401)
        self.assertEqual(await self.fetch(self.upstream(registry.url, credential=identity)), 401)
        self.assertEqual(len(registry.requests), 2)

    async def test_refused(self) -> None:
        """Refused credentials are logged, and not sent again for a minute."""
        clock = Clock()
        registry = self.registry(Basic({"puller": "secret1"}))
        upstream = self.upstream(registry.url, credential=password("wrong"), clock=clock)
        events = self.events()
        for _ in range(3):
            self.assertEqual(await self.fetch(upstream), 401)
        sent = [record.header("Authorization") for record in registry.requests]
        self.assertEqual(len([text for text in sent if text is not None]), 1)
        warnings = [event for event in events if event["log_level"].name == "warn"]
        self.assertEqual(len(warnings), 1)
        self.assertNotIn("wrong", repr(warnings))
        clock.advance(61)
        await self.fetch(upstream)
        self.assertEqual(len([1 for record in registry.requests if record.header("Authorization")]), 2)

    async def test_only_the_registry(self) -> None:
        """The password does not follow a redirect to another host."""
        registry = self.registry(Basic({"puller": "secret1"}))
        cdn = self.registry(content=registry.content)
        registry.fault(Fault(redirect=cdn.url + "/cdn/{digest}"), "blob", skip=1)
        self.assertEqual(await self.fetch(self.upstream(registry.url, credential=password())), 200)
        self.assertIsNone(cdn.requests[0].header("Authorization"))

    async def test_bearer_first(self) -> None:
        """If both are offered a token is preferred to sending the password with every request."""
        tokens = self.tokens(anonymous=())
        registry = self.registry(tokens)
        challenge = f'Basic realm="x, y", bearer Realm="{registry.url}/token",service="fake"'
        registry.fault(Fault(status=401, headers=(("WWW-Authenticate", challenge),)), "blob")
        self.assertEqual(await self.fetch(self.upstream(registry.url, credential=password())), 200)
        self.assertEqual(tokens.requests[0].user, "puller")


class Settings(Negotiating):
    """Credentials belong to a registry."""

    async def test_other_registry(self) -> None:
        """A registry that has no credentials of its own is asked anonymously, whatever its URL."""
        tokens = self.tokens()
        registry = self.registry(tokens)
        upstream = self.upstream(registry.url, credential=password(), settings=UpstreamSettings())
        self.name = type(self.name).parse("another.example.com")
        self.assertEqual(await self.fetch(upstream), 200)
        self.assertEqual(tokens.requests[0].authorization, None)
