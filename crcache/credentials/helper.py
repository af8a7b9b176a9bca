"""A credential helper, C{docker-credential-NAME}: how it is found, and asked once.

https://github.com/docker/docker-credential-helpers has the protocol: the command C{get}, the server's name on standard
input, and on standard output a JSON object with C{Username} and C{Secret}.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO

from crcache.credentials_file import credential
from crcache.secret import Secret
from crcache.settings import Credential

#: Seconds for one answer.
TIMEOUT = 10.0
#: Bytes of one answer.
LIMIT = 64 << 10
#: What a helper says, with an exit status of 1, if it has none.
_NONE = b"credentials not found in native keychain"
#: The user name that comes with an identity token.
_TOKEN = "<token>"  # noqa: S105 # nosec B105
#: What is the daemon's own in its environment.
_OWN = ("CRCACHE_", "NOTIFY_", "LISTEN_", "WATCHDOG_")


class HelperFailed(Exception):
    """A helper gave no answer. The text says why, and nothing of what the helper said: that may be a secret."""


def find(name: str, environ: Mapping[str, str]) -> str | None:
    """Where the program of a helper is, on C{PATH}; C{None} if it is not there."""
    path = environ.get("PATH", os.defpath)
    # Wherever the daemon was started from, nothing there is run.
    places = os.pathsep.join(each for each in path.split(os.pathsep) if os.path.isabs(each))
    return shutil.which(f"docker-credential-{name}", path=places)


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a helper: all that a cloud's SDK may look for, and nothing that is for the daemon alone."""
    return {name: value for name, value in environ.items() if not name.startswith(_OWN)}


class Programs:
    """Runs helpers, each in a process group of its own, for threads that may wait. It can end all of them."""

    def __init__(self, environ: Mapping[str, str], timeout: float = TIMEOUT) -> None:
        """
        @param environ: the daemon's own.
        @param timeout: seconds for one answer.
        """
        self._environ = environ
        self._timeout = timeout
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def ask(self, name: str, server: str) -> Credential | None:
        """What the helper knows of a server; C{None} if it has nothing. Blocks, but not for longer than the timeout.

        @raise HelperFailed: if there is no such program, or no answer that makes sense.
        """
        program = find(name, self._environ)
        if program is None:
            raise HelperFailed("there is no such program on PATH, or it may not be run")
        try:
            child = self._start(program)
        except OSError as error:
            raise HelperFailed(f"it cannot be run: {error.strerror or type(error).__name__}") from None
        try:
            output = self._talk(child, server.encode())
            status = child.returncode
        finally:
            with self._lock:
                self._running.discard(child)
        if status == 0:
            return _parse(output)
        if output.strip() == _NONE:
            return None
        what = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
        raise HelperFailed(f"it {what}; run it by hand to see why")

    def end(self) -> None:
        """Kill those that run, and start no more."""
        with self._lock:
            self._ended = True
            for child in self._running:
                _kill(child)

    def _start(self, program: str) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._ended:
                raise HelperFailed("crcache is shutting down")
            child = subprocess.Popen(
                [program, "get"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # It may hold anything.
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=passed_on(self._environ),
                start_new_session=True,
            )
            self._running.add(child)
            return child

    def _talk(self, child: subprocess.Popen[bytes], question: bytes) -> bytes:
        """Everything it writes; it has ended then, one way or the other."""
        assert child.stdin is not None
        assert child.stdout is not None
        deadline = time.monotonic() + self._timeout
        try:
            with suppress(BrokenPipeError), child.stdin:
                # A name is far shorter than what a pipe takes without anybody reading.
                child.stdin.write(question)
            output = _read(child.stdout, deadline)
            child.wait(max(deadline - time.monotonic(), 0.0))
        except (HelperFailed, subprocess.TimeoutExpired) as error:
            # Not waited for so far, so the number cannot be another's by now.
            _kill(child)
            child.wait()
            if isinstance(error, HelperFailed):
                raise
            raise _late(self._timeout) from None
        finally:
            child.stdout.close()
        return output


def _read(pipe: IO[bytes], deadline: float) -> bytes:
    found = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if not selector.select(max(deadline - time.monotonic(), 0.0)):
                raise subprocess.TimeoutExpired("", 0.0)
            data = os.read(pipe.fileno(), LIMIT)
            if not data:
                return bytes(found)
            found += data
            if len(found) > LIMIT:
                raise HelperFailed(f"it said more than {LIMIT >> 10} KiB")


def _kill(child: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)


def _late(seconds: float) -> HelperFailed:
    return HelperFailed(f"it did not answer within {seconds:g} s")


def _parse(output: bytes) -> Credential | None:
    try:
        answer = json.loads(output)
    except (ValueError, RecursionError):
        raise HelperFailed("its answer is not JSON") from None
    user, secret = (answer.get(key) for key in ("Username", "Secret")) if isinstance(answer, dict) else (None, None)
    if not isinstance(user, str) or not isinstance(secret, str) or not (user + secret).isprintable():
        raise HelperFailed("its answer has no Username and Secret")
    if not user and not secret:
        return None
    if user == _TOKEN and secret:
        return Credential(user, Secret(secret), identity_token=True)
    try:
        return credential(user, secret)
    except ValueError as error:
        raise HelperFailed(f"of its answer, {error}") from None
