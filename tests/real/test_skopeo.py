"""skopeo, and so everything that is built on containers/image, pulls through crcache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.real.images import Image
from tests.real.library import APP, MULTI, library
from tests.real.originlog import agents, fetches
from tests.real.processes import run
from tests.real.registries import PASSWORD, USERNAME, DockerRegistry
from tests.real.scene import Scene, digest_of
from tests.real.tokens import TokenServer

# These clients take no port in a mirror's path, so the registry needs a name without one.
_NAME = "registry.test"
_LOGIN = {"username": USERNAME, "password": PASSWORD}
_CONFIGURATION = """\
unqualified-search-registries = []
[[registry]]
prefix = "{name}"
location = "127.0.0.1:{origin}"
insecure = {insecure}
[[registry.mirror]]
location = "127.0.0.1:{mirror}/{name}"
insecure = true
"""


class SkopeoTests(Scene):
    """The mirror is chosen in C{registries.conf}; the registry's name is the path's first component."""

    def copy(self, repository: str, image: Image) -> None:
        """Have skopeo copy an image with all its platforms into a directory, and see that it is whole."""
        target = self.place("copy")
        run(
            [
                "skopeo",
                "copy",
                "--all",
                "--insecure-policy",
                f"--registries-conf={self.directory / 'registries.conf'}",
                f"docker://{_NAME}/{repository}:{image.tag}",
                f"dir:{target}",
            ]
        )
        digests = {digest_of(path) for path in target.iterdir() if path.name != "version"}
        self.assertEqual(digests, image.digests)
        for path in target.iterdir():
            path.unlink()
        target.rmdir()

    def check(self, login: Mapping[str, str] | None = None, **how: Any) -> None:
        """Copy cold, then warm with the origin stopped. Only crcache has the login."""
        images = library()
        origin = self.ending(DockerRegistry(self.place("origin"), images.storage, **how))
        its: dict[str, Any] = {"url": origin.url, **({"ca": str(origin.ca)} if origin.ca else {}), **(login or {})}
        # Its token service has a port of its own.
        its["trusted-hosts"] = ["127.0.0.1"]
        daemon = self.crcache(self.place("crcache"), {_NAME: its})
        # An origin that speaks TLS is not trusted by skopeo itself: all comes through crcache or not at all.
        insecure = "false" if origin.ca else "true"
        conf: Path = self.directory / "registries.conf"
        conf.write_text(_CONFIGURATION.format(name=_NAME, origin=origin.port, mirror=daemon.port, insecure=insecure))

        self.copy(APP, images.app)
        self.copy(MULTI, images.multi)
        origin.settled(images.app)
        served = origin.settled(images.multi)
        self.assertEqual(fetches(served), Counter([*images.app.blobs, *images.multi.blobs]))
        self.assertNotIn("skopeo", agents(served))

        origin.stop()
        self.copy(APP, images.app)
        self.copy(MULTI, images.multi)

    def test_plain(self) -> None:
        """Both images come cold, each blob fetched once, and come again when the registry has stopped."""
        self.check()

    def test_tls(self) -> None:
        """The same from a registry whose certificate is by an authority that only crcache has been told of."""
        self.check(tls=True)

    def test_password(self) -> None:
        """The same from a registry that wants a name and a password, which only crcache knows."""
        self.check(_LOGIN, tls=True, password=True)

    def test_token(self) -> None:
        """The same from a registry that wants tokens for them."""
        self.check(_LOGIN, tokens=self.ending(TokenServer(USERNAME, PASSWORD)))
