"""Where one question is put, and where next when it fails there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

#: Answers that say that an origin, or what stands before it, fails for the moment; 520 to 524 are Cloudflare's.
PASSING = frozenset({500, 502, 503, 504, *range(520, 525)})
#: Seconds before a URL is asked again, at most, for each time that happens in one tour.
PAUSES = (0.2, 0.5)
#: Seconds for which a URL may want to be left alone and is asked again all the same: a client waits.
LONGEST = 1.0


@dataclass(frozen=True)
class Stop:
    """A URL to ask next.

    @ivar pause: seconds to wait before.
    @ivar share: seconds that it has to answer.
    """

    url: str
    pause: float
    share: float


class Tour:
    """Each of a registry's URLs is asked once; then, for as long as there is time, some that failed for the moment."""

    def __init__(
        self, urls: Sequence[str], turn: int, shunned: Collection[str] = (), closed: Collection[str] = ()
    ) -> None:
        """
        @param turn: with which of them to begin, counted on from the first one.
        @param shunned: which of them are asked behind the others, since they gave no answer lately.
        @param closed: which of them must not be asked.
        """
        first = turn % max(len(urls), 1)
        order = [*urls[first:], *urls[:first]]
        self._fresh = sorted((url for url in order if url not in closed), key=lambda url: url in shunned)
        self._again: list[tuple[str, float]] = []
        self._repeats = 0

    def failed(self, url: str, wait: float = 0.0) -> bool:
        """It failed there for the moment, and may be asked again; no if it wants to be left alone for too long.

        @param wait: for how many seconds.
        """
        if wait > LONGEST:
            return False
        self._again.append((url, wait))
        return True

    def next(self, remaining: float, chance: Callable[[], float]) -> Stop | None:
        """Where to ask next; C{None} if nothing is left, or no time for it.

        @param remaining: seconds that all of them together have.
        @param chance: from 0 up to 1; pauses are cut by up to half by it, lest those who failed together come back
            together.
        """
        if self._fresh:
            url = self._fresh.pop(0)
            later = len(self._fresh) + (1 if self._again else 0)
            return Stop(url, 0.0, max(remaining, 0.0) / (1 + later))
        while self._again and self._repeats < len(PAUSES):
            url, wait = self._again.pop(0)
            pause = max(PAUSES[self._repeats] * (1 - chance() / 2), wait)
            if pause < remaining:
                self._repeats += 1
                return Stop(url, pause, remaining - pause)
        return None
