"""How a fake registry asks for credentials: not at all, Basic, or a token from a realm."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from twisted.web.http import UNAUTHORIZED
from twisted.web.resource import Resource
from twisted.web.server import Request


class Auth(Protocol):
    """Decides whether a request may see a repository."""

    def challenge(self, authorization: str | None, name: str | None, base: str) -> str | None:
        """C{None} to let it pass, or what `WWW-Authenticate` says.

        @param name: the repository; C{None} for the ping.
        @param base: the registry's own URL, without a trailing slash.
        """
        ...


class Open:
    """Everyone may."""

    def challenge(self, authorization: str | None, name: str | None, base: str) -> str | None:
        """Nothing is asked for."""
        return None


def basic(username: str, password: str) -> str:
    """The `Authorization` value (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _parse_basic(authorization: str | None) -> tuple[str, str] | None:
    scheme, _, rest = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        username, _, password = base64.b64decode(rest).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return username, password


@dataclass
class Basic:
    """A user's name and password, with every request."""

    users: Mapping[str, str]
    realm: str = "fake registry"

    def challenge(self, authorization: str | None, name: str | None, base: str) -> str | None:
        """A Basic challenge unless a known user's password came along."""
        found = _parse_basic(authorization)
        if found is not None and self.users.get(found[0]) == found[1]:
            return None
        return f'Basic realm="{self.realm}"'


@dataclass
class TokenRequest:
    """One request that a realm had. C{user} is who was authenticated; C{None} is anonymous."""

    method: str
    scopes: tuple[str, ...]
    service: str | None
    authorization: str | None
    user: str | None
    status: int
    request_id: str | None = None


@dataclass
class _Token:
    user: str | None
    scopes: tuple[str, ...]
    expires: float


@dataclass
class Tokens:
    """Bearer tokens, and the realm that gives them out (distribution's token specification).

    @ivar users: passwords by user.
    @ivar anonymous: beginnings of names that anyone may pull (C{""}: all).
    @ivar identity_tokens: users by refresh token, for `grant_type=refresh_token`.
    @ivar name: the field of the answer: C{token}, C{access_token} or both.
    @ivar expires_in: what the answer says, in seconds; C{None} says nothing.
    @ivar lifetime: how long a token is in fact accepted, in seconds.
    @ivar realm: the realm's URL; C{None} is C{/token} at the registry itself.
    @ivar scope: the challenge's scope, with C{{name}}; C{None} leaves it out.
    @ivar requests: every request the realm had.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    anonymous: Sequence[str] = ("",)
    identity_tokens: Mapping[str, str] = field(default_factory=dict)
    name: Literal["token", "access_token", "both"] = "token"
    expires_in: float | None = 300
    lifetime: float = 3600.0
    realm: str | None = None
    service: str = "fake"
    scope: str | None = "repository:{name}:pull"
    requests: list[TokenRequest] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic
    _tokens: dict[str, _Token] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def challenge(self, authorization: str | None, name: str | None, base: str) -> str | None:
        """A Bearer challenge unless a token for the repository came along."""
        scheme, _, text = (authorization or "").partition(" ")
        token = self._tokens.get(text) if scheme.lower() == "bearer" else None
        wanted = None if name is None else f"repository:{name}:pull"
        if token is not None and self.clock() < token.expires and (wanted is None or wanted in token.scopes):
            return None
        parts = [f'realm="{self.realm or base + "/token"}"', f'service="{self.service}"']
        if name is not None and self.scope is not None:
            parts.append('scope="' + self.scope.format(name=name) + '"')
        if token is not None:
            parts.append('error="invalid_token"')
        return "Bearer " + ",".join(parts)

    def revoke(self) -> None:
        """Accept none of the tokens given out so far."""
        self._tokens.clear()

    def issue(self, user: str | None, scopes: Sequence[str]) -> str:
        """A token for those scopes that the user may have."""
        granted = tuple(
            scope for scope in scopes if user is not None or self._open_to_all(scope.removeprefix("repository:"))
        )
        text = f"token-{next(self._numbers)}-{secrets.token_hex(8)}"
        self._tokens[text] = _Token(user, granted, self.clock() + self.lifetime)
        return text

    def _open_to_all(self, name: str) -> bool:
        return any(name.startswith(prefix) for prefix in self.anonymous)

    def answer(self, request: Request) -> tuple[int, bytes]:
        """What the realm says to a request: the status and the JSON body."""
        args = {key.decode(): [value.decode() for value in values] for key, values in (request.args or {}).items()}
        scopes = tuple(scope for value in args.get("scope", []) for scope in value.split(" "))
        authorization = request.getHeader("authorization")
        record = TokenRequest(
            request.method.decode(),
            scopes,
            args.get("service", [None])[0],
            authorization,
            None,
            200,
            request.getHeader("x-request-id"),
        )
        self.requests.append(record)
        refused = False
        if record.method == "POST":
            record.user = self.identity_tokens.get(args.get("refresh_token", [""])[0])
            refused = record.user is None or args.get("grant_type") != ["refresh_token"]
        elif authorization is not None:
            username, password = _parse_basic(authorization) or ("", "")
            refused = self.users.get(username) != password
            record.user = None if refused else username
        if refused:
            record.status = UNAUTHORIZED
            return UNAUTHORIZED, b'{"errors": [{"code": "UNAUTHORIZED", "message": "wrong credentials"}]}'
        text = self.issue(record.user, scopes)
        names = ("token", "access_token") if self.name == "both" else (self.name,)
        body: dict[str, object] = dict.fromkeys(names, text)
        if self.expires_in is not None:
            body["expires_in"] = self.expires_in
        return 200, json.dumps(body).encode()

    def resource(self) -> Resource:
        """The realm as a resource of its own, for another listener."""
        return _Realm(self)


class _Realm(Resource):
    isLeaf = True

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self._tokens = tokens

    def render(self, request: Request) -> bytes:
        status, body = self._tokens.answer(request)
        request.setResponseCode(status)
        request.setHeader("content-type", "application/json")
        return body
