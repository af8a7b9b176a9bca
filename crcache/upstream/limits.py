"""How many requests one origin gets at once."""

from __future__ import annotations

from twisted.internet.defer import Deferred, DeferredSemaphore

from crcache.upstream.urls import Origin

#: For HEADs, tokens and manifests, whose answers are read at once: they never queue behind bodies, among which are
#: lists, since those too come at their client's pace.
SMALL = 8


class Slot:
    """The right to one request."""

    def __init__(self, limits: Limits, key: tuple[Origin, bool], semaphore: DeferredSemaphore) -> None:
        self._limits = limits
        self._key = key
        self._semaphore = semaphore
        self._held = True

    def release(self) -> None:
        """Let the next one go. Idempotent."""
        if self._held:
            self._held = False
            self._semaphore.release()
            self._limits.left(self._key)


class Limits:
    """First come, first served, for each origin: so many bodies, and beside them so many small requests."""

    def __init__(self, bodies: int) -> None:
        self._bodies = bodies
        self._semaphores: dict[tuple[Origin, bool], DeferredSemaphore] = {}
        self._users: dict[tuple[Origin, bool], int] = {}

    def acquire(self, origin: Origin, body: bool) -> Deferred[Slot]:
        """A slot, as soon as there is one. Cancelling it leaves the queue."""
        return Deferred.fromCoroutine(self._acquire((origin, body)))

    async def _acquire(self, key: tuple[Origin, bool]) -> Slot:
        semaphore = self._semaphores.get(key)
        if semaphore is None:
            semaphore = self._semaphores[key] = DeferredSemaphore(self._bodies if key[1] else SMALL)
        self._users[key] = self._users.get(key, 0) + 1
        try:
            await semaphore.acquire()
        except BaseException:
            self.left(key)
            raise
        return Slot(self, key, semaphore)

    def left(self, key: tuple[Origin, bool]) -> None:
        """One user fewer; the last one takes the semaphore with it, since names come from clients."""
        self._users[key] -= 1
        if self._users[key] == 0:
            del self._users[key], self._semaphores[key]
