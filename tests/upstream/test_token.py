"""Tokens: got once, and used without waiting for a challenge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock

from crcache.errors import OriginBusy, OriginLied, OriginTimeout, OriginUnreachable
from crcache.grammar.reference import Repository
from crcache.secret import Secret
from crcache.testing.script import Fault
from tests.upstream.harness import NAME, Negotiating, eventually, password


class Anonymous(Negotiating):
    """Registries that want a token but nobody's name."""

    async def test_token(self) -> None:
        """A challenge is answered with a token from its realm, for the service and scope that it names."""
        tokens = self.tokens()
        registry = self.registry(tokens)
        self.assertEqual(await self.fetch(self.upstream(registry.url)), 200)
        request = tokens.requests[0]
        self.assertEqual((request.method, request.service), ("GET", "fake"))
        self.assertEqual(request.scopes, (f"repository:{NAME}:pull",))
        self.assertEqual((request.authorization, request.request_id), (None, "rid-1"))
        self.assertEqual(self.meter.questions, [("blob", 401), ("token", 200), ("blob", 200)])
        headers = registry.asked("token")[0].headers
        self.assertEqual(headers.getRawHeaders("Accept-Encoding"), ["identity"])

    async def test_used_again(self) -> None:
        """One token serves a whole pull, whatever the kind and method, without waiting for challenges."""
        tokens = self.tokens()
        registry = self.registry(tokens)
        upstream = self.upstream(registry.url)
        await self.fetch(upstream)
        await self.fetch(upstream, method="HEAD")
        await self.get(upstream, self.manifest())
        self.assertEqual(len(tokens.requests), 1)
        self.assertEqual(
            [record.status for record in registry.requests if record.kind != "token"], [401, 200, 200, 200]
        )

    async def test_names(self) -> None:
        """The token may be called C{token} or C{access_token}."""
        for name in ("token", "access_token", "both"):
            registry = self.registry(self.tokens(name=name))
            self.assertEqual(await self.fetch(self.upstream(registry.url)), 200)

    async def test_huge_challenge(self) -> None:
        """What strangers' registries make up is not kept: there a challenge of many KiB is none."""
        for scope, status in (("x" * 8000, 200), ("x" * 8200, 401)):
            tokens = self.tokens(scope=f"{scope} repository:{{name}}:pull")
            registry = self.registry(tokens)
            self.assertEqual(await self.fetch(self.upstream(registry.url)), status)
            self.assertEqual(len(tokens.requests), status == 200)

    async def test_huge_token(self) -> None:
        """Nor is a token of many KiB; it is used for what it was got for."""
        tokens = self.tokens()
        issue = tokens.issue

        def padded(user: str | None, scopes: Sequence[str]) -> str:
            short = issue(user, scopes)
            found = short.ljust(9000, "x")
            tokens._tokens[found] = tokens._tokens[short]
            return found

        self.patch(tokens, "issue", padded)
        upstream = self.upstream(self.registry(tokens).url)
        for count in (1, 2):
            self.assertEqual(await self.fetch(upstream), 200)
            self.assertEqual(len(tokens.requests), count)

    async def test_expiry(self) -> None:
        """A token is used for as long as the realm said, less a margin; a minute where it said nothing."""
        for said, used in (
            (1000, 970),
            (100, 90),
            (None, 54),
            (-5, 0),
            (10**12, 86370),
            (10**400, 86370),
            (-(10**400), 0),
            (0, 0),
        ):
            clock = Clock()
            tokens = self.tokens(expires_in=said)
            registry = self.registry(tokens)
            upstream = self.upstream(registry.url, clock=clock)
            await self.fetch(upstream)
            if used:
                clock.advance(used - 1)
                await self.fetch(upstream)
            self.assertEqual(len(tokens.requests), 1, said)
            clock.advance(2)
            await self.fetch(upstream)
            self.assertEqual(len(tokens.requests), 2, said)

    async def test_expiry_nonsense(self) -> None:
        """What is no number of seconds counts as nothing said."""
        for said in ('"soon"', "true", "NaN", "[]", "1e999"):
            registry = self.registry(self.tokens())
            body = f'{{"token": "{registry.auth.issue(None, [f"repository:{NAME}:pull"])}", "expires_in": {said}}}'  # type: ignore[attr-defined]
            registry.fault(Fault(body=body.encode()), "token")
            clock = Clock()
            upstream = self.upstream(registry.url, clock=clock)
            self.assertEqual(await self.fetch(upstream), 200)
            clock.advance(53)
            await self.fetch(upstream)
            self.assertEqual(len(registry.asked("token")), 1)

    async def test_revoked(self) -> None:
        """A 401 to a token that was kept drops it and gets another, once."""
        tokens = self.tokens()
        registry = self.registry(tokens)
        upstream = self.upstream(registry.url)
        await self.fetch(upstream)
        tokens.revoke()
        self.assertEqual(await self.fetch(upstream), 200)
        self.assertEqual(len(tokens.requests), 2)

    async def test_final(self) -> None:
        """If a new token does not help the origin's 401 is the answer, with its challenge."""
        registry = self.registry(self.tokens(anonymous=("public/",)))
        answer, _ = await self.get(self.upstream(registry.url), self.blob())
        self.assertEqual(answer.status, 401)
        self.assertIn(b"realm=", answer.headers.getRawHeaders(b"WWW-Authenticate", [])[0])
        self.assertEqual(self.meter.questions, [("blob", 401), ("token", 200), ("blob", 401)])

    async def test_one_negotiation(self) -> None:
        """However many requests wait there is one negotiation; who goes away takes nobody along."""
        tokens = self.tokens()
        registry = self.registry(tokens)
        rule = registry.fault(Fault(hold=True), "token", times=None)
        upstream = self.upstream(registry.url)
        asking = [upstream.ask(self.blob()) for _ in range(12)]
        await eventually(lambda: sum(record.done for record in registry.asked("blob")) == 12)
        asking[0].cancel()
        with self.assertRaises(CancelledError):
            await asking[0]
        rule.release()
        for answer in await gatherResults(asking[1:]):
            self.assertEqual(answer.status, 200)
            answer.abort()
        self.assertEqual(len(registry.asked("token")), 1)

    async def test_nobody_waits(self) -> None:
        """When the last one who waits goes away the negotiation ends; the next one begins anew."""
        registry = self.registry(self.tokens())
        registry.fault(Fault(hold=True), "token")
        upstream = self.upstream(registry.url)
        asking = upstream.ask(self.blob())
        await eventually(lambda: registry.asked("token"))
        asking.cancel()
        with self.assertRaises(CancelledError):
            await asking
        await eventually(lambda: registry.asked("token")[0].done)
        self.assertEqual(await self.fetch(upstream), 200)

    async def test_more_than_small_slots(self) -> None:
        """Waiting for a token takes no place from the request for it."""
        registry = self.registry(self.tokens())
        upstream = self.upstream(registry.url)
        await gatherResults([Deferred.fromCoroutine(self.get(upstream, self.manifest())) for _ in range(20)])
        self.assertEqual(len(registry.asked("token")), 1)

    async def test_scope(self) -> None:
        """Without a scope in the challenge it is to pull from the repository; several scopes go one by one."""
        tokens = self.tokens(scope=None)
        registry = self.registry(tokens)
        self.assertEqual(await self.fetch(self.upstream(registry.url)), 200)
        self.assertEqual(tokens.requests[0].scopes, (f"repository:{NAME}:pull",))
        tokens.scope = "repository:{name}:pull repository:other:pull"
        self.assertEqual(await self.fetch(self.upstream(registry.url)), 200)
        self.assertEqual(registry.asked("token")[1].query.count("scope="), 2)

    async def test_repositories(self) -> None:
        """Another repository has another token."""
        tokens = self.tokens()
        registry = self.registry(tokens)
        registry.add_image("other", "1.0")
        upstream = self.upstream(registry.url)
        for repository in (NAME, "other", NAME, "other"):
            query = self.manifest()
            answer, _ = await self.get(
                upstream, type(query)(**{**vars(query), "repository": Repository.parse(repository)})
            )
            self.assertEqual(answer.status, 200)
        self.assertEqual(len(tokens.requests), 2)

    async def test_own_realm_query(self) -> None:
        """A realm's own query stays."""
        tokens = self.tokens()
        registry = self.registry(tokens)
        tokens.realm = registry.url + "/token?tenant=7"
        self.assertEqual(await self.fetch(self.upstream(registry.url)), 200)
        self.assertIn("tenant=7", registry.asked("token")[0].query)

    async def test_client_own_is_not_kept(self) -> None:
        """What a client's own `Authorization` opens is opened to nobody else."""
        tokens = self.tokens(anonymous=())
        registry = self.registry(tokens)
        upstream = self.upstream(registry.url)
        own = Secret("Bearer " + tokens.issue("puller", [f"repository:{NAME}:pull"]))
        self.assertEqual(await self.fetch(upstream, authorization=own), 200)
        self.assertEqual(await self.fetch(upstream), 401)
        self.assertEqual([record.header("Authorization") for record in registry.requests[:2]], [own.reveal(), None])


