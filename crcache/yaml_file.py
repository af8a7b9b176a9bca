"""A YAML file read so that every mistake in it can be told with its line and key."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

import yaml

from crcache.errors import ConfigError
from crcache.grammar.excerpt import excerpt

T = TypeVar("T")
D = TypeVar("D")

_NULL = "tag:yaml.org,2002:null"
_SCALARS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "timestamp", "merge", "value")
)
_KEY = re.compile(r"[A-Za-z0-9_-]{1,40}")


def one_line(text: str) -> str:
    """C{text} with everything that does not print, line ends above all, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def read_file(path: Path) -> tuple[str, bool]:
    """The text of a UTF-8 file, and whether everybody on this machine may read it.

    @raise ConfigError: if it cannot be read or is not text.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read()
    except OSError as error:
        raise ConfigError(one_line(f"{path}: cannot be read: {error.strerror or error}")) from None
    try:
        return data.decode("utf-8-sig"), stat.S_ISREG(mode) and bool(mode & stat.S_IROTH)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(one_line(f"{path}:{line}: is not UTF-8 text")) from None


class Entry:
    """One value in a file, and where it stands.

    @ivar path: the keys that lead to it, from the top.
    @ivar line: of its key, or of the value itself in a list; from 1.
    """

    def __init__(self, file: str, path: tuple[str, ...], line: int, node: yaml.Node) -> None:
        self.file = file
        self.path = path
        self.line = line
        self._node = node

    def wrong(self, what: str) -> ConfigError:
        """The error, of one line, that says C{what} is wrong here. C{what} must not show a secret."""
        where = f"{self.file}:{self.line}: "
        if self.path:
            where += ".".join(self.path) + ": "
        return ConfigError(one_line(where + what))

    @property
    def null(self) -> bool:
        """Whether there is a key here but nothing behind it."""
        return self._node.tag == _NULL

    @property
    def mapping(self) -> bool:
        """Whether it has keys of its own."""
        return isinstance(self._node, yaml.MappingNode)

    def text(self) -> str:
        """The characters of a scalar as they were typed, whatever YAML takes them for: C{0123} stays C{0123}.

        @raise ConfigError: if there is nothing, a list, a mapping, or a control character.
        """
        if self.null:
            raise self.wrong("has no value")
        if not isinstance(self._node, yaml.ScalarNode) or self._node.tag not in _SCALARS:
            raise self.wrong("must be a single value")
        text: str = self._node.value
        if any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in text):
            raise self.wrong("has a line break or another control character in it")
        return text

    def convert(self, parse: Callable[[str], T]) -> T:
        """The L{text} as C{parse} understands it; its C{ValueError} becomes the error about this entry."""
        text = self.text()
        try:
            return parse(text)
        except ValueError as error:
            raise self.wrong(str(error)) from None

    def several(self, *, empty: bool = False) -> list[Entry]:
        """The entries of a list, or this entry alone if it is none.

        @param empty: whether the list may be.
        @raise ConfigError: if the list is empty, and must not be.
        """
        if not isinstance(self._node, yaml.SequenceNode):
            return [self]
        if not self._node.value and not empty:
            raise self.wrong("is an empty list")
        return [Entry(self.file, self.path, item.start_mark.line + 1, item) for item in self._node.value]

    def section(self, known: Collection[str] | None = None) -> dict[str, Entry]:
        """The entries of a mapping by key; nothing behind the key is an empty mapping.

        @param known: the keys that may stand here; C{None} if the keys are free.
        @raise ConfigError: if it is no mapping, or a key is there twice or not known.
        """
        if self.null:
            return {}
        if not isinstance(self._node, yaml.MappingNode):
            if known:
                raise self.wrong(f"must be a mapping with keys such as {min(known)}")
            raise self.wrong("must be a mapping")
        found: dict[str, Entry] = {}
        for key_node, value in self._node.value:
            line = key_node.start_mark.line + 1
            here = Entry(self.file, self.path, line, key_node)
            key = here.text()
            if known is not None and key not in known:
                raise here.wrong(_unknown(key, known, bare=value.tag == _NULL and bool(self._node.flow_style)))
            if key in found:
                raise here.wrong(f"{excerpt(key)} is there twice, first in line {found[key].line}")
            found[key] = Entry(self.file, (*self.path, key), line, value)
        return found


def get(section: Mapping[str, Entry], key: str, parse: Callable[[str], T], default: D) -> T | D:
    """What C{parse} makes of the value behind a key, or C{default} if the key is not there."""
    return section[key].convert(parse) if key in section else default


def _unknown(key: str, known: Collection[str], bare: bool) -> str:
    # Part of an unquoted password can end up as a key: `{password: a,b}` has a key `b`, and `{password:a}`
    # has a key `password:a`; neither has a value, and neither may be shown.
    if bare or not _KEY.fullmatch(key):
        return "something here is not a key; put a space after each ':' and quotes around text with a comma or ':'"
    near = difflib.get_close_matches(key, known, 1)
    if near:
        return f"unknown key {excerpt(key)}; did you mean {near[0]}?"
    return f"unknown key {excerpt(key)}; known here: {', '.join(sorted(known))}"


def parse_yaml(file: str, text: str) -> Entry:
    """The whole of one YAML document.

    @param file: its name, for errors.
    @raise ConfigError: if it is not YAML. The message shows nothing of the text.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        # PyYAML quotes what it stumbled over, which may be a password.
        problem = re.sub(r"(['\"]).*\1", "…", error.problem or "not understood")
        raise ConfigError(
            one_line(f"{file}:{line}: is not YAML: {problem}; text with special characters needs quotes")
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{file}:{line}: is not YAML: there is a control character in it") from None
    except RecursionError:
        raise ConfigError(f"{file}:1: is nested too deeply") from None
    except (ValueError, OverflowError):
        # PyYAML's own, where an escape names no character, or a version has thousands of digits.
        raise ConfigError(f"{file}:1: is not YAML: an escape or a number somewhere in it is out of range") from None
    if node is None:
        mark = yaml.Mark(file, 0, 0, 0, None, 0)
        node = yaml.MappingNode("tag:yaml.org,2002:map", [], mark, mark)
    return Entry(file, (), node.start_mark.line + 1, node)
