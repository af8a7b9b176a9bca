"""crcache listens on TLS."""

from __future__ import annotations

from crcache.testing.certificates import Authority
from tests.real.library import APP, library
from tests.real.registries import DockerRegistry
from tests.real.scene import Scene

_NAME = "registry.test"


class TLSTests(Scene):
    """Bodies go through TLS's own buffers, not through sendfile."""

    def test_whole_blob(self) -> None:
        """A layer of 200 MiB arrives whole and right, cold, and warm with the origin stopped."""
        images = library()
        authority = Authority()
        ca = authority.write(self.directory)
        certificate, key = authority.server().write(self.directory, "crcache")
        origin = self.ending(DockerRegistry(self.place("origin"), images.storage))
        daemon = self.crcache(
            self.place("crcache"),
            {_NAME: {"url": origin.url}},
            listen=f"ssl:{{port}}:privateKey={key}:certKey={certificate}:interface=127.0.0.1",
        )
        digest = images.app.largest
        url = f"https://127.0.0.1:{daemon.port}/v2/{APP}/blobs/{digest}?ns={_NAME}"
        self.assertEqual(self.get(url, "--cacert", str(ca)), digest)
        origin.stop()
        self.assertEqual(self.get(url, "--cacert", str(ca)), digest)
        self.assertTrue(self.head(url, "--cacert", str(ca))["cache-status"].startswith("crcache; hit"))
