"""The fills now running in this process: an open one for each registry and digest, private ones for repositories."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from twisted.internet.defer import Deferred, DeferredList

from crcache.errors import ShuttingDown
from crcache.facts import Crowd, Query
from crcache.flow.fill import Fill
from crcache.flow.tools import Key, Tools
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository

#: Digests whose origin has lied that are remembered; clients can name any.
_MOST = 1024


class Fills:
    """Joins clients that want the same bytes of the same registry."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._running: dict[Key, Fill] = {}
        self._leaving: set[Fill] = set()
        self._turns: OrderedDict[Key, int] = OrderedDict()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._running)

    def running(self, registry: Registry, digest: Digest, repository: Repository | None = None) -> Fill | None:
        """The open fill of this digest from this registry, or that repository's private one, if there is one."""
        fill = self._running.get((registry, digest, repository))
        return None if fill is None or fill.paused else fill

    def begin(self, query: Query, expected: int | None) -> Fill:
        """Start the fill that a query for a blob asks for; the one that runs already, if there is one.

        With the query's C{authorization} it is the repository's private one, and uses that until a moment after its
        head can be written, or as L{Fill.lend} says if that is called with it. Whether this client may have what
        others' credentials fetch is for whoever asks to know.

        @param expected: the size that a descriptor gave.
        @raise ShuttingDown: when no new ones are begun.
        """
        if self._stopping:
            raise ShuttingDown("crcache is shutting down")
        key = self._tools.key(query)
        fill = self._running.get(key)
        if fill is not None and fill.paused:
            # It may still be writing. The next one waits for it, as for another process'.
            self._leaving.add(fill)
            fill = None
        if fill is None:
            asked = replace(query, turn=self._turns.get(key, query.turn), crowd=Crowd())
            fill = self._running[key] = Fill(self._tools, asked, expected, self._ended)
            fill.start()
            return fill
        if fill.query.crowd is not None:
            fill.query.crowd.join(query.peer)
        if fill.lending is not None and query.authorization is not None:
            fill.lending.offer(query.authorization)
        return fill

    def _ended(self, fill: Fill) -> None:
        key = fill.key
        self._leaving.discard(fill)
        if self._running.get(key) is fill:
            del self._running[key]
        self._turns.pop(key, None)
        if fill.lied:
            # Whoever asks next is not sent to the same liar, if there is another URL.
            self._turns[key] = fill.query.turn + 1
            if len(self._turns) > _MOST:
                self._turns.popitem(last=False)

    def describe(self) -> list[dict[str, object]]:
        """The fills now running, as JSON can carry them."""
        return [
            {
                "registry": str(fill.query.registry),
                "repository": str(fill.query.repository),
                "digest": str(fill.query.reference),
                "size": fill.size,
                "front": fill.front(),
            }
            for fill in self._running.values()
        ]

    def stop(self) -> Deferred[None]:
        """Leave every fill, resumable. Fires when their locks are free."""
        self._stopping = True
        every = DeferredList([fill.stop() for fill in (*self._running.values(), *self._leaving)])
        return every.addCallback(lambda _: None)
