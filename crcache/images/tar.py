"""A tar archive of a stranger's, read from front to back within bounds.

https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html: "ustar Interchange Format" and "pax Header Block".
C{tarfile} makes sense of single headers; its own reader takes extended headers of any length, and as many as there are.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from crcache.errors import ArchiveInvalid
from crcache.images.unpacked import Unpacked

#: Members that an archive has at most; an image has a few dozen.
MOST_MEMBERS = 100_000
_BLOCK = 512
#: Bytes that an extended header has at most, and characters that a name has.
_LONGEST_HEADER = 1 << 16
#: Bytes that all of an archive's extended headers have at most.
MOST_EXTENDED = 64 << 20
_LONGEST_NAME = 1024
#: Extended headers in a row: a long name, a long link, a global one and the member's own.
_MOST_HEADERS = 4
_LARGEST = (1 << 63) - 1
_PIECE = 1 << 20


class Kind(Enum):
    """What a member is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"


_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.LNKTYPE: Kind.HARDLINK,
}


@dataclass(frozen=True, slots=True)
class Member:
    """Something in an archive.

    @ivar name: relative, of components none of which is empty, C{.} or C{..}; empty for the archive's own directory.
    @ivar size: of its content, in bytes.
    @ivar target: the name of the member that a link leads to.
    """

    name: str
    kind: Kind
    size: int = 0
    target: str = ""


