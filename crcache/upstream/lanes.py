"""Names that wait to be looked up: not too many at once, and not too many of one domain."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

#: Names of one domain that are looked up at once in one lane.
PER_DOMAIN = 2
#: Names that may wait in one lane.
QUEUE = 256
#: Seconds until whoever waited for a name does so no longer.
STALE = 15.0


def domain_of(name: str) -> str:
    """The last two labels of a name: what one stranger has, or a few who share a fate."""
    return ".".join(name.rstrip(".").lower().rsplit(".", 2)[-2:])


class Lane:
    """So many look-ups at once, in turn for each domain: one whose servers do not answer keeps others for no longer
    than a turn."""

    def __init__(self, seconds: Callable[[], float], at_once: int) -> None:
        """
        @param seconds: a clock.
        """
        self._seconds = seconds
        self._free = at_once
        self._running: dict[str, int] = {}
        self._queues: OrderedDict[str, deque[tuple[float, Callable[[bool], object]]]] = OrderedDict()
        self._waiting = 0

    def enter(self, name: str, begin: Callable[[bool], object]) -> None:
        """A name is to be looked up.

        @param begin: called when it is its turn, with true; L{leave} must follow. With false if it is not to be looked
            up at all: too many wait, or it has waited for too long.
        """
        domain = domain_of(name)
        self._queues.setdefault(domain, deque()).append((self._seconds(), begin))
        self._waiting += 1
        self._next()
        if self._waiting > QUEUE:
            # The last of the domain with the most goes.
            longest = max(self._queues, key=lambda each: (len(self._queues[each]), each == domain))
            self._pop(longest, last=True)(False)

    def leave(self, name: str) -> None:
        """Its look-up has ended."""
        domain = domain_of(name)
        self._free += 1
        self._running[domain] -= 1
        if not self._running[domain]:
            del self._running[domain]
        self._next()

    def close(self) -> None:
        """Nothing more is looked up."""
        self._free = 0
        while self._queues:
            self._pop(next(iter(self._queues)))(False)

    def _next(self) -> None:
        while self._free > 0:
            ready = (each for each in self._queues if self._running.get(each, 0) < PER_DOMAIN)
            domain = next(ready, None)
            if domain is None:
                return
            stale = self._queues[domain][0][0] + STALE < self._seconds()
            begin = self._pop(domain)
            if domain in self._queues:
                self._queues.move_to_end(domain)
            if not stale:
                self._free -= 1
                self._running[domain] = self._running.get(domain, 0) + 1
            begin(not stale)

    def _pop(self, domain: str, last: bool = False) -> Callable[[bool], object]:
        queue = self._queues[domain]
        _, begin = queue.pop() if last else queue.popleft()
        self._waiting -= 1
        if not queue:
            del self._queues[domain]
        return begin
