"""A fake registry, and Twisted's plain client to ask it with."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
)
from twisted.web.http_headers import Headers

from crcache.testing.auth import Auth
from crcache.testing.registry import FakeRegistry
from tests.upstream.harness import AsyncTestCase


class _Body(Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.done: Deferred[None] = Deferred()
        self.reason = connectionDone

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason
        self.done.callback(None)


class Reply:
    """An answer: status, headers, body, and how the body ended."""

    def __init__(self, response: Any, body: _Body) -> None:
        self.status = response.code
        self.length = response.length
        self.headers: Headers = response.headers
        self.body = body.data
        self.end = body.reason.type

    def header(self, name: str) -> str | None:
        values = self.headers.getRawHeaders(name)
        return values[0] if values else None


class RegistryCase(AsyncTestCase):
    """Starts a registry with one image."""

    def start(self, auth: Auth | None = None, tls: Any = None, ca: bytes | None = None) -> FakeRegistry:
        self.fake = FakeRegistry(auth=auth)
        self.image = self.fake.add_image("team/app", "1.0", [1000, 200_000])
        self.layer = self.fake.content.blobs[self.image.layers[1]]
        self.path = f"/v2/team/app/blobs/{self.image.layers[1]}"
        self.fake.start(reactor, tls)
        roots = None if ca is None else trustRootFromCertificates([Certificate.loadPEM(ca)])
        self.pool = HTTPConnectionPool(reactor)
        self.agent = Agent(reactor, BrowserLikePolicyForHTTPS(roots), pool=self.pool)
        self.addCleanup(self.finish)
        return self.fake

    def finish(self) -> Deferred[Any]:
        return gatherResults([self.pool.closeCachedConnections(), self.fake.stop()])

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Reply:
        lines = Headers({name.replace("_", "-"): [value] for name, value in headers.items()})
        response = await self.agent.request(method.encode(), (self.fake.url + path).encode(), lines)
        body = _Body()
        response.deliverBody(body)
        await body.done
        return Reply(response, body)
