"""L{crcache.flow.sender}: what is decided before a byte is sent."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import BodyCut
from crcache.facts import Verdict
from crcache.flow.carry import Means
from crcache.flow.sender import Sender
from crcache.testing.fakes import MemoryBody
from crcache.workers import Inline


class Request:
    """One whose head has not been written.

    @ivar channel: C{None} once the client has gone.
    """

    channel: object = object()


class DecisionTests(SynchronousTestCase):
    """A sender, and requests that it must not touch."""

    def setUp(self) -> None:
        """Have it."""
        self.sender = Sender(Means(Inline(), Inline(), Clock(), lambda _: None))

    def test_failed_by_now(self) -> None:
        """A body that has failed before the head is written is an error that the client can be told."""
        body = MemoryBody(b"data", 1)
        body.judge(Verdict.FAILED)
        self.assertRaises(BodyCut, self.sender.send, cast(Any, Request()), body, 0, 4, True)

    def test_gone(self) -> None:
        """To a client that has gone nothing is sent."""
        request = Request()
        request.channel = None
        body = MemoryBody(b"data", 4)
        self.assertEqual(self.successResultOf(self.sender.send(cast(Any, request), body, 0, 4, True)), 0)
