"""What a fake registry remembers of each request."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.web.http_headers import Headers


@dataclass
class Record:
    """One request.

    @ivar kind: ping, manifest, blob, tags, referrers, token, cdn or other.
    @ivar path: without the query.
    @ivar query: what follows the question mark; empty if nothing.
    @ivar status: of the answer; 0 while there is none.
    @ivar sent: bytes of the body that were handed to the socket.
    @ivar done: whether the answer has ended, one way or the other.
    """

    method: str
    path: str
    query: str
    kind: str
    headers: Headers
    status: int = 0
    sent: int = 0
    done: bool = False

    def header(self, name: str) -> str | None:
        """The last line of that name, or C{None}."""
        values = self.headers.getRawHeaders(name)
        return values[-1] if values else None
