"""The registry of a chaos run, as a process: `python -m tests.chaos.origin SEED IMAGES SHARE`.

It prints one line of JSON (where it is), and ends with its standard input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet import stdio
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request

from crcache.testing.auth import Tokens
from crcache.testing.listener import Listener
from crcache.testing.records import Record
from crcache.testing.registry import FakeRegistry
from tests.chaos.faults import Faults, Told
from tests.chaos.images import make

#: How many URLs the registry has, of which one at most lies about a thing.
URLS = 3
#: Seconds after which a token is not accepted any more, long before the time that it names itself.
_TOKEN = 8.0

reactor: Any = _reactor


class Registry:
    """The registry at all its URLs, the host that it redirects to, and what it says of itself.

    @ivar urls: each wants a token of its own; in the order in which they are to be tried.
    @ivar control: C{/} there has what it did, as JSON.
    """

    def __init__(self, seed: int, count: int, share: float) -> None:
        """
        @param count: how many images.
        @param share: of the answers that are bad.
        """
        content, _ = make(seed, count)
        self.told = Told()
        elsewhere = FakeRegistry(content)
        host = elsewhere.start(reactor)
        self.places = [elsewhere]
        for number in range(URLS):
            place = FakeRegistry(content, Tokens(lifetime=_TOKEN))
            faults = Faults(seed, number, URLS, share, content, self.told, host)
            faults.record = _last(place)
            place.script = faults
            place.start(reactor)
            self.places.append(place)
        faults = Faults(seed, URLS, URLS, share, content, self.told, None)
        faults.record = _last(elsewhere)
        elsewhere.script = faults
        self.urls = [place.url for place in self.places[1:]]
        self.control = Listener(reactor, _Control(self)).url

    def describe(self) -> dict[str, object]:
        """What it did so far, as JSON can carry it."""
        return {
            "answers": self.told.answers,
            "bytes": sum(record.sent for place in self.places for record in place.requests),
            "faults": dict(self.told.faults),
            "lies": self.told.lies,
        }


def _last(place: FakeRegistry) -> Callable[[], Record]:
    return lambda: place.requests[-1]


class _Control(Resource):
    isLeaf = True

    def __init__(self, registry: Registry) -> None:
        super().__init__()
        self._registry = registry

    def render_GET(self, request: Request) -> bytes:
        return json.dumps(self._registry.describe()).encode()


class _Life(Protocol):
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reactor.running:
            reactor.stop()


def main() -> None:
    """Serve until whoever began this is gone."""
    seed, count, share = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    registry = Registry(seed, count, share)
    print(json.dumps({"urls": registry.urls, "control": registry.control}), flush=True)
    stdio.StandardIO(_Life())
    reactor.run()


if __name__ == "__main__":
    main()
