"""A private fill as one of its clients sees it, who lends it a credential while it watches."""

from __future__ import annotations

from zope.interface import implementer

from crcache.errors import CrcacheError
from crcache.facts import Verdict
from crcache.flow.lending import Lending
from crcache.interfaces import IBody, IWatcher
from crcache.secret import Secret


@implementer(IBody)
class Lender:
    """The fill's own bytes. Its credential is lent for a moment, then from each L{watch} to its last L{unwatch}."""

    def __init__(self, fill: IBody, lending: Lending, authorization: Secret) -> None:
        self._fill = fill
        self._lending = lending
        self._loan = lending.lend(authorization)
        self._watchers: set[int] = set()

    @property
    def size(self) -> int | None:
        """As L{IBody.size<crcache.interfaces.IBody>}."""
        return self._fill.size

    @property
    def verdict(self) -> Verdict:
        """As L{IBody.verdict<crcache.interfaces.IBody>}."""
        return self._fill.verdict

    @property
    def problem(self) -> CrcacheError | None:
        """As L{IBody.problem<crcache.interfaces.IBody>}."""
        return self._fill.problem

    def open(self) -> int:
        """As L{IBody.open<crcache.interfaces.IBody>}."""
        return self._fill.open()

    def readable(self, offset: int) -> int:
        """As L{IBody.readable<crcache.interfaces.IBody>}."""
        return self._fill.readable(offset)

    def watch(self, watcher: IWatcher, span: tuple[int, int | None] | None = None) -> None:
        """As L{IBody.watch<crcache.interfaces.IBody>}."""
        self._watchers.add(id(watcher))
        self._lending.hold(self._loan)
        self._fill.watch(watcher, span)

    def unwatch(self, watcher: IWatcher) -> None:
        """As L{IBody.unwatch<crcache.interfaces.IBody>}."""
        self._fill.unwatch(watcher)
        if id(watcher) in self._watchers:
            self._watchers.remove(id(watcher))
            if not self._watchers:
                self._lending.give_back(self._loan)
