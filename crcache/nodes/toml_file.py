"""TOML files of other programs: read, and their mistakes said in one line."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from crcache.errors import ConfigError
from crcache.nodes.files import Files

_PLACE = re.compile(r" \(at line (\d+), column \d+\)$")


def read_toml(files: Files, path: str) -> dict[str, Any] | None:
    """The document of a file; C{None} if there is none.

    @raise ConfigError: naming the file, and the line if it is not TOML.
    """
    text = files.read(path)
    if text is None:
        return None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _PLACE.search(message)
        line = f":{place[1]}" if place else ""
        reason = _PLACE.sub("", message)
        raise ConfigError(f"{files.shown(path)}{line}: is not TOML: {reason[:1].lower()}{reason[1:]}") from error
    except (ValueError, RecursionError) as error:
        # Plain ones are Python's own, of numbers with thousands of digits.
        raise ConfigError(f"{files.shown(path)}: is nested too deeply, or a number in it is too long") from error


def table(document: object, *keys: str) -> dict[str, Any]:
    """The table at the end of these keys; empty if it is not there, or no table."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}
