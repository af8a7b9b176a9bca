"""containerd pulls through crcache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.real.containerd import Containerd
from tests.real.daemon import Daemon
from tests.real.library import APP, MULTI, library
from tests.real.originlog import agents, fetches
from tests.real.registries import PASSWORD, USERNAME, DockerRegistry
from tests.real.scene import Scene
from tests.real.tokens import TokenServer

_NAME = "registry.test"
_LOGIN = {"username": USERNAME, "password": PASSWORD}


class _ContainerdScene(Scene):
    """A containerd with nothing in it, and images in a registry's storage."""

    def setUp(self) -> None:
        """Begin containerd."""
        super().setUp()
        self.images = library()
        self.containerd = self.ending(Containerd(self.place("containerd")))

    def registry(self, **how: Any) -> DockerRegistry:
        """An origin that holds the library; see L{DockerRegistry}."""
        return self.ending(DockerRegistry(self.place("origin"), self.images.storage, **how))

    def daemon(
        self,
        name: str,
        origin: DockerRegistry,
        login: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Daemon:
        """A crcache for that origin, which containerd knows by that name and has as a mirror of it."""
        its: dict[str, Any] = {"url": origin.url, **({"ca": str(origin.ca)} if origin.ca else {}), **(login or {})}
        # Its token service has a port of its own.
        its["trusted-hosts"] = ["127.0.0.1"]
        daemon = self.crcache(self.place("crcache"), {name: its}, settings=settings)
        self.containerd.mirror(name, origin.url, daemon.url)
        return daemon

    def pull_all(self, name: str) -> None:
        """Have containerd pull both images, and see that it holds them whole."""
        self.containerd.pull(f"{name}/{APP}:1.0")
        self.containerd.pull(f"{name}/{MULTI}:1.0", "--all-platforms")
        self.assertEqual(self.containerd.digests(), self.images.app.digests | self.images.multi.digests)
        self.assertEqual(self.containerd.damaged(), [])


class ColdAndWarmTests(_ContainerdScene):
    """An image with a layer of 200 MiB and an index of two platforms, pulled twice, whatever the registry asks for."""

    def check(self, name: str, origin: DockerRegistry, daemon: Daemon) -> None:
        """Pull cold, then warm with the origin stopped, and see what was asked of whom."""
        blobs = [*self.images.app.blobs, *self.images.multi.blobs]

        self.pull_all(name)
        origin.settled(self.images.app)
        served = origin.settled(self.images.multi)
        self.assertEqual(fetches(served), Counter(blobs))
        self.assertNotIn("containerd", agents(served))
        self.assertEqual(daemon.metrics("crcache_requests_total", kind="blob", status="200", cache="miss"), len(blobs))
        self.assertEqual(daemon.metrics("crcache_requests_total", cache="hit"), 0)
        self.assertEqual(
            daemon.metrics("crcache_upstream_requests_total", registry=name, kind="blob", status="200"), len(blobs)
        )
        size = sum(self.images.app.blobs.values()) + sum(self.images.multi.blobs.values())
        self.assertGreaterEqual(daemon.metrics("crcache_upstream_bytes_total", registry=name), size)

        origin.stop()
        self.containerd.forget()
        self.pull_all(name)
        self.assertEqual(daemon.metrics("crcache_requests_total", kind="blob", status="200", cache="hit"), len(blobs))
        layer = self.head(f"{daemon.url}/v2/{APP}/blobs/{self.images.app.largest}?ns={name}")
        self.assertEqual(layer[":status"], "200")
        self.assertEqual(layer["cache-status"].split(";")[:2], ["crcache", " hit"])

    def test_plain(self) -> None:
        """
        An open registry, known by an address with a port: each blob is fetched from it once; with the registry
        stopped, and its tags' time over, everything still comes, and the answers say that they are stale.
        """
        origin = self.registry()
        name = f"localhost:{origin.port}"
        daemon = self.daemon(name, origin, settings={"cache": {"tag-ttl": "1s"}})
        self.check(name, origin, daemon)
        tag = self.head(f"{daemon.url}/v2/{APP}/manifests/1.0?ns={name}")
        self.assertEqual(tag["docker-content-digest"], self.images.app.top)
        self.assertEqual(tag["cache-status"], "crcache; hit; detail=stale-if-error")

    def test_tls(self) -> None:
        """A registry whose certificate is by an authority that only crcache has been told of."""
        origin = self.registry(tls=True)
        self.check(_NAME, origin, self.daemon(_NAME, origin))

    def test_password(self) -> None:
        """A registry that wants a name and a password, which only crcache knows."""
        origin = self.registry(tls=True, password=True)
        daemon = self.daemon(_NAME, origin, _LOGIN)
        self.check(_NAME, origin, daemon)
        self.assertNotIn(PASSWORD, daemon.said())

    def test_token(self) -> None:
        """
        A registry that wants tokens for a name and a password, which only crcache knows: it gets one token for each
        repository, however many requests need it.
        """
        tokens = self.ending(TokenServer(USERNAME, PASSWORD))
        origin = self.registry(tokens=tokens)
        daemon = self.daemon(_NAME, origin, _LOGIN)
        self.check(_NAME, origin, daemon)
        scopes = [f"repository:{APP}:pull", f"repository:{MULTI}:pull"]
        self.assertEqual(tokens.granted, [(USERNAME, scope) for scope in scopes])
        self.assertNotIn(PASSWORD, daemon.said())


class WithoutCrcacheTests(_ContainerdScene):
    """crcache is an addition: pulls do not depend on it."""

    def test_stopped(self) -> None:
        """With crcache stopped the pull comes from the origin."""
        origin = self.registry()
        name = f"localhost:{origin.port}"
        daemon = self.daemon(name, origin)
        daemon.stop()
        self.pull_all(name)
        self.assertEqual(agents(origin.settled(self.images.app)), {"containerd"})
