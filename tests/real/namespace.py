"""A network of the test's own, in which every port is free: a network namespace with nothing but loopback."""

from __future__ import annotations

from pathlib import Path

from tests.real.processes import Process, program


class Namespace:
    """It is there until L{stop}, or until this process ends.

    @ivar prefix: the words that run the command behind them inside.
    """

    def __init__(self, directory: Path) -> None:
        log = directory / "namespace.log"
        script = f"{program('ip')} link set lo up && echo up && exec sleep infinity"
        self._holder = Process(["unshare", "--net", "sh", "-c", script], log)
        self._holder.ready("loopback", lambda: self._holder.said() == "up\n")
        self.prefix = (program("nsenter"), f"--net=/proc/{self._holder.pid}/ns/net", "--")

    def stop(self) -> None:
        """End it. Idempotent."""
        self._holder.stop()