class Tar:
    """An archive's members, in their order; the content of each has to be read before the next."""

    def __init__(self, stream: Unpacked) -> None:
        self._stream = stream
        self._left = 0
        self._padding = 0
        self._extended_bytes = 0

    def __iter__(self) -> Iterator[Member]:
        """
        @raise ArchiveInvalid: if there is something that archives of images do not have.
        @raise OSError: as read(2).
        """
        count = 0
        while (member := self._next(first=not count)) is not None:
            count += 1
            if count > MOST_MEMBERS:
                raise ArchiveInvalid(f"{self._stream.name} has more than {MOST_MEMBERS} members")
            self._left, self._padding = member.size, -member.size % _BLOCK
            yield member
            for _ in self.pieces():
                pass
            self._read(self._padding)

    def pieces(self) -> Iterator[bytes]:
        """The content of the member that was last given, or what has not been read of it."""
        while self._left:
            data = self._stream.read(min(self._left, _PIECE))
            if not data:
                raise self._cut()
            self._left -= len(data)
            yield data

    def _next(self, *, first: bool) -> Member | None:
        said: dict[str, str] = {}
        for _ in range(_MOST_HEADERS + 1):
            header = self._header(first=first)
            if header is None:
                if said:
                    raise self._cut()
                return None
            if header.type == tarfile.XHDTYPE:
                said.update(self._records(header))
            elif header.type == tarfile.XGLTYPE:
                if self._records(header).keys() & {"path", "linkpath", "size"}:
                    raise ArchiveInvalid(f"{self._stream.name} says of all members at once what they are called")
            elif header.type == tarfile.GNUTYPE_LONGNAME:
                said["path"] = self._long(header)
            elif header.type == tarfile.GNUTYPE_LONGLINK:
                said["linkpath"] = self._long(header)
            else:
                return self._member(header, said)
        raise ArchiveInvalid(f"{self._stream.name} has extended headers without end")

    def _header(self, *, first: bool) -> tarfile.TarInfo | None:
        block = self._stream.read(_BLOCK)
        if not block.strip(b"\0") and len(block) == _BLOCK and not first:
            return None
        if len(block) < _BLOCK:
            raise ArchiveInvalid(f"{self._stream.name} is no tar archive") if first else self._cut()
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError):
            damaged = "is no tar archive" if first else "has a damaged header"
            raise ArchiveInvalid(f"{self._stream.name} {damaged}") from None
        if not 0 <= header.size <= _LARGEST:
            raise ArchiveInvalid(f"{shown(header.name)}: a size that cannot be ({header.size})")
        return header

    def _member(self, header: tarfile.TarInfo, said: dict[str, str]) -> Member:
        name = said.get("path", header.name)
        kind = _KINDS.get(header.type)
        if kind is None or any(key.startswith("GNU.sparse") for key in said):
            raise ArchiveInvalid(f"{shown(name)}: is neither a file, a directory nor a link (type {header.type!r})")
        if header.type == tarfile.AREGTYPE and name.endswith("/"):
            kind = Kind.DIRECTORY
        size = header.size
        if "size" in said:
            if not (said["size"].isascii() and said["size"].isdigit() and len(said["size"]) < 20):
                raise ArchiveInvalid(f"{shown(name)}: a size that is no number")
            size = int(said["size"])
        if size > _LARGEST or (size and kind is not Kind.FILE):
            raise ArchiveInvalid(f"{shown(name)}: a {kind.value} of {size} bytes")
        member = Member(inner(name, name), kind, size)
        if kind is Kind.HARDLINK:
            return replace(member, target=inner(said.get("linkpath", header.linkname), name))
        if kind is Kind.SYMLINK:
            return replace(member, target=_from(member.name, said.get("linkpath", header.linkname)))
        return member

    def _records(self, header: tarfile.TarInfo) -> dict[str, str]:
        """What an extended header says: C{length key=value}, a line each."""
        data, records, at = self._extended(header), {}, 0
        while at < len(data):
            length = data[at : at + 7].partition(b" ")[0]
            size = int(length) if length.isdigit() and len(length) < 7 else 0
            key, equals, value = data[at + len(length) + 1 : at + size - 1].partition(b"=")
            if not (len(length) + 1 < size <= len(data) - at and equals and data[at + size - 1] == ord("\n")):
                raise ArchiveInvalid(f"{self._stream.name} has a damaged extended header")
            records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
            at += size
        return records

    def _long(self, header: tarfile.TarInfo) -> str:
        return self._extended(header).partition(b"\0")[0].decode("utf-8", "surrogateescape")

    def _extended(self, header: tarfile.TarInfo) -> bytes:
        if header.size > _LONGEST_HEADER:
            raise ArchiveInvalid(f"{self._stream.name} has an extended header of {header.size} bytes")
        self._extended_bytes += header.size
        if self._extended_bytes > MOST_EXTENDED:
            raise ArchiveInvalid(f"{self._stream.name} has more than {MOST_EXTENDED} bytes of extended headers")
        data = self._read(header.size)
        self._read(-header.size % _BLOCK)
        return data

    def _read(self, count: int) -> bytes:
        data = self._stream.read(count) if count else b""
        if len(data) < count:
            raise self._cut()
        return data

    def _cut(self) -> ArchiveInvalid:
        return ArchiveInvalid(f"{self._stream.name} is cut short")


def inner(path: str, name: str) -> str:
    """A path as the name of a member.

    @param name: of whom it is said.
    @raise ArchiveInvalid: if it leads out of the archive, or could not be printed.
    """
    if len(path) > _LONGEST_NAME or not path.isprintable():
        raise ArchiveInvalid(f"{shown(name)}: a name that images do not have")
    words = [word for word in path.split("/") if word not in ("", ".")]
    if path.startswith("/") or ".." in words:
        raise ArchiveInvalid(f"{shown(name)}: leads out of the archive ({shown(path)})")
    return "/".join(words)


def _from(name: str, target: str) -> str:
    """Where a symbolic link leads to."""
    if target.startswith("/"):
        raise ArchiveInvalid(f"{shown(name)}: leads out of the archive ({shown(target)})")
    words = name.split("/")[:-1]
    for word in target.split("/"):
        if word == "..":
            if not words:
                raise ArchiveInvalid(f"{shown(name)}: leads out of the archive ({shown(target)})")
            words.pop()
        elif word not in ("", "."):
            words.append(word)
    return inner("/".join(words), name)


def shown(name: str) -> str:
    """A name of a stranger's as it can be printed."""
    short = name if len(name) <= 200 else f"{name[:200]}…"
    return short if short.isprintable() and short else ascii(short)
