"""A containerd of the test's own: its content, state and sockets are in a directory of the test's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tests.real.processes import Process, run, until

_CONFIGURATION = """\
version = 2
root = {root}
state = {state}
{disabled}[grpc]
address = {grpc}
[ttrpc]
address = {ttrpc}
"""
_WITHOUT_CRI = """\
disabled_plugins = ["io.containerd.grpc.v1.cri"]
"""
_CRI = """\
[plugins."io.containerd.grpc.v1.cri"]
stream_server_port = "0"
restrict_oom_score_adj = true
registry.config_path = {hosts}
cni.conf_dir = {cni}
"""


class Containerd:
    """One containerd, and what C{ctr} does to it.

    @ivar socket: where it takes calls.
    """

    def __init__(self, directory: Path, prefix: Sequence[str] = (), *, cri: bool = False) -> None:
        """
        @param prefix: a command that runs it elsewhere, such as in a network namespace.
        @param cri: be there for kubelets, too; then C{ctr} sees what they see.
        """
        self._directory = directory
        self._prefix = prefix
        self._namespace = "k8s.io" if cri else "default"
        self.socket = directory / "grpc.sock"
        configuration = _CONFIGURATION.format(
            # A TOML basic string and a JSON string are alike for such paths.
            root=json.dumps(str(directory / "root")),
            state=json.dumps(str(directory / "state")),
            grpc=json.dumps(str(self.socket)),
            ttrpc=json.dumps(str(directory / "ttrpc.sock")),
            disabled="" if cri else _WITHOUT_CRI,
        )
        if cri:
            hosts, cni = json.dumps(str(directory / "hosts")), json.dumps(str(directory / "cni"))
            configuration += _CRI.format(hosts=hosts, cni=cni)
        (directory / "containerd.toml").write_text(configuration)
        self._process = Process(
            ["containerd", "--config", str(directory / "containerd.toml")],
            directory / "containerd.log",
            prefix=prefix,
        )
        self._process.ready("booted", lambda: "successfully booted" in self._process.said())

    def stop(self) -> None:
        """End it. Idempotent."""
        self._process.stop()

    def kill(self) -> None:
        """End it as a crash would. Idempotent."""
        self._process.kill()

    def mirror(self, registry: str, origin: str, mirror: str) -> None:
        """Have C{registry} pulled through C{mirror}; whatever that refuses comes from C{origin}. Both are base URLs."""
        hosts = self._directory / "hosts" / registry
        hosts.mkdir(parents=True, exist_ok=True)
        (hosts / "hosts.toml").write_text(
            f'server = "{origin}"\n[host."{mirror}"]\n  capabilities = ["pull", "resolve"]\n'
        )

    def pull(self, reference: str, *flags: str) -> None:
        """Pull an image and unpack it.

        @raise AssertionError: with what C{ctr} said, if that fails.
        """
        self._ctr("images", "pull", "--hosts-dir", str(self._directory / "hosts"), *flags, reference)

    def load(self, archive: Path, *flags: str) -> None:
        """Import the images of an archive."""
        self._ctr("images", "import", *flags, str(archive))

    def save(self, archive: Path, *words: str) -> None:
        """Export images to an archive; C{words} are names, and flags."""
        flags = [word for word in words if word.startswith("--") or ("/" in word and ":" not in word)]
        self._ctr("images", "export", *flags, str(archive), *(word for word in words if word not in flags))

    def names(self) -> set[str]:
        """Of all images."""
        return set(self._ctr("images", "ls", "-q").split())

    def forget(self) -> None:
        """Remove all images, and with them all content."""
        images = self._ctr("images", "ls", "-q").split()
        self._ctr("images", "rm", "--sync", *images)
        until("containerd's garbage collection", lambda: not self.digests())

    def digests(self) -> set[str]:
        """Of all content that containerd holds."""
        return set(self._ctr("content", "ls", "-q").split())

    def damaged(self) -> list[str]:
        """The digests of the content whose bytes hash to something else."""
        content = self._directory / "root" / "io.containerd.content.v1.content" / "blobs"
        return [
            digest for digest in self.digests() if f"sha256:{_sha256(content.joinpath(*digest.split(':')))}" != digest
        ]

    def _ctr(self, *words: str) -> str:
        return run([*self._prefix, "ctr", "--address", str(self.socket), "--namespace", self._namespace, *words])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
