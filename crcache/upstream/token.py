"""Bearer tokens: how they are had from a realm.

https://distribution.github.io/distribution/spec/auth/token/ and, for identity tokens, …/spec/auth/oauth/.
"""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from crcache import __version__
from crcache.errors import Astray, OriginBusy, OriginLied, OriginTimeout, OriginUnreachable
from crcache.grammar.json_value import load_json
from crcache.grammar.retry_after import parse_retry_after, rest
from crcache.interfaces import IMeter
from crcache.policy.tour import PASSING
from crcache.secret import Secret
from crcache.settings import Credential
from crcache.upstream.deadline import within
from crcache.upstream.exchange import Exchange, Exchanger, refuse_encoding
from crcache.upstream.failures import Passing
from crcache.upstream.limits import Limits
from crcache.upstream.reading import read
from crcache.upstream.redirect import follow
from crcache.upstream.site import Site
from crcache.upstream.urls import origin_of

_LIMIT = 1 << 20
#: An answer has some ten values. So many are read in a few milliseconds, for which the reactor stands still.
_MOST_VALUES = 10_000
_TEXT = re.compile(r"[\x21-\x7e]{1,65536}")
#: Seconds, where the answer does not say (token specification, `expires_in`), and at most.
_LIFETIME = 60.0
_LONGEST = 24 * 3600.0


class CredentialsRefused(Exception):
    """A realm does not take the administrator's credentials.

    @ivar all: whether it is the credentials themselves, not only what they were used for.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status
        self.all = status != 403


class RealmBusy(OriginBusy):
    """A realm limits our rate.

    @ivar said: for how many seconds it wants to be left alone, if it says so.
    """

    def __init__(self, message: str, said: float | None) -> None:
        super().__init__(message, seconds=said, headers=[("Retry-After", str(math.ceil(rest(said))))])
        self.said = said


@dataclass(frozen=True)
class Realm:
    """What a Bearer challenge says."""

    url: str
    service: str | None
    scope: str


@dataclass(frozen=True)
class Token:
    """A token, and the clock's time until which it is used."""

    text: Secret
    until: float


class Realms:
    """Asks realms for tokens."""

    def __init__(self, exchanger: Exchanger, limits: Limits, clock: Any, meter: IMeter, timeout: float) -> None:
        """
        @param timeout: seconds for one token.
        """
        self._exchanger = exchanger
        self._limits = limits
        self._clock = clock
        self._meter = meter
        self._timeout = timeout

    def fetch(self, site: Site, realm: Realm, credential: Credential | None) -> Deferred[Token | None]:
        """A token; C{None} if the realm gives none to us.

        Fails with L{CredentialsRefused}, with L{OriginUnreachable} or L{OriginTimeout} if the realm does not work,
        with L{RealmBusy} if it limits our rate, with L{OriginBusy} if too many wait for it, with L{Astray} if the
        registry has no business there, and with L{OriginLied} if its answer makes no sense.
        """

        def late() -> OriginTimeout:
            where = origin_of(realm.url)
            return OriginTimeout(f"the token realm at {where} did not answer within {self._timeout:g} s; try again")

        fetching = Deferred.fromCoroutine(self._fetch(site, realm, credential))
        return within(fetching, self._timeout, self._clock, late)

    async def _fetch(self, site: Site, realm: Realm, credential: Credential | None) -> Token | None:
        where = origin_of(realm.url)
        slot = await self._limits.acquire(where, False, site.registry, site.peer)
        try:
            begun = self._clock.seconds()
            agent = _RealmAgent(self._exchanger, site, self._meter)
            try:
                exchange = await _request(agent, site, realm, credential)
                slot.answered()
            except ValueError as error:
                raise OriginLied(f"{site.origin} names a token realm that is no URL; ask its administrator") from error
            refuse_encoding(exchange)
            body = await read(exchange, _LIMIT)
        finally:
            slot.release()
        status = exchange.status
        if status == 429:
            said = parse_retry_after(exchange.header("Retry-After"), exchange.header("Date"))
            raise RealmBusy(f"the token realm at {where} limits the rate of requests (429); ask later", said)
        if credential is not None and status in (400, 401, 403) and (status != 400 or credential.identity_token):
            raise CredentialsRefused(status)
        if 400 <= status < 500 and status != 408:
            return None
        if status != 200 or body is None:
            kind = Passing if status in PASSING or status == 200 else OriginUnreachable
            raise kind(f"the token realm at {where} answered with {status}; try again")
        return parse_token(body, begun, str(where))


