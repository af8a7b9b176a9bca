"""L{crcache.upstream.records}."""

from __future__ import annotations

import contextlib
import os

from OpenSSL import SSL, crypto
from twisted.trial.unittest import SynchronousTestCase

from crcache.testing.certificates import Authority
from crcache.upstream.records import take_records


class TakeRecordsTests(SynchronousTestCase):
    """Two ends of a TLS connection in memory."""

    def setUp(self) -> None:
        pair = Authority().server()
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate(crypto.load_certificate(crypto.FILETYPE_PEM, pair.certificate))
        context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, pair.key))
        self.server = SSL.Connection(context, None)
        self.server.set_accept_state()
        self.client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        self.client.set_connect_state()
        for _ in range(4):
            for end, other in ((self.client, self.server), (self.server, self.client)):
                with contextlib.suppress(SSL.WantReadError):
                    end.do_handshake()
                self.carry(end, other)

    def carry(self, source: SSL.Connection, target: SSL.Connection) -> None:
        """What one end has to say reaches the other."""
        while True:
            try:
                target.bio_write(source.bio_read(1 << 16))
            except SSL.WantReadError:
                return

    def test_all_records_at_once(self) -> None:
        """Many records come out as one piece, in their order."""
        data = os.urandom(300_000)
        self.server.sendall(data)
        self.carry(self.server, self.client)
        self.assertEqual(take_records(self.client), data)
        self.assertEqual(take_records(self.client), b"")

    def test_more_than_there_is_room_for(self) -> None:
        """What does not fit stays in the connection, for the next to read."""
        data = os.urandom(1_000_000)
        self.server.sendall(data)
        self.carry(self.server, self.client)
        first = take_records(self.client)
        self.assertLess(len(first), len(data))
        self.assertEqual(first + take_records(self.client), data)

    def test_part_of_a_record(self) -> None:
        """A record that has not come whole is not taken, and comes out when it has."""
        self.server.sendall(b"x" * 10_000)
        raw = self.server.bio_read(1 << 16)
        self.client.bio_write(raw[:-1])
        self.assertEqual(take_records(self.client), b"")
        self.client.bio_write(raw[-1:])
        self.assertEqual(take_records(self.client), b"x" * 10_000)

    def test_end_is_left_for_others(self) -> None:
        """After the last record, the peer's goodbye is still there for the usual way of reading to find."""
        self.server.sendall(b"last")
        self.server.shutdown()
        self.carry(self.server, self.client)
        self.assertEqual(take_records(self.client), b"last")
        self.assertRaises(SSL.ZeroReturnError, self.client.recv, 10)

    def test_damage_is_left_for_others(self) -> None:
        """A record that was tampered with yields nothing, and the usual way of reading says so."""
        self.server.sendall(b"x" * 100)
        raw = bytearray(self.server.bio_read(1 << 16))
        raw[-1] ^= 1
        self.client.bio_write(bytes(raw))
        self.assertEqual(take_records(self.client), b"")
        self.assertRaises(SSL.Error, self.client.recv, 10)

    def test_another_pyopenssl(self) -> None:
        """A connection that keeps its inner part elsewhere gives nothing, and fails nothing."""
        self.assertEqual(take_records(object()), b"")
