"""Takes records out of a TLS connection: all that have come in one read of the socket, into one piece.

OpenSSL gives one record of 16 KiB at a time. By way of pyOpenSSL, Twisted, and a copy to join them again, each costs
several microseconds; a body of 500 MiB has 32,000, and that was an eighth of the time of a cold fetch. So they are read
here with the same library call that pyOpenSSL makes, one behind another into one buffer. Anything else that can happen
to a connection is left to Twisted.
"""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.bindings.openssl.binding import Binding

#: No record carries more (RFC 8446, 5.1).
RECORD = 1 << 14
#: Less than this is not worth the trouble.
WORTHWHILE = 2 * RECORD
_ROOM = 512 << 10

_lib: Any = Binding.lib
_ffi: Any = Binding.ffi
# Used within one call only, by the reactor's thread only.
_buffer: Any = _ffi.new("char[]", _ROOM)


def take_records(connection: Any) -> bytes:
    """What can be decrypted of what has been put into the connection, up to half a mebibyte.

    Whatever keeps it from giving more (nothing there, an alert, an error) stays, for the next to read to find. With a
    pyOpenSSL that keeps its connections differently there is nothing to take.

    @param connection: an L{OpenSSL.SSL.Connection} over memory, its handshake done.
    """
    ssl = getattr(connection, "_ssl", None)
    if ssl is None:
        return b""
    read, total = _lib.SSL_read, 0
    while total <= _ROOM - RECORD:
        count = read(ssl, _buffer + total, RECORD)
        if count <= 0:
            break
        total += count
    taken: bytes = _ffi.buffer(_buffer, total)[:]
    return taken
