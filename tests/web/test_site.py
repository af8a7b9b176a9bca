"""L{crcache.web.site}: what is said of a request that nothing else could answer."""

from __future__ import annotations

import re

from twisted.logger import formatEvent
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource

from crcache import events
from crcache.web.site import Site
from tests.web.cases import reactor
from tests.web.harness import WebCase


class Raises(Resource):
    """Fails at everything."""

    isLeaf = True

    def render(self, request: IRequest) -> bytes:
        raise ZeroDivisionError("secret sauce")


class DefectTests(WebCase):
    """A resource that raises."""

    async def test_says_whose(self) -> None:
        """The line in the log, and the answer, have the client's id of the request, or else the same new one."""
        self.serve(Site(Raises(), reactor))
        for given in (("X-Request-Id", "mine-1"),), (("X-Request-Id", "not one"),), ():
            self.events.clear()
            reply = await self.ask("/v2/", *given)
            (event,) = [event for event in self.events if event.get("event") is events.INTERNAL_ERROR]
            self.assertEqual(event["request_id"], reply.one("X-Request-Id"))
            self.assertIn(f"request {event['request_id']} ", formatEvent(event))
            wanted = "mine-1" if given == (("X-Request-Id", "mine-1"),) else "[0-9a-f]{32}"
            self.assertIsNotNone(re.fullmatch(wanted, event["request_id"]), event["request_id"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)
