"""Where lines go, as twistd's own flags say: a file that it rotates, syslog, or standard output."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any, cast

from twisted.logger import ILogObserver, LegacyLogObserverWrapper, LogEvent, formatEvent
from twisted.python.logfile import LogFile

from crcache.logs.fields import message_of, traceback_of
from crcache.logs.observers import json_observer, text_observer

#: What twistd calls the file of a daemon in the background.
_DEFAULT = "twistd.log"


def journal_is_stderr(environ: Mapping[str, str], descriptor: int = 2) -> bool:
    """Whether what is written to standard error goes to the journal (systemd.exec(5), C{$JOURNAL_STREAM})."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def file_observer(name: str, twistd: Mapping[str, Any], reactor: Any) -> ILogObserver:
    """An observer that writes C{text} or C{json} where twistd itself would write.

    @param twistd: its own options.
    """
    if twistd.get("syslog") and name == "text":
        return _syslog_observer(twistd.get("prefix") or "twisted")
    make: Callable[[IO[Any]], ILogObserver] = json_observer if name == "json" else text_observer
    return make(_file(twistd, reactor))


def _syslog_observer(prefix: str) -> ILogObserver:
    from twisted.python.syslog import SyslogObserver

    emit: Any = SyslogObserver(prefix).emit
    legacy = LegacyLogObserverWrapper(emit)

    def observe(event: LogEvent) -> None:
        traceback = traceback_of(event)
        if traceback is None and not formatEvent(event):
            # Nobody has said anything.
            return
        text = message_of(event) if traceback is None else f"{message_of(event)}\n{traceback}"
        # It takes what is in `message` as it is, and makes a sentence of its own only without it.
        legacy({**event, "message": (text,)})

    return cast(ILogObserver, observe)


def _file(twistd: Mapping[str, Any], reactor: Any) -> IO[Any]:
    path, foreground = twistd.get("logfile"), bool(twistd.get("nodaemon") or twistd.get("debug"))
    if path == "-" and not foreground:
        raise SystemExit("crcache: --logfile: a daemon in the background cannot log to standard output; use -n as well")
    if path == "-" or (foreground and not path):
        return sys.stdout
    file: Any = LogFile.fromFullPath(path or _DEFAULT)

    def rotate(number: int, frame: object) -> None:
        reactor.callFromThread(file.rotate)

    # As twistd does for files of its own.
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, rotate)
    return cast("IO[Any]", file)
