"""What a kubelet asks of a container runtime: to pull an image, with the name and password of an imagePullSecret.

gRPC spoken by curl: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md. The messages are those of
https://github.com/kubernetes/cri-api/blob/master/pkg/apis/runtime/v1/api.proto.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import unquote

from tests.real.processes import program

_SECONDS = 60
_STATUS = re.compile(r"^grpc-status: (\d+)", re.MULTILINE)
_MESSAGE = re.compile(r"^grpc-message: (.*)", re.MULTILINE)


class Pull:
    """One that has begun."""

    def __init__(self, socket: Path, reference: str, login: tuple[str, str] | None = None) -> None:
        """
        @param socket: the runtime's.
        @param login: the name and password for the image's registry.
        """
        # PullImageRequest: 1 is the ImageSpec (1: the image), 2 the AuthConfig (1: the name, 2: the password).
        request = _field(1, _field(1, reference.encode()))
        if login is not None:
            request += _field(2, _field(1, login[0].encode()) + _field(2, login[1].encode()))
        command = [program("curl"), "--silent", "--http2-prior-knowledge", "--unix-socket", str(socket)]
        command += [
            "--max-time",
            str(_SECONDS),
            "--header",
            "Content-Type: application/grpc",
            "--header",
            "TE: trailers",
        ]
        command += ["--data-binary", "@-", "--output", "/dev/null", "--dump-header", "-"]
        command.append("http://localhost/runtime.v1.ImageService/PullImage")
        with tempfile.TemporaryFile() as message:
            message.write(b"\0" + len(request).to_bytes(4, "big") + request)
            message.seek(0)
            self._child = subprocess.Popen(command, stdin=message, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def wait(self) -> str:
        """Why it failed, once it has ended; empty: it did not."""
        told, _ = self._child.communicate(timeout=_SECONDS + 10)
        said = told.decode()
        status, message = _STATUS.search(said), _MESSAGE.search(said)
        if status is not None and status[1] == "0":
            return ""
        return f"curl: exit status {self._child.returncode}" if message is None else unquote(message[1])

    def stop(self) -> None:
        """The kubelet gives it up. Idempotent."""
        self._child.kill()
        self._child.communicate(timeout=10)


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field: https://protobuf.dev/programming-guides/encoding/"""
    length, size = bytearray(), len(value)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2]) + bytes(length) + bytes([size]) + value
