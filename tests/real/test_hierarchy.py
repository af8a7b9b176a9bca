"""containerd pulls through a crcache that has another one for a parent."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.real.containerd import Containerd
from tests.real.daemon import Daemon
from tests.real.images import MIB
from tests.real.library import APP, MULTI, library
from tests.real.originlog import agents, fetches
from tests.real.processes import until
from tests.real.registries import DockerRegistry
from tests.real.scene import Scene


class HierarchyTests(Scene):
    """A node, its rack, and a registry that both can reach."""

    def begun(self, place: str, registries: Mapping[str, Mapping[str, Any]], *parents: Daemon) -> Daemon:
        """One of the caches."""
        settings = {"parents": [parent.url for parent in parents]}
        return self.crcache(self.place(place), registries, settings=settings)

    def test_rack(self) -> None:
        """What is pulled through both comes from the registry once, and none of it to the node; when the rack's is
        killed in the middle of a layer containerd notices nothing, and what had come is not fetched again."""
        images = library()
        origin = self.ending(DockerRegistry(self.place("origin"), images.storage))
        name = f"localhost:{origin.port}"
        registries = {name: {"url": origin.url}}
        rack = self.begun("rack", registries)
        node = self.begun("node", registries, rack)
        containerd = self.ending(Containerd(self.place("containerd")))
        containerd.mirror(name, "http://127.0.0.1:1", node.url)

        containerd.pull(f"{name}/{MULTI}:1.0", "--all-platforms")
        self.assertEqual(containerd.digests(), images.multi.digests)
        served = origin.settled(images.multi)
        self.assertEqual(fetches(served), Counter([*images.multi.blobs]))
        self.assertEqual(agents(served), {"crcache"})
        self.assertEqual(node.metrics("crcache_upstream_requests_total"), 0)
        self.assertEqual(
            node.metrics("crcache_parent_requests_total", kind="blob", status="200"), len(images.multi.blobs)
        )

        failed: list[BaseException] = []

        def pull() -> None:
            try:
                containerd.pull(f"{name}/{APP}:1.0")
            except BaseException as error:
                failed.append(error)

        pulling = threading.Thread(target=pull)
        pulling.start()
        self.addCleanup(pulling.join)
        until("the middle of the largest layer", lambda: coming(node) > 40 * MIB)
        rack.kill()
        pulling.join(60)
        self.assertEqual(failed, [])
        self.assertEqual(containerd.digests(), images.app.digests | images.multi.digests)
        self.assertEqual(containerd.damaged(), [])
        self.assertGreaterEqual(node.metrics("crcache_upstream_resumes_total"), 1)
        size = images.app.blobs[images.app.largest]
        own = node.metrics("crcache_upstream_bytes_total")
        self.assertLess(own, size - 30 * MIB)
        self.assertEqual(node.metrics("crcache_requests_total", kind="blob", status="502"), 0)


def coming(daemon: Daemon) -> int:
    """Bytes of the largest fill so far."""
    found = 0
    for path in (daemon.cache / "ingest").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found = max(found, path.stat().st_blocks * 512)
    return found
