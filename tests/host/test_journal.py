"""Tests for L{crcache.host.journal}, against a socket such as journald's."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crcache.host.journal import Entry, Journal, encode


def decode(data: bytes) -> list[tuple[str, str]]:
    """An entry's fields, as the protocol says."""
    fields = []
    while data:
        line, _, data = data.partition(b"\n")
        name, is_text, value = line.partition(b"=")
        if not is_text:
            length = int.from_bytes(data[:8], "little")
            value, end, data = data[8 : 8 + length], data[8 + length : 9 + length], data[9 + length :]
            assert end == b"\n"
        fields.append((name.decode(), value.decode()))
    return fields


def lost(count: int) -> Entry:
    """What is told of lost entries."""
    return [("LOST", str(count))]


class EncodeTests(SynchronousTestCase):
    """L{encode}."""

    def test_text(self) -> None:
        """A value in one line is the rest of the line."""
        self.assertEqual(encode([("MESSAGE", "a=b ü"), ("PRIORITY", "6")]), "MESSAGE=a=b ü\nPRIORITY=6\n".encode())

    def test_lines(self) -> None:
        """A value of several lines comes with its length, and cannot become a field."""
        entry = [("MESSAGE", "a\nPRIORITY=0\n"), ("PRIORITY", "6"), ("PRIORITY", "5")]
        self.assertEqual(decode(encode(entry)), entry)
        self.assertTrue(encode(entry).startswith(b"MESSAGE\n\x0d\0\0\0\0\0\0\0a\n"))

    def test_odd(self) -> None:
        """What is no text in UTF-8 is written all the same."""
        self.assertEqual(encode([("A", "\udcff")]), b"A=\\udcff\n")


class JournalTests(SynchronousTestCase):
    """L{Journal}."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = str(Path(directory.name) / "socket")
        self.listen()
        self.journal = Journal(lost, self.path, most=20)
        self.addCleanup(self.journal.stop, 0.5)

    def listen(self) -> None:
        """Be journald."""
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.server.close)
        self.server.bind(self.path)
        self.server.settimeout(5)

    def received(self, count: int) -> list[list[tuple[str, str]]]:
        """So many entries."""
        return [decode(self.server.recv(1 << 20)) for _ in range(count)]

    def test_direct(self) -> None:
        """Without its thread entries are written at once, and there is no thread."""
        before = threading.active_count()
        self.journal.send([("A", "1")])
        self.assertEqual(self.received(1), [[("A", "1")]])
        self.assertEqual(threading.active_count(), before)

    def test_in_order(self) -> None:
        """With its thread entries come in the order in which they were sent; stopping flushes them."""
        self.journal.send([("A", "0")])
        self.journal.start()
        for number in range(1, 6):
            self.journal.send([("A", str(number))])
        self.journal.stop(5)
        self.assertEqual(self.received(6), [[("A", str(number))] for number in range(6)])
        self.journal.send([("A", "late")])
        self.assertEqual(self.received(1), [[("A", "late")]])

    def fill(self) -> int:
        """Let journald hang; returns how many entries it took before it did."""
        stuffing = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(stuffing.close)
        stuffing.setblocking(False)
        for count in range(1000):
            try:
                stuffing.sendto(b"STUFFING=1\n", self.path)
            except BlockingIOError:
                return count
        raise AssertionError("the socket takes everything")

    def test_hangs(self) -> None:
        """While journald hangs nobody waits; what is too much is counted, and told as soon as it goes on."""
        stuffed = self.fill()
        self.journal.start()
        began = time.monotonic()
        for number in range(100):
            self.journal.send([("A", str(number))])
        self.assertLess(time.monotonic() - began, 1)
        self.received(stuffed)
        taken: list[str] = []
        told = 0
        while len(taken) + told < 100:
            ((name, value),) = self.received(1)[0]
            if name == "LOST":
                told += int(value)
            else:
                taken.append(value)
        # The thread may have taken one out of the queue already.
        self.assertIn(told, (79, 80))
        self.assertEqual(taken, [str(number) for number in range(len(taken))])

    def test_hangs_before(self) -> None:
        """Without the thread, too, nobody waits; what was not taken is written later."""
        stuffed = self.fill()
        began = time.monotonic()
        self.journal.send([("A", "1")])
        self.journal.send([("A", "2")])
        self.assertLess(time.monotonic() - began, 1)
        self.received(stuffed)
        self.journal.start()
        self.assertEqual(self.received(2), [[("A", "1")], [("A", "2")]])

    def test_hangs_for_good(self) -> None:
        """Stopping waits no longer than it is told to, and can be called again."""
        self.fill()
        self.journal.start()
        self.journal.send([("A", "1")])
        began = time.monotonic()
        self.journal.stop(0.3)
        self.assertTrue(0.2 < time.monotonic() - began < 2)
        self.journal.stop(0)
        self.journal.send([("A", "2")])

    def test_restarted(self) -> None:
        """A journald that makes its socket anew gets what comes after that, and is told what it has missed."""
        self.journal.start()
        self.journal.send([("A", "1")])
        self.received(1)
        self.server.close()
        os.unlink(self.path)
        self.journal.send([("A", "2")])
        time.sleep(0.3)
        self.listen()
        self.journal.send([("A", "3")])
        self.assertEqual(self.received(2), [[("A", "3")], [("LOST", "1")]])

    def test_from_many_threads(self) -> None:
        """Any thread may send."""
        journal = Journal(lost, self.path)
        journal.start()
        self.addCleanup(journal.stop, 5)
        threads = [threading.Thread(target=journal.send, args=([("A", str(number))],)) for number in range(8)]
        for thread in threads:
            thread.start()
        self.assertEqual(sorted(entry[0][1] for entry in self.received(8)), [str(number) for number in range(8)])
        for thread in threads:
            thread.join()
