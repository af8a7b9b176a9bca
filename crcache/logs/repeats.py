"""The same warning, again and again: a few times, and then how often."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

from crcache.events import CACHE_FAILED, CARRIED_ON, CONTENT_DAMAGED, FETCH_FAILED, NOT_KEPT, REPEATED, REQUEST
from crcache.logs.fields import event_of, fields_of, level_of, message_of

#: So often in so many seconds the same is said.
MOST = 5
PERIOD = 60.0
#: These once: a disk that fails does so for every pull. Of failed fetches only the disk's are warnings.
ONCE = frozenset({CACHE_FAILED, NOT_KEPT, CARRIED_ON, FETCH_FAILED})
#: Different things that are counted at a time.
_KEPT = 1024
#: A file's path in a problem: each digest has one of its own, and all are on the same full disk.
_PATH = re.compile(r"\S*/\S*")


@dataclass
class _Period:
    """One thing, since it was first said again.

    @ivar last: the last event that was kept back.
    """

    began: float
    said: int = 0
    kept_back: int = 0
    last: LogEvent | None = None


@implementer(ILogObserver)
class Repeats:
    """Passes events on, but warnings and errors about the same thing no more than L{MOST} times in L{PERIOD} seconds;
    those of L{ONCE} once.

    The same is what has the same event, registry and problem, whatever files that names; without a problem, what is
    said in the same words but for their details. Damaged content is told of for each digest by itself. When a
    period is over, one line says how many were kept back.
    Requests' own lines all pass, and whatever is critical.
    """

    def __init__(self, observer: ILogObserver, seconds: Callable[[], float]) -> None:
        """
        @param seconds: a clock; any thread may call it.
        """
        self._observer = observer
        self._seconds = seconds
        self._periods: OrderedDict[Hashable, _Period] = OrderedDict()
        # A signal's handler may log while the same thread does.
        self._lock = threading.RLock()

    def __call__(self, event: LogEvent) -> None:
        """As L{ILogObserver}. In any thread."""
        kind = event_of(event)
        if level_of(event) not in (LogLevel.warn, LogLevel.error) or kind is REQUEST:
            self._observer(event)
            return
        if self._passes(event):
            self._observer(event)

    def sweep(self, all_of_them: bool = False) -> None:
        """Tell of what was kept back in periods that are over; call it now and then."""
        now = self._seconds()
        with self._lock:
            over = [key for key, each in self._periods.items() if all_of_them or now - each.began >= PERIOD]
            ended = [self._periods.pop(key) for key in over]
        for each in ended:
            self._tell(each)

    def _passes(self, event: LogEvent) -> bool:
        now, key, ended = self._seconds(), _same(event), None
        with self._lock:
            period = self._periods.get(key)
            if period is not None and now - period.began >= PERIOD:
                ended = self._periods.pop(key)
                period = None
            if period is None:
                period = self._periods[key] = _Period(now)
                if ended is None and len(self._periods) > _KEPT:
                    _, ended = self._periods.popitem(last=False)
            passes = period.said < (1 if event_of(event) in ONCE else MOST)
            if passes:
                period.said += 1
            else:
                period.kept_back += 1
                period.last = event
        if ended is not None:
            self._tell(ended)
        return passes

    def _tell(self, period: _Period) -> None:
        if period.last is None:
            return
        kind = event_of(period.last)
        self._observer(
            {
                "log_level": level_of(period.last),
                "log_namespace": __name__,
                "log_time": time.time(),
                "log_format": "{count} times more in the same minute: {sentence}",
                "event": REPEATED,
                "repeated": "-" if kind is None else kind.name,
                "count": period.kept_back,
                "sentence": message_of(period.last),
                **{name: value for name, value in fields_of(period.last).items() if name in ("registry", "problem")},
            }
        )


def _same(event: LogEvent) -> Hashable:
    kind, fields = event_of(event), fields_of(event)
    failure = event.get("log_failure")
    if kind is None:
        return level_of(event), event.get("log_namespace"), message_of(event)
    # A request's id, or an offset, would make each sentence another one; a `line` is a whole sentence by itself.
    words = _PATH.sub("", str(fields.get("problem", ""))) or str(event.get("line") or event.get("log_format"))
    digest = fields.get("digest") if kind is CONTENT_DAMAGED else None
    return kind, fields.get("registry"), words, digest, None if failure is None else str(failure.type)
