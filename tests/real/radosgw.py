"""A real S3 service: Ceph's object gateway, with a monitor and one store of its own, all on 127.0.0.1."""

from __future__ import annotations

import atexit
import functools
import re
import shutil
import tempfile
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from tests.real.processes import Process, free_port, program, run

KEY, SECRET = "TESTKEY", "TESTSECRET"

#: The least that one machine does with: one copy of everything, and nothing that waits for a second.
_SETTINGS = """
[global]
fsid = {cluster}
mon host = [v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {place}/keyring
run dir = {place}/run
log file = {place}/$name.log
admin socket = {place}/run/$name.asok
pid file = {place}/run/$name.pid
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd crush update on start = false
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
[mon.a]
mon data = {place}/mon
[osd.0]
osd data = {place}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd memory target = 939524096
[client.rgw]
rgw data = {place}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
"""


class RadosGateway:
    """One of them; it takes some ten seconds to begin.

    @ivar url: where it answers.
    @ivar alive: whether it does.
    """

    def __init__(self, place: Path) -> None:
        """
        @param place: its directory. Its path has to be short: there are sockets in it.
        """
        self._place = place
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        for name in ("mon", "osd", "rgw", "run"):
            (place / name).mkdir()
        self._settings = place / "ceph.conf"
        text = _SETTINGS.format(cluster=uuid.uuid4(), v2=free_port(), v1=free_port(), port=self._port, place=place)
        self._settings.write_text(text)
        self._begun: list[Process] = []
        self.alive = True
        self._monitor()
        self._store()
        self._gateway = self._serve()
        self._run(
            "radosgw-admin",
            "-n",
            "client.rgw",
            "user",
            "create",
            "--uid=test",
            "--display-name=test",
            f"--access-key={KEY}",
            f"--secret-key={SECRET}",
        )

    def _run(self, name: str, *arguments: str) -> str:
        return run([name, "--conf", str(self._settings), *arguments])

    def _begin(self, name: str, *arguments: str) -> Process:
        log = self._place / f"{name}.out"
        process = Process([program(name), "--conf", str(self._settings), "-f", *arguments], log)
        self._begun.append(process)
        return process

    def _monitor(self) -> None:
        keyring, plan = str(self._place / "keyring"), str(self._place / "monmap")
        every = "allow *"
        for begin, name, caps in (
            (["--create-keyring"], "mon.", ["mon", every]),
            ([], "client.admin", ["mon", every, "osd", every, "mgr", every]),
            ([], "osd.0", ["mon", "allow profile osd", "osd", every]),
            ([], "client.rgw", ["mon", "allow rw", "osd", "allow rwx"]),
        ):
            words = [word for kind, cap in zip(caps[::2], caps[1::2], strict=True) for word in ("--cap", kind, cap)]
            run(["ceph-authtool", *begin, keyring, "--gen-key", "-n", name, *words])
        settings = dict(line.split(" = ", 1) for line in self._settings.read_text().splitlines() if " = " in line)
        run(
            [
                "monmaptool",
                "--create",
                "--clobber",
                "--fsid",
                settings["fsid"],
                "--addv",
                "a",
                settings["mon host"],
                plan,
            ]
        )
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", plan, "--keyring", keyring)
        self._begin("ceph-mon", "-i", "a")

    def _store(self) -> None:
        identity = str(uuid.uuid4())
        self._run("ceph", "osd", "new", identity, "0")
        self._run("ceph", "auth", "import", "-i", str(self._place / "keyring"))
        self._run("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=h")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", identity)
        self._begin("ceph-osd", "-i", "0")

    def _serve(self) -> Process:
        process = self._begin("radosgw", "-n", "client.rgw")
        process.ready("an answer", self._answers, 60)
        return process

    def _answers(self) -> bool:
        try:
            with _open(self.url):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def kill(self) -> None:
        """End the gateway as a crash would; what it has stays."""
        self.alive = False
        self._gateway.kill()

    def serve(self) -> None:
        """Begin it again."""
        self._gateway = self._serve()
        self.alive = True

    def stop(self) -> None:
        """End everything. Idempotent."""
        for process in reversed(self._begun):
            process.kill()

    def client(self) -> Any:
        """botocore's own client: not what crcache speaks with."""
        from botocore.config import Config
        from botocore.session import Session

        return Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, proxies={}),
        )

    def bucket(self) -> str:
        """A new one."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str, part: str = "") -> list[str]:
        """The names of objects with this in them."""
        found: list[str] = []
        for page in self.client().get_paginator("list_objects").paginate(Bucket=bucket):
            found += [each["Key"] for each in page.get("Contents", []) if part in each["Key"]]
        return found

    def answered(self, method: str, part: str) -> list[int]:
        """The statuses of its answers to that method, for paths with this in them."""
        log = (self._place / "client.rgw.log").read_text(errors="replace")
        return [int(status) for path, status in re.findall(rf'"{method} (\S+) HTTP/1.1" ([0-9]+)', log) if part in path]


def _open(url: str) -> Any:
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2)


@functools.cache
def gateway() -> RadosGateway:
    """The one that all tests of this process share, each with buckets of its own."""
    place = Path(tempfile.mkdtemp(prefix="rgw-", dir="/tmp"))
    begun = RadosGateway(place)

    def end() -> None:
        begun.stop()
        shutil.rmtree(place, ignore_errors=True)

    atexit.register(end)
    return begun
