"""A crcache in a process of its own, to be killed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from crcache.settings import Times
from crcache.tap import build
from crcache.testing.daemon import Instance

_TOP = Path(__file__).parents[2]


class Killed(ProcessProtocol):
    """Runs one.

    @ivar port: where it listens, once L{ready} has fired.
    @ivar said: what it has written to standard error.
    """

    def __init__(self, reactor: Any, directory: Path, name: str, origin: str) -> None:
        """
        @param directory: the cache directory.
        @param name: the registry's, as clients ask for it; C{origin} is its URL.
        """
        self.port = 0
        self.ready: Deferred[None] = Deferred()
        self.said = b""
        self._told = b""
        self._ended: Deferred[None] = Deferred()
        self._alive = True
        command = [sys.executable, "-m", "tests.clients.killed", str(directory), name, origin]
        reactor.spawnProcess(self, command[0], command, env=dict(os.environ), path=str(_TOP))

    def outReceived(self, data: bytes) -> None:
        """It has told where it listens."""
        self._told += data
        if not self.port and self._told.endswith(b"\n"):
            self.port = int(self._told)
            self.ready.callback(None)

    def errReceived(self, data: bytes) -> None:
        """It complains."""
        self.said += data

    def processEnded(self, reason: Failure) -> None:
        """It is gone."""
        reason.trap(ProcessDone, ProcessTerminated)
        self._alive = False
        if not self.port:
            self.ready.errback(AssertionError(f"it ended before it was ready: {self.said.decode()}"))
        self._ended.callback(None)

    async def kill(self) -> None:
        """End it as a crash would. Idempotent."""
        if self._alive:
            transport: Any = self.transport
            transport.signalProcess("KILL")
            await self._ended


def main(directory: str, name: str, origin: str) -> None:
    """Serve, and tell on standard output where."""
    from twisted.internet import reactor

    running: Any = reactor
    # A tag is asked for each time, so that each pull writes it anew.
    instance = Instance(build, running, Path(directory), {name: origin}, times=Times(tag_ttl=0.0))
    running.callWhenRunning(instance.start)

    def tell() -> None:
        print(instance.port, flush=True)

    running.callWhenRunning(tell)
    running.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
