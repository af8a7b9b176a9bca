"""What the engine takes from the configuration that is in force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from crcache.engine import Engine
from crcache.errors import ConfigError, NoRoom
from crcache.grammar.hosts import HostPattern
from crcache.grammar.reference import Registry
from crcache.secret import Secret
from crcache.settings import Bounds, Config, Credential, Credentials, RegistrySettings, UpstreamSettings

HARBOR = Registry("harbor.test")


class NamesTests(SynchronousTestCase):
    """Which names and registries need not queue behind those that clients make up."""

    def setUp(self) -> None:
        self.config = Config(Path(self.mktemp()).absolute())

    def engine(self, environ: dict[str, str] | None = None) -> Engine:
        clock: Any = MemoryReactorClock()
        return Engine(self.config, clock, environ or {}, lambda: "it is a test")

    def hosts(self, engine: Engine, *names: str) -> list[str]:
        return [name for name in names if engine.names_host(name)]

    def test_hosts(self) -> None:
        """Hosts of a registry that is named, its trusted hosts among them, and the default registry's; from a reload
        on, others."""
        trusted = (HostPattern("auth.test"), HostPattern("s3.test", 9000))
        named = RegistrySettings(HARBOR, ("https://a.test", "https://b.test:5000"), trusted_hosts=trusted)
        names = ("a.test", "b.test", "auth.test", "s3.test", "registry-1.docker.io", "other.test", "")
        engine = self.engine()
        self.assertEqual(self.hosts(engine, *names), ["registry-1.docker.io"])
        engine.use(replace(self.config, registries={HARBOR: named}))
        self.assertEqual(self.hosts(engine, *names), list(names[:-2]))

    def test_bounds(self) -> None:
        """How large the cache may be: from a reload on, as that says."""
        self.config = replace(self.config, bounds=Bounds(1000, 0))
        self.config.cache_directory.mkdir()
        engine = self.engine()
        hold = engine.evictor.space.hold()
        engine.evictor._stopped.clear()
        self.addCleanup(engine.evictor.stop)
        engine.evictor.walk()
        self.assertIn("1000 bytes", str(self.assertRaises(NoRoom, hold.take, 2000)))
        engine.use(replace(self.config, bounds=Bounds(5000, 0)))
        hold.take(2000)

    def test_proxies(self) -> None:
        """A proxy, which nothing could be asked without, wherever it is named."""
        environ = {"HTTPS_PROXY": "http://env.test:3128", "http_proxy": "plain.test"}
        names = ("env.test", "plain.test", "set.test")
        self.assertEqual(self.hosts(self.engine(environ), *names), ["env.test", "plain.test"])
        self.config = replace(self.config, upstream=UpstreamSettings(proxy="http://set.test:3128"))
        self.assertEqual(self.hosts(self.engine(environ), *names), ["set.test"])
        self.config = replace(self.config, upstream=UpstreamSettings())
        self.assertRaises(ConfigError, self.engine, {"HTTPS_PROXY": "ftp://x"})

    def test_registries(self) -> None:
        """Registries with credentials are named as well, from the moment that a file of credentials has them."""
        engine = self.engine()
        self.assertFalse(engine.names_registry(HARBOR))
        engine.use_credentials(Credentials({(HARBOR, ()): Credential("u", Secret("p"))}))
        self.assertTrue(engine.names_registry(HARBOR))
        self.assertTrue(engine.names_host("harbor.test"))
