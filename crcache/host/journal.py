"""systemd's journal: entries in its own protocol, written without ever keeping the reactor waiting."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue

#: Where journald takes entries with fields (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
SOCKET = "/run/systemd/journal/socket"

#: Entries that may wait while journald is busy: some megabytes.
MOST = 4096

Entry = Iterable[tuple[str, str]]


def encode(entry: Entry) -> bytes:
    """An entry's fields as one datagram; a name may come more than once."""
    parts = []
    for name, value in entry:
        data = value.encode("utf-8", "backslashreplace")
        if b"\n" in data:
            parts.append(b"%s\n%s%s\n" % (name.encode("ascii"), len(data).to_bytes(8, "little"), data))
        else:
            parts.append(b"%s=%s\n" % (name.encode("ascii"), data))
    return b"".join(parts)


class Journal:
    """A way into the journal.

    journald takes a few entries ahead and then lets their writers wait, for as long as it hangs. So a thread does
    that, and what would make the queue too long is counted instead. Without the thread, before L{start} and after
    L{stop}, nothing waits either. (C{sd_journal_sendv} as Python's binding calls it holds the interpreter's lock
    meanwhile: from no thread could it be called without stopping the reactor too.)

    Any thread may send, and a signal's handler: there is no lock in it.
    """

    def __init__(self, lost: Callable[[int], Entry], path: str = SOCKET, most: int = MOST) -> None:
        """
        @param lost: makes the entry which says that so many were not taken.
        """
        self._lost_entry = lost
        self._path = path
        self._most = most
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._lost = 0

    def send(self, entry: Entry) -> None:
        """Write an entry, soon. Never raises, never waits."""
        data = encode(entry)
        if self._thread is None and self._queue.empty():
            if self._write(data, socket.MSG_DONTWAIT):
                return
            if self._stopped:
                self._lost += 1
                return
        if self._queue.qsize() < self._most:
            self._queue.put(data)
        else:
            self._lost += 1

    def start(self) -> None:
        """Begin the thread; not before the process has forked for the last time. Idempotent."""
        if self._thread is None and not self._stopped:
            self._thread = threading.Thread(target=self._run, name="crcache-journal", daemon=True)
            self._thread.start()

    def stop(self, seconds: float) -> None:
        """Have written what waits, as far as journald takes it within so many seconds, which block. Idempotent."""
        thread, self._stopped = self._thread, True
        if thread is not None:
            self._queue.put(None)
            thread.join(seconds)
            if thread.is_alive():
                return
            self._thread = None
        deadline = time.monotonic() + seconds
        with contextlib.suppress(Empty):
            while time.monotonic() < deadline:
                data = self._queue.get_nowait()
                if data is not None and not self._write(data, socket.MSG_DONTWAIT):
                    self._lost += 1
        self._tell_lost(socket.MSG_DONTWAIT)

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            if not self._write(data, 0):
                self._lost += 1
                # journald is gone: whoever restarts it needs a moment.
                time.sleep(0.1 if self._queue.qsize() < self._most // 2 else 0)
            else:
                self._tell_lost(0)

    def _tell_lost(self, flags: int) -> None:
        lost = self._lost
        if lost and self._write(encode(self._lost_entry(lost)), flags):
            self._lost -= lost

    def _write(self, data: bytes, flags: int) -> bool:
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            # By its path each time: a journald that was restarted may have made it anew.
            self._socket.sendto(data, flags, self._path)
        except OSError:
            return False
        return True
