"""Nothing is served of registries that may not be asked, be it cached or not."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from zope.interface import implementer

from crcache import events
from crcache.asks import Ask, Ping
from crcache.errors import NotAllowed
from crcache.interfaces import ICache
from crcache.outcomes import Outcome
from crcache.policy.reach import refusal
from crcache.settings import Config

log = Logger()


@implementer(ICache)
class Gatekeeper:
    """Stands before the story; what it lets pass is answered as the story answers it."""

    def __init__(self, story: ICache, config: Config) -> None:
        self._story = story
        self._config = config

    def handle(self, ask: Ask) -> Deferred[Outcome]:
        """As L{ICache.handle}; fails at once with L{NotAllowed} if the registry may not be asked."""
        if not isinstance(ask, Ping):
            named = ask.registry in self._config.registries
            problem = refusal(self._config.reach, ask.registry, named)
            if problem is not None:
                log.info(
                    "{problem} (request {request_id})",
                    event=events.NOT_ALLOWED,
                    problem=problem,
                    **events.about(ask),
                )
                return fail(NotAllowed(problem))
        return self._story.handle(ask)
