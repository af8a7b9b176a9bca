"""Configuration files to test with."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crcache.config import Loaded, Overrides, load
from crcache.errors import ConfigError
from crcache.settings import Config
from crcache.testing.certificates import Authority

_CLIENT = Authority().client()
CERTIFICATE, KEY = _CLIENT.certificate.decode(), _CLIENT.key.decode()

#: Every key there is, none with its default; relative to a directory that has C{tls/}.
FULL = """
listen: [tcp:3000, "tls:3443:interface=127.0.0.1"]
admin: unix:/run/crcache/admin.sock
drain-timeout: 1m
tls:
  certificate: tls/client.pem
  key: tls/client.key
  clients: {ca: tls/ca.pem}
limits:
  connections: 100
  connections-per-peer: 10
  requests-per-peer: 5
cache:
  directory: /srv/cache
  manifests: no
  ignore: ^(latest|edge)$
  tag-ttl: 2m
  stale-if-error: 1d
  negative-ttl: 0
  max-size: 1.5TiB
  min-free: 10%
  high-watermark: 90%
  low-watermark: 75%
  s3:
    bucket: kept
    endpoint: https://S3.example.com:9000/
    region: r1
    prefix: a/b
    path-style: no
    ca: tls/ca.pem
    timeout: 1s
upstream:
  connect-timeout: 1s
  first-byte-timeout: 2s
  stall-timeout: 500ms
  retries: 0
  max-connections: 8
  proxy: http://proxy:3128/
reach:
  allow: [docker.io, "*.example.com", "quay.io:443"]
  deny: "[2001:DB8::0:1]"
  default-registry: harbor.example.com
registries:
  registry-1.docker.io: {username: puller, password: secret1}
  "127.0.0.1:5001": {url: "http://127.0.0.1:5001"}
  quay.io:
  harbor.example.com:
    url: [https://harbor-a.example.com, https://harbor-b.example.com/path/]
    ca: tls/ca.pem
    client-cert: tls/client.pem
    client-key: tls/client.key
    insecure-skip-verify: false
    access: open
    trusted-hosts: [Auth.example.com, "minio.example.com:9000", 10.0.0.7]
    tag-ttl: 5m
    negative-ttl: 1s
"""


class ConfigCase(SynchronousTestCase):
    """A directory with PEM files in it, and configuration files written there."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        (self.directory / "tls").mkdir(parents=True)
        for name, text in [("ca.pem", CERTIFICATE), ("client.pem", CERTIFICATE), ("client.key", KEY)]:
            (self.directory / "tls" / name).write_text(text)

    def write(self, text: str, mode: int = 0o600, name: str = "crcache.yaml") -> Path:
        path = self.directory / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def load(
        self,
        text: str,
        overrides: Overrides | None = None,
        environ: dict[str, str] | None = None,
        inherited: bool = True,
    ) -> Loaded:
        home = {"HOME": "/home/somebody"} if environ is None else environ
        return load(self.write(text), overrides or Overrides(), home, reactor=object(), inherited=inherited)

    def config(self, text: str, overrides: Overrides | None = None) -> Config:
        return self.load(text, overrides).config

    def refused(self, text: str) -> str:
        """The one line about this mistake, after the file's name; it shows no C{s3cret}."""
        error = self.assertRaises(ConfigError, self.load, text)
        self.assertNotIn("\n", error.message)
        self.assertNotIn("s3cret", error.message)
        prefix = f"{self.directory}/crcache.yaml:"
        self.assertTrue(error.message.startswith(prefix), error.message)
        message: str = error.message
        return message.removeprefix(prefix)
