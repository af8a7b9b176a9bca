"""Which `Authorization` opens a repository, found out from the origin's challenges."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from crcache import events
from crcache.facts import Crowd
from crcache.grammar.challenge import parse_challenges
from crcache.grammar.reference import Repository
from crcache.secret import Secret
from crcache.settings import Credential
from crcache.upstream.keys import Keys
from crcache.upstream.shared import Recent, Shared
from crcache.upstream.showing import objection
from crcache.upstream.site import Site
from crcache.upstream.token import CredentialsRefused, Realm, Realms, Token, basic
from crcache.upstream.urls import origin_of

log = Logger()

#: Seconds for which refused credentials are not tried again.
_REFUSED = 60.0
#: Seconds for which it is not said again that a registry's realm is shown no credentials.
_SAID = 60.0
#: Tokens, repositories and refusals that are remembered.
_KEPT = 4096
#: Characters of a challenge that is met, and of a token that is kept: strangers' registries can make up any.
_LONGEST = 8192


@dataclass(frozen=True)
class Grant:
    """What to send with a request.

    @ivar authorization: C{None} to send nothing.
    @ivar realm: where the token is from; C{None} for Basic.
    @ivar credential: whose it is; C{None}: nobody's.
    @ivar fresh: whether it was got for this very request.
    """

    authorization: Secret | None
    base: str
    realm: Realm | None
    credential: Credential | None
    fresh: bool


#: What is known to apply to a repository: a realm, or (C{None}) Basic.
_Scheme = Realm | None


class Negotiator:
    """Remembers, for all requests, what each origin has asked for and what it took."""

    def __init__(self, realms: Realms, keys: Keys, clock: Any) -> None:
        self._realms = realms
        self._keys = keys
        self._clock = clock
        self._known: Recent[tuple[str, Repository], tuple[_Scheme]] = Recent(_KEPT)
        self._tokens: Recent[tuple[str, Realm, Credential | None], Token] = Recent(_KEPT)
        # By registry besides: where one may be sent another may not.
        self._negotiations: dict[Hashable, tuple[Shared[Token | None], Crowd]] = {}
        self._refusals = Refusals(clock)
        self._said: Recent[str, float] = Recent(_KEPT)

    async def prepare(self, site: Site) -> Grant | None:
        """What to send without waiting for a challenge; C{None} if none is known to come.

        @raise crcache.errors.OriginError: if a token is needed and the realm does not work.
        """
        known = self._known.get((site.base, site.repository))
        return None if known is None else await self._grant(site, known[0])

    async def respond(self, site: Site, lines: list[str], used: Grant | None) -> Grant | None:
        """What to send after a 401; C{None} if there is nothing (more) to try.

        @param lines: its `WWW-Authenticate` lines.
        @param used: what had been sent.
        @raise crcache.errors.OriginError: as L{prepare}.
        """
        if used is not None and used.authorization is not None and used.realm is None:
            self._refuse(site, used)
            return await self._grant(site, None)
        found = await self._scheme(site, lines)
        if found is None:
            return None
        scheme = found[0]
        self._known.put((site.base, site.repository), found)
        if used is not None and scheme is not None and used.realm == scheme:
            if used.fresh:
                return None
            self._drop(used)
        return await self._grant(site, scheme)

    def accepted(self, used: Grant | None) -> None:
        """The origin has answered with something else than 401."""
        if used is not None and used.authorization is not None and used.credential is not None:
            self._refusals.accept(_where(used.base, used.realm), used.credential)

    def _refuse(self, site: Site, used: Grant) -> None:
        if used.credential is not None:
            self._refusals.refuse(used.base, site.repository, used.credential, every=True)
            self._keys.refused(site.registry, site.repository, used.credential)
            log.warn(
                "{origin} refuses the credentials of {user} (request {request_id})",
                event=events.CREDENTIALS_REFUSED,
                registry=str(site.registry),
                repository=str(site.repository),
                request_id=site.request_id,
                origin=str(site.origin),
                user=used.credential.username,
            )

    def _drop(self, used: Grant) -> None:
        if used.realm is not None and used.authorization is not None:
            key = used.base, used.realm, used.credential
            token = self._tokens.get(key)
            if token is not None and _bearer(token) == used.authorization:
                self._tokens.drop(key)

    async def _scheme(self, site: Site, lines: list[str]) -> tuple[_Scheme] | None:
        """The first Bearer challenge that can be met, else Basic if there are credentials for it."""
        challenges = parse_challenges(lines)
        for challenge in challenges:
            url = challenge.parameters.get("realm", "")
            if challenge.scheme == "bearer" and _is_url(url):
                scope = challenge.parameters.get("scope") or f"repository:{site.repository}:pull"
                service = challenge.parameters.get("service")
                if len(url) + len(service or "") + len(scope) <= _LONGEST:
                    return (Realm(url, service, scope),)
        if not any(challenge.scheme == "basic" for challenge in challenges):
            return None
        return None if await self._credential(site, None) is None else (None,)

    async def _credential(self, site: Site, scheme: _Scheme) -> Credential | None:
        """The administrator's credential, if it may be shown there and has not just been refused."""
        credential = await self._keys.lookup(site.registry, site.repository)
        if credential is None:
            return None
        what: Hashable = site.repository
        if scheme is None:
            if credential.identity_token:
                return None
        else:
            what = scheme
            problem = objection(site.settings, site.origin, origin_of(scheme.url))
            if problem is not None:
                self._withheld(site, scheme, problem)
                return None
        return None if self._refusals.refused(_where(site.base, scheme), what, credential) else credential

    def _withheld(self, site: Site, realm: Realm, problem: str) -> None:
        """Say why, now and then: whoever is on the path can name as many realms as he likes."""
        now = self._clock.seconds()
        if now < (self._said.get(site.base) or now):
            return
        self._said.put(site.base, now + _SAID)
        log.warn(
            "the token realm at {realm} is not shown the credentials for {registry}: it {problem}"
            " (request {request_id})",
            event=events.CREDENTIALS_WITHHELD,
            repository=str(site.repository),
            request_id=site.request_id,
            realm=str(origin_of(realm.url)),
            registry=str(site.registry),
            problem=problem,
        )

    async def _grant(self, site: Site, scheme: _Scheme) -> Grant:
        credential = await self._credential(site, scheme)
        if scheme is None:
            text = None if credential is None else basic(credential)
            return Grant(text, site.base, None, credential, fresh=False)
        key = site.base, scheme, credential
        token = self._tokens.get(key)
        if token is not None and self._clock.seconds() < token.until:
            return Grant(_bearer(token), *key, fresh=False)
        try:
            token = await self._negotiate(site, scheme, credential)
        except CredentialsRefused:
            return await self._grant(site, scheme)
        return Grant(None if token is None else _bearer(token), *key, fresh=True)

    def _negotiate(self, site: Site, realm: Realm, credential: Credential | None) -> Deferred[Token | None]:
        key = site.base, realm, credential
        mine = site.registry, key
        shared, crowd = self._negotiations.get(mine, (None, Crowd()))
        if shared is None:
            work = self._realms.fetch(site, realm, credential, crowd)
            # Before anyone who waits for it goes on.
            work.addBoth(self._over, mine)
            work.addCallbacks(self._fetched, self._failed, (key,), {}, (site, realm, credential))
            shared = Shared(work)
            if not shared.over:
                self._negotiations[mine] = shared, crowd
        else:
            crowd.join(site.peer)
        return shared.join()

    def _over(self, result: Any, key: Hashable) -> Any:
        self._negotiations.pop(key, None)
        return result

    def _fetched(self, token: Token | None, key: tuple[str, Realm, Credential | None]) -> Token | None:
        if token is not None:
            if len(token.text.reveal()) <= _LONGEST:
                self._tokens.put(key, token)
            if key[2] is not None:
                self._refusals.accept(key[1].url, key[2])
        return token

    def _failed(self, failure: Any, site: Site, realm: Realm, credential: Credential | None) -> Any:
        if failure.check(CredentialsRefused) and credential is not None:
            self._refusals.refuse(realm.url, realm, credential, every=failure.value.all)
            self._keys.refused(site.registry, site.repository, credential)
            log.warn(
                "the token realm at {realm} refuses the credentials of {user} for {registry} with {status}"
                " (request {request_id})",
                event=events.CREDENTIALS_REFUSED,
                repository=str(site.repository),
                request_id=site.request_id,
                realm=str(origin_of(realm.url)),
                user=credential.username,
                registry=str(site.registry),
                status=failure.value.status,
            )
        return failure


