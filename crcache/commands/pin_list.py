"""A file of names, one a line."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from crcache.commands.references import Name, parse_name
from crcache.errors import ConfigError, CrcacheError

#: More is no list that anybody has written.
_LARGEST = 4 << 20


def read_list(path: Path) -> list[Name]:
    """The names in a file: one a line, C{#} and what follows is a comment, empty lines say nothing.

    @raise ConfigError: for the first line that is no name, with the file and its number; or if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return names_in(file, str(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def names_in(file: BinaryIO, path: str) -> list[Name]:
    """The same of an open file.

    @param path: what it is called where it is refused.
    @raise OSError: as read(2).
    """
    data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ConfigError(f"{path}: is larger than {_LARGEST >> 20} MiB, which no list of names is")
    names = []
    for number, line in enumerate(data.split(b"\n"), 1):
        text = line.decode("utf-8", "replace").partition("#")[0].strip()
        if text:
            try:
                names.append(parse_name(text))
            except CrcacheError as error:
                raise ConfigError(f"{path}:{number}: {error.message}") from error
    return names
