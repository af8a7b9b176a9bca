"""The bytes of an archive, unpacked if they are compressed."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from typing import BinaryIO

from crcache.errors import ArchiveInvalid

_GZIP = b"\x1f\x8b"
#: Others that archives come in, and what unpacks them.
_OTHERS = {b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_PIECE = 1 << 20


class Unpacked:
    """Reads from front to back, a bounded number of bytes at a time, however far they expand.

    @ivar size: of all bytes, if that can be told beforehand.
    """

    def __init__(self, source: BinaryIO, name: str, advanced: Callable[[int], object] = lambda count: None) -> None:
        """
        @param source: may be a pipe.
        @param name: what it is called where it is refused.
        @param advanced: told how many bytes more have been read.
        @raise ArchiveInvalid: if it is compressed in a way that is not known here.
        @raise OSError: as read(2).
        """
        self.name = name
        self._advanced = advanced
        buffered = io.BufferedReader(_Raw(source), _PIECE)
        start = buffered.peek(8)[:8]
        for magic, program in _OTHERS.items():
            if start.startswith(magic):
                raise ArchiveInvalid(
                    f"{name} is compressed with {program}, which is not read here:"
                    f" {program} -dc {'FILE' if name == '-' else name} | crcache import -"
                )
        self.compressed = start.startswith(_GZIP)
        self._file: BinaryIO = gzip.GzipFile(fileobj=buffered, mode="rb") if self.compressed else buffered  # type: ignore[assignment]

    def read(self, count: int) -> bytes:
        """So many bytes; fewer at the end only.

        @raise ArchiveInvalid: if it cannot be unpacked.
        @raise OSError: as read(2).
        """
        try:
            data = self._file.read(count)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ArchiveInvalid(f"{self.name} cannot be unpacked: {error}") from None
        self._advanced(len(data))
        return data

    def drain(self, most: int) -> None:
        """Read what follows, so that whoever writes it need not fail; but no more than so many bytes."""
        while most > 0 and (data := self.read(min(_PIECE, most))):
            most -= len(data)


class _Raw(io.RawIOBase):
    """A source that may be buffered already, or give less than was asked for; it is left open."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._some = getattr(source, "read1", source.read)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._some(len(buffer))
        buffer[: len(data)] = data
        return len(data)
