"""What a process knows of grants, and how it shares that with its host's others."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from crcache import events
from crcache.grammar.reference import Registry, Repository
from crcache.granting import IGrants
from crcache.grants.directory import Directory, Unusable
from crcache.grants.moments import Moment, expiry, is_ahead, now
from crcache.secret import Secret
from crcache.workers import Workers

log = Logger()

#: How many grants of its own a process remembers.
MOST = 16_384
#: Seconds between two looks for those in the directory that have expired.
SWEEP = 60.0


@dataclass
class _Grant:
    """@ivar shared: whether it was in the directory, once: if it is there no more, somebody has taken it back."""

    expiry: Moment
    shared: bool = False


@implementer(IGrants)
class Grants:
    """Grants in memory, by hashes under a key that dies with the process, and in a directory.

    What was granted here counts at once. As soon as it is in the directory, that alone is asked, so that whom one
    process is told to drop none lets in; where it cannot be asked, or written to, memory has the word.
    """

    def __init__(
        self,
        runtime: Path | None,
        workers: Workers,
        timer: IReactorTime,
        clock: Callable[[], Moment] = now,
        scope: str = "",
    ) -> None:
        """
        @param runtime: a directory that is gone with the boot, and this user's; C{None}: nothing is shared.
        @param workers: one thread: what is granted and then dropped must be written in this order.
        @param scope: with whom it is shared: those with the same one.
        """
        self._path = None if runtime is None else runtime / "grants"
        self._directory = None if self._path is None else Directory(self._path, clock)
        self._workers = workers
        self._clock = clock
        self._scope = scope
        self._key = secrets.token_bytes(32)
        self._grants: dict[bytes, _Grant] = {}
        self._looks: dict[bytes, set[object]] = {}
        self._told = False
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = timer

    def start(self) -> None:
        """Begin to sweep; the workers run."""
        if self._directory is not None:
            self._sweeping.start(SWEEP)

    def stop(self) -> None:
        """Sweep no more. Idempotent."""
        if self._sweeping.running:
            self._sweeping.stop()

    def known(self, authorization: Secret, registry: Registry, repository: Repository) -> Deferred[bool]:
        """As L{IGrants.known}."""
        return self._known(self._framed(authorization, registry, repository))

    def _known(self, grant: bytes) -> Deferred[bool]:
        name = self._name(grant)
        mine = self._living(name)
        if self._directory is None or (mine is not None and not mine.shared):
            return succeed(mine is not None)
        look = object()
        self._looks.setdefault(name, set()).add(look)

        def told(found: bool) -> bool | Deferred[bool]:
            if not self._looked(name, look) and found:
                # It has been dropped meanwhile.
                return self._known(grant)
            if not found and mine is not None and self._grants.get(name) is mine:
                del self._grants[name]
            return found or self._living(name) is not None

        def failed(failure: Failure) -> bool:
            self._looked(name, look)
            self._alone(failure)
            return self._living(name) is not None

        asked: Deferred[bool] = self._workers.run(self._directory.known, grant)
        return asked.addCallbacks(told, failed)

    def _looked(self, name: bytes, look: object) -> bool:
        """A look into the directory is over; whether what it found still holds here."""
        looks = self._looks.get(name, set())
        if look not in looks:
            return False
        looks.remove(look)
        if not looks:
            del self._looks[name]
        return True

    def add(self, authorization: Secret, registry: Registry, repository: Repository) -> None:
        """As L{IGrants.add}."""
        grant = self._framed(authorization, registry, repository)
        mine = _Grant(expiry(self._clock()))
        name = self._name(grant)
        # They all last equally long: those that were given first expire first.
        self._grants.pop(name, None)
        self._grants[name] = mine
        self._forget()

        def written(_: None) -> None:
            mine.shared = True

        if self._directory is not None:
            self._workers.run(self._directory.add, grant, mine.expiry).addCallbacks(written, self._alone)

    def drop(self, authorization: Secret, registry: Registry, repository: Repository) -> None:
        """As L{IGrants.drop}."""
        grant = self._framed(authorization, registry, repository)
        name = self._name(grant)
        self._grants.pop(name, None)
        # Of this one alone: strangers are refused all the time, and nobody must wait for that to end.
        self._looks.pop(name, None)

        def failed(failure: Failure) -> None:
            # It is there still, to be believed: so nothing is, from now on.
            self._directory = None
            self._alone(failure)

        if self._directory is not None:
            self._workers.run(self._directory.drop, grant).addErrback(failed)

    def _framed(self, authorization: Secret, registry: Registry, repository: Repository) -> bytes:
        """All that makes a grant, in such a way that no two are the same."""
        parts = [self._scope, authorization.reveal(), str(registry), str(repository)]
        encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
        return b"".join(len(part).to_bytes(8, "big") + part for part in encoded)

    def _name(self, grant: bytes) -> bytes:
        return hmac.digest(self._key, grant, "sha256")

    def _living(self, name: bytes) -> _Grant | None:
        found = self._grants.get(name)
        return found if found is not None and is_ahead(found.expiry, self._clock()) else None

    def _forget(self) -> None:
        """The oldest ones, if they have expired or there are too many."""
        while self._grants:
            name = next(iter(self._grants))
            if len(self._grants) <= MOST and self._living(name) is not None:
                return
            del self._grants[name]

    def _sweep(self) -> Deferred[None] | None:
        if self._directory is None:
            return None
        return self._workers.run(self._directory.sweep).addErrback(self._alone)

    def _alone(self, failure: Failure) -> None:
        """Say once why nothing is shared. What may be somebody else's is not looked at again."""
        if failure.check(Unusable) is not None:
            self._directory, problem = None, str(failure.value)
        elif isinstance(failure.value, OSError):
            problem = f"{self._path}: {failure.value.strerror}"
        else:
            log.failure("grants cannot be shared", failure, event=events.INTERNAL_ERROR)
            return
        if not self._told:
            self._told = True
            told = "who may read private content is not shared with this host's other processes: {problem}"
            log.warn(told, event=events.GRANTS_ALONE, problem=problem)
