"""containerd pulls through crcache from registries that fail in every way, and its pulls succeed."""

from __future__ import annotations

from typing import Any

from crcache.testing.script import Fault
from tests.real.containerd import Containerd
from tests.real.faulty import FaultyOrigin, Misdeed
from tests.real.images import MIB, Image, make_image
from tests.real.processes import free_port
from tests.real.scene import Scene

#: What becomes of the largest layer: the answers to one request after another, until they are as they should be.
IN_MID_BODY = {
    "cut": [Fault(cut=3 * MIB)],
    "reset": [Fault(cut=3 * MIB, reset=True)],
    "cut-five-times": [Fault(cut=MIB)] * 5,
    "range-ignored": [Fault(cut=3 * MIB), Fault(ignore_range=True)],
    "range-refused": [Fault(cut=3 * MIB), Fault(status=416)],
    "expired": [Fault(cut=3 * MIB), Fault(status=401), Fault(status=403)],
    "broken": [Fault(cut=3 * MIB), Fault(status=503), Fault(hang_up=True)],
    "stalled": [Fault(stall=2 * MIB), Fault(hold=True)],
}


class _FaultyScene(Scene):
    """A containerd with nothing in it, and a registry."""

    def setUp(self) -> None:
        """Begin containerd."""
        super().setUp()
        self.containerd = self.ending(Containerd(self.place("containerd")))
        self.origin = self.ending(FaultyOrigin(self.place("origin")))
        self.layout = self.place("oci")

    def image(self, repository: str) -> Image:
        """Another image, in a repository of that name."""
        image = make_image(self.layout, repository, [8 * MIB, MIB // 2])
        self.origin.publish(image, f"{repository}/app")
        return image

    def pull(self, registry: str, image: Image) -> None:
        """Have containerd pull it; it must be whole."""
        self.containerd.pull(f"{registry}/{image.tag}/app:{image.tag}")
        self.assertEqual(self.containerd.digests() & image.digests, image.digests)
        self.assertEqual(self.containerd.damaged(), [])


class InMidBodyTests(_FaultyScene):
    """A registry that breaks off, in the largest layer of each image in another way."""

    def test_no_client_notices(self) -> None:
        """Each layer comes whole in one answer, though containerd has nowhere else to go."""
        images = {name: self.image(name) for name in IN_MID_BODY}
        self.origin.start(
            [
                Misdeed(fault, f"/v2/{name}/app/blobs/{images[name].largest}")
                for name, faults in IN_MID_BODY.items()
                for fault in faults
            ]
        )
        settings = {"upstream": {"stall-timeout": "500ms", "first-byte-timeout": "1s"}}
        daemon = self.crcache(self.place("crcache"), {"registry.test": {"url": self.origin.url}}, settings=settings)
        self.containerd.mirror("registry.test", f"http://127.0.0.1:{free_port()}", daemon.url)
        for image in images.values():
            self.pull("registry.test", image)
        blobs = sum(len(image.blobs) for image in images.values())
        self.assertEqual(daemon.metrics("crcache_requests_total", kind="blob", status="200"), blobs)
        self.assertEqual(daemon.metrics("crcache_requests_total", kind="blob"), blobs)
        self.assertGreaterEqual(daemon.metrics("crcache_upstream_resumes_total"), len(IN_MID_BODY))


class BeforeTheFirstByteTests(_FaultyScene):
    """Registries that crcache cannot reach, while containerd can."""

    def test_fall_back(self) -> None:
        """containerd is told so in time, and goes to the registry itself."""
        names = ("refused", "unresolvable", "untrusted", "silent")
        images = {name: self.image(name) for name in names}
        self.origin.start()
        silent = self.ending(FaultyOrigin(self.place("silent")))
        silent.start([Misdeed(Fault(hold=True), "/v2/", None)])
        urls = {
            "refused": f"http://127.0.0.1:{free_port()}",
            "unresolvable": "http://nowhere.invalid",
            "untrusted": f"https://127.0.0.1:{self.origin.port}",
            "silent": silent.url,
        }
        settings: dict[str, Any] = {"upstream": {"connect-timeout": "1s", "first-byte-timeout": "1s"}}
        registries = {f"{name}.test": {"url": url} for name, url in urls.items()}
        daemon = self.crcache(self.place("crcache"), registries, settings=settings)
        for name, image in images.items():
            self.containerd.mirror(f"{name}.test", self.origin.url, daemon.url)
            self.pull(f"{name}.test", image)
        for name in names:
            failed = [
                daemon.metrics("crcache_requests_total", registry=f"{name}.test", status=status)
                for status in ("502", "504")
            ]
            self.assertGreater(sum(failed), 0, name)
            self.assertEqual(daemon.metrics("crcache_requests_total", registry=f"{name}.test", status="200"), 0)
