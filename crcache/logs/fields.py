"""What may be said of a log event: its level, its sentence, its fields. Bounded, in one line, and nothing secret."""

from __future__ import annotations

import re
from typing import Any

from twisted.logger import LogEvent, LogLevel, formatEvent

from crcache.events import FIELDS, Event

#: Characters of a field, of a sentence or any other line, and of a traceback.
LONGEST_FIELD = 512
LONGEST_MESSAGE = 4096
LONGEST_TRACEBACK = 16384

#: So many characters more are searched for secrets; what lies beyond is not even looked at.
_MARGIN = 4096

_ORDER = tuple(LogLevel.iterconstants())
#: All controls but the end of a line, and what some take for one.
_CONTROLS = re.compile("[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029]")
_CONTROLS_BUT_TABS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029]")

# Neither ever gets into a log call of crcache's; this is for what other people's exceptions say. Each takes a time in
# proportion to the text, whatever is in it.
_USER = re.compile(r"(https?://)[^\s/'\"<>]+@", re.IGNORECASE)
_QUERY = re.compile(r"(https?://[^\s?'\"<>]*)(\?[^\s'\"<>]*)?", re.IGNORECASE)
_AUTHORIZATION = re.compile(r"\b(bearer|basic) +[\w.~+/=-]{16,}", re.IGNORECASE)
#: The beginning of a secret, at the end of a text that goes on: what would tell that it is one may have been cut off.
_HALF = re.compile(r"(?:https?://[^\s/'\"<>]+|\b(?:bearer|basic) +[\w.~+/=-]*)\Z", re.IGNORECASE)


def level_of(event: LogEvent) -> Any:
    """An event's L{LogLevel}. What Twisted tells of its own doings is for those who look for bugs; a Python warning is
    one, and anything without a level as well."""
    level = event.get("log_level", LogLevel.warn)
    if level is not LogLevel.info:
        return level
    namespace = str(event.get("log_namespace"))
    if "warning" in event:
        return LogLevel.warn
    return level if namespace.split(".")[0] in ("crcache", "stdout") else LogLevel.debug


def reaches(event: LogEvent, least: Any) -> bool:
    """Whether an event is of that level, or of a more serious one."""
    return _ORDER.index(level_of(event)) >= _ORDER.index(least)


def message_of(event: LogEvent) -> str:
    """The sentence; of an event that has none, what its failure says."""
    text = formatEvent(event)
    if not text and "log_failure" in event:
        text = str(event["log_failure"].getErrorMessage())
    return clean(text or "-", LONGEST_MESSAGE)


def traceback_of(event: LogEvent) -> str | None:
    """The traceback of a failure. Of a long one the last lines, which say most."""
    if "log_failure" not in event:
        return None
    try:
        text = str(event["log_failure"].getTraceback())
    except Exception:
        text = "no traceback can be had"
    kept: list[str] = []
    room = LONGEST_TRACEBACK
    # By lines: the end of a secret could not be told from anything else without its beginning.
    for line in reversed(text.rstrip().split("\n")):
        kept.append(clean(line, LONGEST_MESSAGE))
        room -= len(kept[-1]) + 1
        if room < 0:
            kept.pop()
            break
    return "\n".join(reversed(kept))


def event_of(event: LogEvent) -> Event | None:
    """What kind of event it is, if crcache has a name for it."""
    kind = event.get("event")
    return kind if isinstance(kind, Event) else None


def fields_of(event: LogEvent) -> dict[str, str | int | float]:
    """The fields that have a value, by their names in L{FIELDS}: numbers as such, all else as text."""
    found: dict[str, str | int | float] = {}
    if event_of(event) is None:
        # Other people's fields mean other things.
        return found
    for name in FIELDS:
        value = event.get(name)
        if value is None or value == "-":
            continue
        if isinstance(value, float):
            found[name] = round(value, 6)
        elif isinstance(value, int) and not isinstance(value, bool):
            found[name] = value
        else:
            found[name] = clean(str(value), LONGEST_FIELD)
    return found


def clean(text: str, longest: int) -> str:
    """Text without controls and secrets, cut to its length."""
    return _clean(text, longest, _CONTROLS)


def clean_lines(text: str) -> str:
    """Text whose lines are each without controls but tabs, without secrets, and not too long."""
    return "\n".join(_clean(line, LONGEST_MESSAGE, _CONTROLS_BUT_TABS) for line in text.split("\n"))


def _clean(text: str, longest: int, controls: re.Pattern[str]) -> str:
    begun = text[: longest + _MARGIN]
    cut = len(begun) < len(text)
    found = controls.sub("?", begun)
    found = _scrub(_HALF.sub("", found) if cut else found)
    return found[:longest] + "…" if cut or len(found) > longest else found


def _scrub(text: str) -> str:
    """Text without what a URL, or an `Authorization`, may carry that is secret."""
    if "://" in text:
        text = _USER.sub(r"\1", text)
        text = _QUERY.sub(lambda found: found[1] + ("?…" if found[2] else ""), text)
    return _AUTHORIZATION.sub(r"\1 …", text)
