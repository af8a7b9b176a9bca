"""L{crcache.nodes.docker}, through C{crcache hosts --for docker}."""

from __future__ import annotations

import json
import os
from unittest import mock

from tests.nodes.case import HostCase

_FILE, _RECORD = "etc/docker/daemon.json", "etc/docker/daemon.json.crcache"
_URL = "http://127.0.0.1:3000"
_FOR = ("--for", "docker")


class DockerTests(HostCase):
    """daemon.json."""

    def document(self) -> object:
        """What is in it."""
        return json.loads(self.text(_FILE) or "null")

    def test_golden(self) -> None:
        """Without a file there is one with the mirror alone, which dockerd reads; and none again."""
        self.assertIn("'systemctl reload docker'", self.good("--apply", *_FOR))
        self.assertEqual(self.document(), {"registry-mirrors": [_URL]})
        self.assertIn("docker: nothing to change\n", self.good("--apply", *_FOR))
        self.good("--remove", *_FOR)
        self.assertEqual(self.files(), {})
        self.assertIn("docker: nothing to remove\n", self.good("--remove", *_FOR))

    def test_existing(self) -> None:
        """The rest stays, other mirrors behind crcache; the file comes back to the byte, with its mode."""
        text = '{"log-driver":  "journald", "registry-mirrors": ["https://m.example.com/"]}'
        self.put(_FILE, text, 0o640)
        self.good("--apply", *_FOR)
        self.assertEqual(
            self.document(), {"log-driver": "journald", "registry-mirrors": [_URL, "https://m.example.com/"]}
        )
        self.good("--remove", *_FOR)
        self.assertEqual(self.files(), {_FILE: text})
        self.assertEqual((self.root / _FILE).stat().st_mode & 0o777, 0o640)

    def test_passwords(self) -> None:
        """What would be written is shown, and nothing of what stands beside it: a proxy may have a password."""
        self.put(_FILE, json.dumps({"proxies": {"https-proxy": "http://u:hunter2@proxy:3128"}}))
        for flags in ((), ("--json",), ("--apply", "--json"), ("--remove", "--json")):
            _, out, err = self.hosts(*_FOR, *flags)
            self.assertNotIn("hunter2", out + err)
            self.assertIn(_URL, out)

    def test_there_already(self) -> None:
        """A mirror that the administrator put there is not added, and not removed."""
        text = json.dumps({"registry-mirrors": [f"{_URL}/"]})
        self.put(_FILE, text)
        self.good("--apply", *_FOR)
        self.good("--remove", *_FOR)
        self.assertEqual(self.files(), {_FILE: text})

    def test_another_machine(self) -> None:
        """A mirror on another machine without TLS is one of the insecure registries too; with TLS it is not."""
        self.good("--apply", *_FOR, "--mirror", "http://10.0.0.1:3000")
        self.assertEqual(
            self.document(), {"registry-mirrors": ["http://10.0.0.1:3000"], "insecure-registries": ["10.0.0.1:3000"]}
        )
        ca = self.put("ca.pem", "-----BEGIN CERTIFICATE-----\n")
        self.good("--apply", *_FOR, "--mirror", "https://cache:3443", "--ca", str(ca))
        self.assertEqual(self.document(), {"registry-mirrors": ["https://cache:3443"]})
        self.assertIn("etc/docker/certs.d/cache:3443/crcache.crt", self.files())
        self.good("--remove", *_FOR)
        self.assertEqual(set(self.files()), {"ca.pem"})

    def test_changed_since(self) -> None:
        """What the administrator changed since stays; only the mirror goes."""
        self.put(_FILE, '{"a": 1}')
        self.good("--apply", *_FOR)
        self.put(_FILE, json.dumps({"a": 2, "registry-mirrors": ["https://m.example.com", _URL]}))
        self.good("--remove", *_FOR)
        self.assertEqual(self.document(), {"a": 2, "registry-mirrors": ["https://m.example.com"]})
        self.assertEqual(self.text(f"{_FILE}.crcache-backup"), '{"a": 1}')

    def test_crash(self) -> None:
        """Broken off before any of its renames, both ways lead on from there, and the file is always whole."""
        for flags in (("--apply",), ("--remove",)):
            for survived in range(3):
                self.put(_FILE, '{"a": 1}')
                left = iter([os.rename] * survived)

                def rename(source: str, target: str) -> None:
                    step = next(left, None)  # noqa: B023
                    if step is None:
                        raise KeyboardInterrupt
                    step(source, target)

                with mock.patch("crcache.nodes.files.os.rename", rename):
                    self.assertEqual(self.hosts("--apply", *_FOR)[0], 130)
                self.assertEqual(self.document(), {"a": 1})
                self.good(*flags, *_FOR)
                self.assertEqual(
                    self.document(), {"a": 1} | ({"registry-mirrors": [_URL]} if "--apply" in flags else {})
                )
                self.good("--remove", *_FOR)
                self.assertEqual(self.files(), {_FILE: '{"a": 1}'})

    def test_flags(self) -> None:
        """A flag beside which dockerd would refuse the key is a line with the file, and nothing is written."""
        drop_in = "etc/systemd/system/docker.service.d/10-mirror.conf"
        for path, text, number in (
            ("etc/default/docker", 'DOCKER_OPTS="--registry-mirror=https://u:hunter2@m.example.com"\n', 1),
            ("etc/sysconfig/docker", "# theirs\nOPTIONS='--registry-mirror https://m.example.com'\n", 2),
            ("etc/systemd/system/docker.service", "ExecStart=/usr/bin/dockerd \\\n  --registry-mirror=https://m\n", 2),
            (drop_in, "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --registry-mirror https://m\n", 3),
        ):
            file = self.put(path, text)
            before = self.files()
            for flags in ((), ("--apply",)):
                self.assertEqual(
                    self.bad(*flags, *_FOR),
                    f"/{path}:{number}: has --registry-mirror, and dockerd does not start with registry-mirrors in"
                    f" /{_FILE} beside it: move that flag's value into registry-mirrors there first",
                )
            self.assertEqual(self.files(), before)
            self.good("--remove", *_FOR)
            file.unlink()
        self.good("--apply", *_FOR)

    def test_insecure_flag(self) -> None:
        """So is the other flag, if its key would be written."""
        self.put("etc/default/docker", "DOCKER_OPTS=--insecure-registry=10.0.0.2:5000\n")
        self.assertIn(
            "/etc/default/docker:1: has --insecure-registry, ",
            self.bad("--apply", *_FOR, "--mirror", "http://10.0.0.1:3000"),
        )
        self.assertIsNone(self.text(_FILE))
        self.good("--apply", *_FOR)

    def test_no_flags(self) -> None:
        """What is a comment, another flag, no drop-in or masked is let pass."""
        self.put("etc/default/docker", "#DOCKER_OPTS=--registry-mirror=https://m\nDOCKER_OPTS=--log-level=info\n")
        drop_ins = "etc/systemd/system/docker.service.d"
        self.put(f"{drop_ins}/10.conf", "; ExecStart=/usr/bin/dockerd --registry-mirror=https://m\n")
        self.put(f"{drop_ins}/10.conf.bak", "ExecStart=/usr/bin/dockerd --registry-mirror=https://m\n")
        (self.root / "dev/null").mkdir(parents=True)
        (self.root / drop_ins / "20.conf").symlink_to("/dev/null")
        self.good("--apply", *_FOR)

    def test_malformed(self) -> None:
        """What dockerd could not read either is a line with the file, and nothing is written."""
        for text, line in (
            ('{"a": 1,\n}', f"/{_FILE}:2: is not JSON: "),
            ('{"a": ' + "9" * 5000 + "}", f"/{_FILE}: is nested too deeply, or a number in it is too long"),
            ('{"a": ' + "[" * 100_000, f"/{_FILE}: is nested too deeply, or a number in it is too long"),
            ("[]", f"/{_FILE}: must be a JSON object"),
            ('{"registry-mirrors": "x"}', f"/{_FILE}: registry-mirrors: must be a list of strings"),
            ('{"insecure-registries": [1]}', f"/{_FILE}: insecure-registries: must be a list of strings"),
        ):
            self.put(_FILE, text)
            self.assertTrue(self.bad("--apply", *_FOR).startswith(line))
            self.assertEqual(self.files(), {_FILE: text})
        self.put(_FILE, "{}")
        self.put(_RECORD, "x")
        self.assertIn("is damaged", self.bad("--remove", *_FOR))
