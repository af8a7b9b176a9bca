"""The seam towards clients: who puts bodies behind heads, and where bodies go on when their files fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from crcache.grammar.digest import Digest
from crcache.grammar.ranges import ContentRange
from crcache.interfaces import IAnswer, IBody

if TYPE_CHECKING:
    from twisted.web.server import Request


class IRest(Interface):
    """Where one client's blob goes on when there is no file to send it from."""

    digest: Digest = Attribute("What the whole body must hash to.")

    def ask(start: int, stop: int | None) -> Deferred[IAnswer]:
        """Ask the origin for these bytes (C{stop} exclusive; C{None} is the body's end).

        @return: a 206 that begins with C{start}, or a 200: the whole. Fails with an
            L{OriginError<crcache.errors.OriginError>} for whatever else the origin says as well.
        """

    def damaged(body: IBody) -> None:
        """This body's file is short, or cannot be read: drop it, so that it is fetched again."""


class ISender(Interface):
    """Puts a body behind an answer's headers.

    For each method: status and headers (with `Content-Length` wherever the length is known) are set on the request,
    nothing has been written yet. The request is finished; or, if not all of the right bytes can be had, its connection
    ends, short of the length if what was sent is right, else with a reset. Either way the Deferred fires with the
    number of body bytes handed to the socket, also when the client has gone away. It fails only before the head.
    """

    def send(
        request: Request, body: IBody, start: int, stop: int | None, held: bool, rest: IRest | None = None
    ) -> Deferred[int]:
        """Bytes C{start} to C{stop} (exclusive) of the body, as they become readable; from C{rest} if the file fails.

        @param stop: C{None} while the size is unknown: chunked, to the end.
        @param held: withhold the last bytes until the body is verified (whole answers and open-ended ranges).
        """

    def relay(
        request: Request,
        answer: IAnswer,
        digest: Digest | None,
        rest: IRest | None = None,
        start: int = 0,
        part: ContentRange | None = None,
        proved: Callable[[int], None] | None = None,
    ) -> Deferred[int]:
        """An origin's body, as it comes. With a digest the last bytes are withheld until it is verified.

        @param rest: where to go on if it breaks off; C{start} is where in the whole body it begins.
        @param part: what of the whole body the client gets; what comes before that is hashed, and left out.
        @param proved: called once, with the size, when all of the whole body has come from the origin and is what the
            digest says; not if the client has left before. Never without a digest, or if C{start} is not 0.
        """

    def sized(body: IBody) -> Deferred[int]:
        """The body's size as soon as it is known. Fails with L{BodyCut<crcache.errors.BodyCut>} if it never will be."""
