"""An HTTP client that sees how an answer ends: in full, in mid-body, or with a reset."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tests.web.cases import reactor

#: Seconds until a test has waited long enough.
PATIENCE = 8.0


class Answer(Protocol):
    """One request's answer, as far as it has come.

    @ivar status: 0 as long as there is no head.
    @ivar clean: whether the server closed the connection in an orderly way; C{None} while it is open.
    """

    def __init__(self, request: bytes) -> None:
        self.status = 0
        self.lines: list[tuple[str, str]] = []
        self.clean: bool | None = None
        self._request = request
        self._pieces: list[bytes] = []
        self._count = 0
        self._head: bytes | None = b""
        self._waiting: list[tuple[int, Deferred[None]]] = []
        self._ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """Ask."""
        self.transport.write(self._request)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        """More of the answer."""
        if self._head is not None:
            self._head += data
            head, blank, data = self._head.partition(b"\r\n\r\n")
            if not blank:
                return
            self._head = None
            first, *rest = head.decode("latin-1").split("\r\n")
            self.status = int(first.split(" ")[1])
            parted = (line.partition(": ") for line in rest)
            self.lines = [(name, value) for name, _, value in parted]
        self._pieces.append(data)
        self._count += len(data)
        self._tell()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The server, or L{leave}, has ended it."""
        self.clean = reason.check(ConnectionDone) is not None
        self._tell()
        self._ended.callback(None)

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for count, deferred in waiting:
            if self.clean is not None or self._count >= count:
                deferred.callback(None)
            else:
                self._waiting.append((count, deferred))

    async def until(self, count: int) -> None:
        """Wait for the head and so many bytes of the body, or for the end."""
        if self.clean is None and (self._head is not None or self._count < count):
            more: Deferred[None] = Deferred()
            self._waiting.append((count, more))
            await more.addTimeout(PATIENCE, reactor)

    async def end(self) -> Answer:
        """Wait for the connection's end; returns the answer itself."""
        await self._ended.addTimeout(PATIENCE, reactor)
        return self

    def pause(self) -> None:
        """Read nothing for now."""
        self.transport.pauseProducing()  # type: ignore[union-attr]

    def resume(self) -> None:
        """Read on."""
        self.transport.resumeProducing()  # type: ignore[union-attr]

    def leave(self) -> None:
        """Go away in mid-answer, if it is not over."""
        if self.clean is None and self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    # What came

    def all(self, name: str) -> list[str]:
        """The values of a header's lines."""
        return [value for key, value in self.lines if key.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        """The value of a header that must not come twice; C{None} if it is not there."""
        values = self.all(name)
        assert len(values) < 2, (name, values)
        return values[0] if values else None

    @property
    def raw(self) -> bytes:
        """The body, as it came."""
        return b"".join(self._pieces)

    @property
    def complete(self) -> bool:
        """Whether a client would take the body for all of it."""
        if self.one("Transfer-Encoding") == "chunked":
            return self.raw.endswith(b"0\r\n\r\n")
        return self.clean is True and self._count == int(self.one("Content-Length") or -1)

    @property
    def body(self) -> bytes:
        """The body."""
        return unchunked(self.raw) if self.one("Transfer-Encoding") == "chunked" else self.raw

    @property
    def code(self) -> str:
        """The code of the error that the body must be."""
        assert self.one("Content-Type") == "application/json", self.lines
        (error,) = json.loads(self.body)["errors"]
        assert error["message"], error
        code: str = error["code"]
        return code


def unchunked(data: bytes) -> bytes:
    """The content of complete chunks, and of no others."""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size or b"0", 16)
        if len(data) < length + 2:
            break
        body, data = body + data[:length], data[length + 2 :]
    return body


def request(target: str, *headers: tuple[str, str], method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    """A request whose connection ends behind the answer."""
    lines = [f"{method} {target} {version}", "Host: cache", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def send(port: int, data: bytes, endpoint: IStreamClientEndpoint | None = None) -> Answer:
    """Put a request to C{127.0.0.1}, and return its answer before anything of it has come.

    @param endpoint: where else to.
    """
    answer = Answer(data)
    to: Any = endpoint or TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    await connectProtocol(to, answer)
    return answer
