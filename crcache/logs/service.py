"""The log of the running daemon: chosen before twistd begins to log, flushed when the reactor has stopped."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from crcache.errors import ConfigError
from crcache.host.journal import SOCKET, Journal
from crcache.logs.fields import reaches
from crcache.logs.observers import LEVELS, JournalObserver, lost_entry
from crcache.logs.output import file_observer, journal_is_stderr
from crcache.logs.repeats import PERIOD, Repeats

#: Seconds that a journal which hangs may hold the end of the process up.
_PATIENCE = 2.0


@implementer(ILogObserver)
class Threshold:
    """Passes on what is of the level in force, or more serious.

    @ivar level: its name, as in L{LEVELS}; may be changed at any time.
    """

    def __init__(self, observer: ILogObserver, level: str) -> None:
        self.level = level
        self._observer = observer

    def __call__(self, event: LogEvent) -> None:
        """As L{ILogObserver}. In any thread."""
        if reaches(event, LEVELS[self.level]):
            self._observer(event)


class Logs(MultiService):
    """What twistd runs: the daemon, and its log.

    twistd asks the application which observer to log to, after it has made us a part of it, and unless it was told
    one with C{--logger}.
    """

    name = "crcache"

    def __init__(
        self,
        daemon: IService,
        reactor: Any,
        twistd: Mapping[str, Any],
        form: str,
        level: str,
        environ: Mapping[str, str] = os.environ,
        socket: str = SOCKET,
    ) -> None:
        """
        @param twistd: its own options.
        @param form: as C{log-format} has it.
        @param level: as C{log-level} has it.
        @raise ConfigError: if there is no journal, and nothing else would do.
        """
        super().__init__()
        self._reactor = reactor
        self._twistd = twistd
        self._journal: Journal | None = None
        self._form = chosen(form, twistd, environ)
        if self._form == "journal":
            if form == "journal" and not os.path.exists(socket):
                raise ConfigError(f"log-format: journal: there is no journal at {socket}; use text or json")
            self._journal = Journal(lost_entry, socket)
        self._level = level
        self._threshold: Threshold | None = None
        self._repeats: Repeats | None = None
        self._sweeping: Any = None
        daemon.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        """As L{IService}. The application learns here where to log to; a log file is opened when twistd opens its."""
        super().setServiceParent(parent)
        if self._twistd.get("logger"):
            return
        journal = self._journal
        output = JournalObserver(journal) if journal else file_observer(self._form, self._twistd, self._reactor)
        self._repeats = Repeats(output, self._reactor.seconds)
        self._threshold = Threshold(self._repeats, self._level)
        parent.setComponent(ILogObserver, self._threshold)

    def use(self, level: str) -> None:
        """From now on this level."""
        self._level = level
        if self._threshold is not None:
            self._threshold.level = level

    def startService(self) -> None:
        """Begin what writes to the journal, then the daemon."""
        if self._journal is not None:
            self._journal.start()
            # What keeps the daemon from starting ends the process without the reactor.
            atexit.register(self._journal.stop, _PATIENCE)
        if self._repeats is not None:
            self._sweeping = LoopingCall(self._repeats.sweep)
            self._sweeping.clock = self._reactor
            self._sweeping.start(PERIOD / 4, now=False)
        # When all services have stopped, and said what there was to say.
        self._reactor.addSystemEventTrigger("after", "shutdown", self.finish)
        super().startService()

    def finish(self) -> None:
        """Say what is still to be said, and have it written. Idempotent."""
        if self._sweeping is not None and self._sweeping.running:
            self._sweeping.stop()
        if self._repeats is not None:
            self._repeats.sweep(all_of_them=True)
        if self._journal is not None:
            self._journal.stop(_PATIENCE)


def chosen(form: str, twistd: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """What C{auto} means: the journal if that is where standard error goes, and twistd was told no other place."""
    if form != "auto":
        return form
    elsewhere = twistd.get("logfile") or twistd.get("syslog")
    return "journal" if not elsewhere and journal_is_stderr(environ) else "text"
