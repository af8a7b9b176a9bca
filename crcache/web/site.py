"""What listens for HTTP: a Site without an access log of its own, and its requests."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import Request as HTTPRequest
from twisted.web.http import datetimeToString
from twisted.web.resource import IResource

from crcache import __version__, events
from crcache.web.channel import Channel
from crcache.web.drain import Connections
from crcache.web.parse import request_id_of
from crcache.web.peers import Admission, peer_of, unlimited
from crcache.web.render import INTERNAL_ERROR, refuse

log = Logger()

#: Seconds that a connection may be idle between requests.
IDLE = 60.0

_SERVER = f"crcache/{__version__}".encode()

# RFC 9112, 3.2.2: "a server MUST accept the absolute-form in requests".
_ABSOLUTE_FORM = re.compile(rb"\Ahttps?://[^/?#]*", re.IGNORECASE)


class Request(server.Request):
    """A request whose body, if it has one, goes nowhere.

    @ivar answered_at: when the first byte of the answer was written, in the reactor's seconds; C{None} before.
    """

    defaultContentType = None
    answered_at: float | None = None

    def gotLength(self, length: int | None) -> None:
        """The head is complete. Nothing is ever spooled, to memory or disk."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Part of the body; dropped."""

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The request is complete: C{path} is the request-target (RFC 9112, 3.2)."""
        hosts = len(self.requestHeaders.getRawHeaders(b"Host") or ())
        # RFC 9112, 3.2: 400 to HTTP/1.1 without a Host line, and to anything with several.
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or hosts > 1 or (hosts == 0 and version == b"HTTP/1.1"):
            self.channel._respondToBadRequestAndDisconnect()
            return
        absolute = _ABSOLUTE_FORM.match(path)
        if absolute is not None:
            path = path[absolute.end() :]
            path = path if path.startswith(b"/") else b"/" + path
        super().requestReceived(command, path, version)

    def process(self) -> None:
        """Hand the request to its resource."""
        self.site = cast(Site, self.channel.site)  # type: ignore[attr-defined]
        self.responseHeaders.setRawHeaders(b"Server", [_SERVER])
        self.responseHeaders.setRawHeaders(b"Date", [datetimeToString()])
        self.prepath = []
        self.postpath = self.path[1:].split(b"/")
        try:
            self.render(self.site.getResourceFor(self))
        except Exception:
            self.processingFailed(Failure())

    def processingFailed(self, reason: Failure) -> Failure:
        """A resource raised: log it, and tell the client nothing of it."""
        request_id = request_id_of(self.requestHeaders)
        log.failure(
            "request {request_id} could not be answered", reason, event=events.INTERNAL_ERROR, request_id=request_id
        )
        refuse(self, INTERNAL_ERROR, request_id)
        return reason

    def write(self, data: bytes) -> None:
        """Write head and body of the answer."""
        if not self.startedWriting and self.channel is not None and not self.channel.persistent:
            self.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        if self.answered_at is None and self.site is not None:
            self.answered_at = self.site.reactor.seconds()
        super().write(data)


class Site(server.Site):
    """HTTP/1.1 for a resource, over whatever is listened on.

    There is no HTTP/2: bodies go straight from files to sockets.

    @ivar connected: its connections.
    @ivar admission: says which are taken.
    """

    protocol = Channel  # type: ignore[assignment]
    noisy = False

    def __init__(self, resource: IResource, reactor: IReactorTime, admission: Admission | None = None) -> None:
        """
        @param admission: C{None}: all are.
        """
        super().__init__(resource, requestFactory=Request, timeout=IDLE, reactor=reactor)
        self.admission = unlimited() if admission is None else admission
        self.connected = Connections(reactor, self.admission.tally)

    def buildProtocol(self, addr: Any) -> Any:
        """A connection was made. C{None}: it is closed at once."""
        peer = peer_of(addr)
        if not self.admission.admits(peer):
            return None
        channel = super().buildProtocol(addr)
        channel.peer = peer
        return channel

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self.connected)

    @property
    def busy(self) -> int:
        """How many requests are being answered."""
        return self.connected.busy

    def drain(self, seconds: float) -> Deferred[None]:
        """Bring everything to an end. From now on each answer is its connection's last, and says so if its head has
        not been written yet.

        Idle connections are closed at once, and fresh ones if no request comes within a moment. What is being answered
        has so many seconds, and is then reset, so that clients resume it elsewhere.

        @return: fires when no connection is left. Called again, with fewer seconds, it hurries.
        """
        return self.connected.drain(seconds)

    def startFactory(self) -> None:
        """Open no log, and tick for none."""

    def stopFactory(self) -> None:
        """There is nothing to close."""

    def log(self, request: HTTPRequest) -> None:
        """Nothing: a resource logs what it has answered itself."""

    def acceptableProtocols(self) -> list[bytes]:
        """For ALPN."""
        return [b"http/1.1"]
