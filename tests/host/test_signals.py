"""L{crcache.host.signals}."""

from __future__ import annotations

import os
import signal

from twisted.trial.unittest import SynchronousTestCase

from crcache.host.signals import Signals


class Reactor:
    """Notes what threads and signal handlers want to have called."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def callFromThread(self, call: object) -> None:
        self.calls.append(call)


class SignalsTests(SynchronousTestCase):
    """L{Signals}."""

    def test_handled_and_given_back(self) -> None:
        """A signal is handed to the reactor's thread, whoever asked last for it, and in the end is as it was."""
        before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        reactor = Reactor()
        signals = Signals(reactor)
        first, second = (lambda: 1), (lambda: 2)
        signals.on(signal.SIGUSR1, first)
        os.kill(os.getpid(), signal.SIGUSR1)
        signals.on(signal.SIGUSR1, second)
        os.kill(os.getpid(), signal.SIGUSR1)
        self.assertEqual(reactor.calls, [first, second])
        signals.restore()
        signals.restore()
        self.assertEqual(signal.getsignal(signal.SIGUSR1), signal.SIG_IGN)
