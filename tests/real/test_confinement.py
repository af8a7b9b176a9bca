"""What an administrator may configure works within the confinement of the units, too."""

from __future__ import annotations

import json
from pathlib import Path

from tests.real.hosted import NAME, Hosted
from tests.real.processes import run, until
from tests.real.scene import CURL
from tests.real.statics import StaticOrigin

_DISK = "/srv/registry-cache"
_KEY, _CERTIFICATE = "/etc/ssl/private/crcache.key", "/etc/ssl/certs/crcache.pem"
_DROP_INS = "/etc/systemd/system/crcache.service.d"
_EXAMPLES = "/usr/share/doc/crcache/examples"
_PRIVATE, _PASSWORD = "private.test", "hunter2"

#: It reads a file of its own, writes to its home directory, and runs another program, as those of clouds do.
_HELPER = """\
#!/usr/bin/python3
import json, os, subprocess, sys, threading
password = json.load(open("/etc/crcache/cloud.json"))["password"]
assert sys.argv[1:] == ["get"] and sys.stdin.read() == "private.test"
with open(os.path.expanduser("~/cloud-cache"), "a") as cache:
    cache.write("x")
user = subprocess.run(["/usr/bin/id", "-un"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
thread = threading.Thread(target=lambda: print(json.dumps({"Username": user, "Secret": password})))
thread.start()
"""


class ConfinementTests(Hosted):
    """A service with TLS, a Unix socket and a disk of its own."""

    def certificate(self, name: str) -> tuple[Path, Path]:
        """A key and its certificate, in files of ours."""
        key, certificate = self.directory / f"{name}.key", self.directory / f"{name}.pem"
        flags = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        run(["openssl", "req", *flags, "-keyout", str(key), "-out", str(certificate)])
        return key, certificate

    def shown(self) -> str:
        """Whom the certificate names that clients are shown."""
        said = self.curl("--insecure", "--verbose", "https://127.0.0.1:3443/v2/")
        (line,) = (line for line in said.splitlines() if "subject:" in line)
        return line.partition("CN=")[2]

    def test_all(self) -> None:
        """
        A key that is for a group of the system's alone is read, at the start and at a reload; half of a renewal is
        refused, and the other half completes it. A Unix socket is listened on. The drop-in for another disk, as it is
        printed, lets the cache be there, also if that is mounted after the start.
        """
        system = self.system
        key, certificate = self.certificate("first")
        system.run("groupadd", "--system", "ssl-cert")
        system.run("install", "-d", "-g", "ssl-cert", "-m", "0710", "/etc/ssl/private")
        system.copy(key, _KEY)
        system.copy(certificate, _CERTIFICATE)
        system.run("chown", "root:ssl-cert", _KEY)
        system.run("chmod", "640", _KEY)
        system.write(f"{_DROP_INS}/groups.conf", "[Service]\nSupplementaryGroups=ssl-cert\n")
        system.run("cp", f"{_EXAMPLES}/bigger-disk.conf", _DROP_INS)
        self.configure(
            listen=[f"ssl:3443:privateKey={_KEY}:certKey={_CERTIFICATE}", "unix:/run/crcache/clients.sock"],
            cache={"directory": f"{_DISK}/crcache"},
        )
        system.run("systemctl", "daemon-reload")
        self.enable("crcache.socket")
        self.assertEqual(self.status(self.manifest()), "503")

        system.run("mkdir", _DISK)
        system.run("mount", "-t", "tmpfs", "none", _DISK)
        system.run("install", "-d", "-o", "crcache", "-g", "crcache", "-m", "0750", f"{_DISK}/crcache")
        until("the disk is seen", lambda: self.status("/readyz", 3001) == "200", 30)
        self.assertEqual(self.shown(), "first")
        over_socket = (*CURL, "--unix-socket", "/run/crcache/clients.sock", "--output", "/dev/null")
        fetched = system.says(*over_socket, "--write-out", "%{http_code}", f"http://{NAME}{self.manifest()}")
        self.assertEqual(fetched, "200")
        self.assertNotEqual(system.run("find", f"{_DISK}/crcache/blobs", "-type", "f"), "")

        key, certificate = self.certificate("renewed")
        system.copy(key, _KEY)
        system.run("systemctl", "reload", "crcache.service")
        refused = "is not the key of the certificate in"
        until("the half is refused", lambda: refused in system.journal("--unit=crcache"), 10)
        self.assertEqual(self.shown(), "first")
        system.copy(certificate, _CERTIFICATE)
        system.run("systemctl", "reload", "crcache.service")
        until("the whole is in force", lambda: self.shown() == "renewed", 10)
        self.no_tracebacks()

    def test_helper(self) -> None:
        """
        A credential helper in /usr/local/bin runs, with the example's drop-in, and what it knows opens a registry. It
        is named in docker's config.json, which only root can read. One that is not below /usr does not run, which is
        told, and takes nothing from the others.
        """
        system = self.system
        private = self.ending(
            StaticOrigin(self.directory / "private", port=5002, prefix=system.inside, users={"crcache": _PASSWORD})
        )
        repository, image = self.small[0]
        private.publish(image, repository)
        private.start()
        named = {name: {"url": url} for name, url in ((NAME, self.origin.url), (_PRIVATE, private.url))}
        self.configure(registries={**named, "other.test": {"url": private.url}})
        system.write("/usr/local/bin/docker-credential-cloud", _HELPER, "755")
        system.write("/etc/crcache/cloud.json", json.dumps({"password": _PASSWORD}), "640")
        system.run("chgrp", "crcache", "/etc/crcache/cloud.json")
        helpers = {_PRIVATE: "cloud", "other.test": "planted"}
        system.write("/etc/crcache/credentials.yaml", json.dumps({"credHelpers": helpers}), "600")
        system.run("install", "-D", "-m", "644", f"{_EXAMPLES}/helpers.conf", f"{_DROP_INS}/helpers.conf")
        path = "[Service]\nEnvironment=PATH=/usr/local/bin:/usr/bin:/opt\n"
        system.write(f"{_DROP_INS}/path.conf", path)
        system.run("systemctl", "daemon-reload")
        system.write("/opt/docker-credential-planted", _HELPER, "755")
        self.started()
        manifest = f"/v2/{repository}/manifests/{image.tag}?ns="
        self.assertEqual(self.status(f"{manifest}{_PRIVATE}"), "200", system.journal("--unit=crcache"))
        self.assertEqual(self.status(f"{manifest}other.test"), "401")
        self.assertEqual(self.status(self.manifest()), "200")
        told = system.journal("--unit=crcache")
        self.assertIn("docker-credential-planted gives no credentials for other.test", told)
        self.assertIn("there is no such program on PATH, or it may not be run", told)
        self.assertNotIn(_PASSWORD, told)
        self.no_tracebacks()