async def _request(agent: _RealmAgent, site: Site, realm: Realm, credential: Credential | None) -> Exchange:
    client = HTTPClient(agent)
    scopes = [("scope", scope) for scope in realm.scope.split()]
    service = [("service", realm.service)] if realm.service is not None else []
    headers = Headers(
        {
            "User-Agent": [f"crcache/{__version__}"],
            "X-Request-Id": [site.request_id],
            "Accept": ["application/json"],
        }
    )
    if credential is not None and credential.identity_token:
        form = [("grant_type", "refresh_token"), *service, ("client_id", "crcache"), ("scope", realm.scope)]
        form.append(("refresh_token", credential.password.reveal()))
        await client.post(realm.url, data=form, headers=headers, allow_redirects=False, unbuffered=True)
    else:
        parameters = [*service, *scopes]
        if credential is not None:
            parameters.append(("account", credential.username))
            agent.authorization = basic(credential)
        await client.get(realm.url, params=parameters, headers=headers, allow_redirects=False, unbuffered=True)
    return agent.exchange


@implementer(IAgent)
class _RealmAgent:
    """What treq sends its request through: identity encoding, and redirects without credentials."""

    exchange: Exchange

    def __init__(self, exchanger: Exchanger, site: Site, meter: IMeter) -> None:
        self._exchanger = exchanger
        self._site = site
        self._meter = meter
        self.authorization: Secret | None = None

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[Any]:
        """As L{IAgent}."""
        return Deferred.fromCoroutine(self._request(method.decode(), uri.decode(), headers or Headers(), bodyProducer))

    async def _request(self, method: str, url: str, headers: Headers, body: IBodyProducer | None) -> Any:
        headers = headers.copy()
        headers.setRawHeaders("Accept-Encoding", ["identity"])
        settings = self._site.settings
        if body is None:
            self.exchange = await follow(
                self._exchanger, method, url, headers, settings, self.authorization, self._asked,
                downgrade=self._site.plain, loyal=False,
            )  # fmt: skip
        else:
            try:
                self.exchange = await self._exchanger.exchange(method, url, headers, settings, body)
            except (CancelledError, Astray):
                raise
            except Exception:
                self._asked(None)
                raise
            self._asked(self.exchange.status)
        return self.exchange.response

    def _asked(self, status: int | None) -> None:
        self._meter.asked(self._site.registry, "token", status)


def basic(credential: Credential) -> Secret:
    """The `Authorization` value of a name and password (RFC 7617)."""
    pair = f"{credential.username}:{credential.password.reveal()}"
    return Secret("Basic " + base64.b64encode(pair.encode()).decode())


def parse_token(body: bytes, begun: float, where: str) -> Token:
    """The token in a realm's answer.

    It is used until shortly before it expires: a tenth of its life, but at most half a minute.

    @param begun: the clock's time when it was asked for.
    @raise OriginLied: if there is none.
    """
    wrong = OriginLied(f"the token realm at {where} gave no token; ask its administrator")
    try:
        answer = load_json(body, _MOST_VALUES)
    except ValueError:
        raise wrong from None
    if not isinstance(answer, dict):
        raise wrong
    text = answer.get("token") or answer.get("access_token")
    if not isinstance(text, str) or not _TEXT.fullmatch(text):
        raise wrong
    life = _lifetime(answer.get("expires_in"))
    return Token(Secret(text), begun + life - min(life / 10, 30.0))


def _lifetime(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _LIFETIME
    # An integer of JSON may be too large for a float: it is clamped before it becomes one.
    if isinstance(value, float) and not math.isfinite(value):
        return _LIFETIME
    return float(min(max(value, 0), _LONGEST))
