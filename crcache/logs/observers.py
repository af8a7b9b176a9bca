"""The three forms of a line: text as twistd writes it, JSON, and an entry of the journal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, Any

from twisted.logger import FileLogObserver, ILogObserver, LogEvent, LogLevel, formatEventAsClassicLogText
from zope.interface import implementer

from crcache.events import LINES_LOST
from crcache.host.journal import Entry, Journal
from crcache.logs.callsite import call_site
from crcache.logs.fields import clean_lines, event_of, fields_of, level_of, message_of, traceback_of

IDENTIFIER = "crcache"

#: The names of levels, as C{--log-level} has them.
LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
}

# syslog(3).
_PRIORITIES = {
    LogLevel.debug: "7",
    LogLevel.info: "6",
    LogLevel.warn: "4",
    LogLevel.error: "3",
    LogLevel.critical: "2",
}


def text_observer(file: IO[Any]) -> ILogObserver:
    """Lines as twistd's own: time, part of the program, level, sentence; tracebacks below."""

    def line(event: LogEvent) -> str | None:
        text = formatEventAsClassicLogText(event)
        return None if text is None else clean_lines(text)

    return FileLogObserver(file, line)


def json_observer(file: IO[Any]) -> ILogObserver:
    """One JSON object a line; C{docs/logging.md} has its members."""
    return FileLogObserver(file, lambda event: json.dumps(_members(event)) + "\n")


def _members(event: LogEvent) -> dict[str, str | int | float]:
    moment = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    members: dict[str, str | int | float] = {
        "time": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": level_of(event).name,
        "message": message_of(event),
    }
    kind = event_of(event)
    if kind is not None:
        members |= {"event": kind.name, "message_id": kind.id}
    members |= fields_of(event)
    members["logger"] = str(event.get("log_namespace", "-"))
    traceback = traceback_of(event)
    if traceback is not None:
        members["traceback"] = traceback
    return members


@implementer(ILogObserver)
class JournalObserver:
    """Sends events to the journal, each with what it says in fields of their own."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __call__(self, event: LogEvent) -> None:
        """As L{ILogObserver}. In any thread."""
        self._journal.send(tuple(_entry(event)))


def _entry(event: LogEvent) -> Iterator[tuple[str, str]]:
    message, traceback, kind = message_of(event), traceback_of(event), event_of(event)
    yield "MESSAGE", message if traceback is None else f"{message}\n{traceback}"
    yield "PRIORITY", _PRIORITIES[level_of(event)]
    yield "SYSLOG_IDENTIFIER", IDENTIFIER
    site = None if "repeated" in event else call_site()
    if site is not None:
        yield "CODE_FILE", site.file
        yield "CODE_LINE", str(site.line)
        yield "CODE_FUNC", site.function
    if kind is not None:
        yield "MESSAGE_ID", kind.id
        yield "CRCACHE_EVENT", kind.name
    for name, value in fields_of(event).items():
        yield f"CRCACHE_{name.upper()}", str(value)
    yield "CRCACHE_LOGGER", str(event.get("log_namespace", "-"))
    if traceback is not None:
        yield "CRCACHE_TRACEBACK", traceback


def lost_entry(count: int) -> Entry:
    """What the journal is told when it has not taken so many entries."""
    return (
        ("MESSAGE", f"{count} lines of the log were lost: the journal did not take them in time"),
        ("PRIORITY", _PRIORITIES[LogLevel.warn]),
        ("SYSLOG_IDENTIFIER", IDENTIFIER),
        ("MESSAGE_ID", LINES_LOST.id),
        ("CRCACHE_EVENT", LINES_LOST.name),
        ("CRCACHE_COUNT", str(count)),
    )