class BadRealms(Negotiating):
    """Realms that do not work."""

    async def _fails(self, error: type[Exception], fault: Fault, **further: Any) -> str:
        registry = self.registry(self.tokens())
        registry.fault(fault, "token", times=None)
        with self.assertRaises(error) as caught:
            await self.upstream(registry.url, **further).ask(self.blob())
        return str(caught.exception)

    async def test_down(self) -> None:
        """A realm that fails makes the origin unreachable."""
        self.assertIn("503", await self._fails(OriginUnreachable, Fault(status=503)))
        await self._fails(OriginUnreachable, Fault(hang_up=True))
        await self._fails(OriginUnreachable, Fault(cut=5))

    async def test_limited(self) -> None:
        """A realm that limits our rate is a limit of the origin's, and neither is asked again before it is over."""
        clock = Clock()
        registry = self.registry(self.tokens())
        registry.fault(Fault(status=429, headers=(("Retry-After", "17"),)), "token")
        upstream = self.upstream(registry.url, clock=clock)
        for method in ("GET", "HEAD"):
            with self.assertRaises(OriginBusy) as caught:
                await upstream.ask(self.blob(method=method))
            self.assertEqual(caught.exception.headers, (("Retry-After", "17"),))
        self.assertEqual((len(registry.asked("token")), len(registry.asked("blob"))), (1, 1))
        clock.advance(17.1)
        self.assertEqual(await self.fetch(upstream), 200)

    async def test_passing(self) -> None:
        """A realm that fails for the moment is asked again."""
        for fault in (Fault(status=503), Fault(hang_up=True), Fault(cut=5)):
            registry = self.registry(self.tokens())
            registry.fault(fault, "token", times=2)
            self.assertEqual(await self.fetch(self.upstream(registry.url)), 200)
            self.assertEqual(len(registry.asked("token")), 3)

    async def test_nonsense(self) -> None:
        """An answer without a usable token is a lie."""
        for body in (b"", b"[]", b"{}", b'{"token": 7}', b'{"token": "a\\r\\nX: y"}', b"[" * 100_000, b"\xff"):
            await self._fails(OriginLied, Fault(body=body))

    async def test_encoded(self) -> None:
        """An encoded answer is not decoded."""
        await self._fails(OriginLied, Fault(gzip=True))

    async def test_endless(self) -> None:
        """An answer of more than a mebibyte is not read on."""
        await self._fails(OriginUnreachable, Fault(body=b'{"token": "' + b"x" * 3_000_000 + b'"}'))

    async def test_silent(self) -> None:
        """The realm's silence is the origin's."""
        clock = Clock()
        registry = self.registry(self.tokens())
        registry.fault(Fault(hold=True), "token")
        asking = self.upstream(registry.url, clock=clock).ask(self.blob())
        await eventually(lambda: registry.asked("token"))
        clock.advance(6.1)
        with self.assertRaises(OriginTimeout):
            await asking
        await eventually(lambda: registry.asked("token")[0].done)

    async def test_gives_none(self) -> None:
        """If the realm refuses an anonymous token the origin's 401 is the answer."""
        registry = self.registry(self.tokens())
        for status in (401, 403, 404):
            registry.fault(Fault(status=status), "token")
            self.assertEqual(await self.fetch(self.upstream(registry.url)), 401)

    async def test_challenges_that_cannot_be_met(self) -> None:
        """A realm that is no URL, an unknown scheme, nothing at all: the 401 is the answer."""
        registry = self.registry()
        upstream = self.upstream(registry.url, credential=password())
        for challenge in (
            'Bearer realm="nowhere"',
            'Bearer realm="ftp://a/b"',
            'Bearer realm="http://u:p@a/"',
            'Negotiate abc==, Digest realm="x"',
            "Bearer",
            '"',
            "\xff",
            None,
        ):
            headers = () if challenge is None else (("WWW-Authenticate", challenge),)
            registry.fault(Fault(status=401, headers=headers), "blob")
            self.assertEqual(await self.fetch(upstream), 401)
        self.assertEqual(registry.asked("token"), [])