class Refusals:
    """Credentials that were refused a moment ago.

    Credentials that have been taken somewhere are right; when they are refused there later, it is for what they were
    used for, and other repositories must not suffer from it.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._until: Recent[tuple[str, Hashable, Credential], float] = Recent(_KEPT)
        self._accepted: Recent[tuple[str, Credential], bool] = Recent(_KEPT)

    def accept(self, where: str, credential: Credential) -> None:
        """They were taken there (a realm, or a registry's URL)."""
        self._accepted.put((where, credential), True)

    def refuse(self, where: str, what: Hashable, credential: Credential, every: bool) -> None:
        """They were refused there.

        @param what: for what.
        @param every: whether it is probably for everything.
        """
        wide = every and self._accepted.get((where, credential)) is None
        self._until.put((where, None if wide else what, credential), self._clock.seconds() + _REFUSED)

    def refused(self, where: str, what: Hashable, credential: Credential) -> bool:
        """Whether to leave them out."""
        now = self._clock.seconds()
        return any((self._until.get((where, scope, credential)) or now) > now for scope in (None, what))


def _where(base: str, scheme: _Scheme) -> str:
    return base if scheme is None else scheme.url


def _bearer(token: Token) -> Secret:
    return Secret(f"Bearer {token.text.reveal()}")


def _is_url(text: str) -> bool:
    try:
        origin_of(text)
    except ValueError:
        return False
    return True
