"""Programs that run beside a test: begun, waited for, and ended with it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_LISTEN = "0A"
# Below the range from which the kernel takes the ports of outgoing connections (32768 and up).
_PORTS = range(20000, 32000)
# Debian keeps daemons out of an ordinary user's PATH.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

_given: set[int] = set()


def program(name: str) -> str:
    """The path of an installed program.

    @raise AssertionError: if it is not installed; that is a failure of the test, not a reason to skip it.
    """
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise AssertionError(f"{name} is not installed; install the packages in tests/real/packages.txt")
    return found


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens, never given before in this process."""
    while True:
        port = random.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


def until(what: str, holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Come back as soon as C{holds()} is true.

    @raise AssertionError: if it is not within so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} seconds")
        time.sleep(0.02)


def run(
    command: Sequence[str],
    *,
    seconds: float = 60.0,
    directory: Path | None = None,
) -> str:
    """Run a program to its end.

    @param directory: where to run it.
    @return: what it wrote to standard output.
    @raise AssertionError: with all that it wrote, if it fails or takes longer than C{seconds}.
    """
    try:
        done = subprocess.run(
            [program(command[0]), *command[1:]],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=seconds,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as expired:
        raise AssertionError(
            f"{' '.join(command)}: still running after {seconds:g} seconds: {expired.stderr!r}"
        ) from None
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Process:
    """One program in the background. It ends at the latest with the process that began it.

    @ivar log: the file that gets its standard output and standard error.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """
        @param prefix: a command that runs C{command} in its own place, such as C{taskset} or C{nsenter}.
        """
        self.log = log
        self._name = Path(command[0]).name
        # nginx leaves its workers behind when it is killed, so SIGTERM is what the parent's death must send.
        words = [program("setpriv"), "--pdeathsig", "TERM", *prefix, program(command[0]), *command[1:]]
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                words,
                env={**os.environ, **(environment or {})},
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the program itself: nothing stands in front of it."""
        return self._child.pid

    def said(self) -> str:
        """All it has written so far."""
        return self.log.read_text(errors="replace")

    def alive(self) -> bool:
        """Whether it still runs.

        @raise AssertionError: if it ended by itself.
        """
        if self._child.poll() is not None:
            raise AssertionError(f"{self._name} ended with status {self._child.returncode}:\n{self.said()[-4000:]}")
        return True

    def ready(self, what: str, holds: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait until C{holds()} is true.

        @raise AssertionError: if it is not within so many seconds, or the program ends; it is ended then.
        """
        try:
            until(f"{self._name}: {what}", lambda: self.alive() and holds(), seconds)
        except BaseException:
            self.stop()
            raise

    def listens(self, port: int) -> None:
        """Wait until it listens on that TCP port, in whatever network namespace it is."""
        self.ready(f"port {port}", lambda: self._listening(port))

    def stop(self) -> None:
        """End it politely, and if need be by force, together with all that it began. Idempotent."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        self._sweep()

    def kill(self) -> None:
        """End it at once, with SIGKILL, as a crash would. Idempotent."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait(10)

    def _listening(self, port: int) -> bool:
        # proc_pid_net(5): the second field is the local address, the fourth the state, the tenth the socket's inode.
        sockets = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{fields[9]}]")
        return any(_target(descriptor) in sockets for descriptor in Path(f"/proc/{self.pid}/fd").iterdir())

    def _sweep(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""
