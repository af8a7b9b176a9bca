"""An origin that misbehaves as it is told: the scriptable registry that crcache ships, in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crcache.testing.registry import FakeRegistry
from crcache.testing.script import NO_FAULT, Fault, Rule
from tests.real.daemon import ROOT
from tests.real.images import Image
from tests.real.processes import Process, free_port


@dataclass(frozen=True)
class Misdeed:
    """A fault with its conditions, as L{Rule}.

    @ivar path: a part of the request's path.
    """

    fault: Fault
    path: str
    times: int | None = 1
    conditions: dict[str, Any] = field(default_factory=dict)


class FaultyOrigin:
    """One such registry on 127.0.0.1; L{publish} first, then L{start}.

    @ivar url: its base URL.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._directory = directory
        self._images: list[dict[str, Any]] = []
        self._process: Process | None = None

    def publish(self, image: Image, repository: str) -> None:
        """Serve an image with all its platforms."""
        manifests = {digest: image.media_type(digest) for digest in image.manifests}
        blobs = {digest: str(image.path(digest)) for digest in image.digests}
        self._images.append(
            {"repository": repository, "tag": image.tag, "top": image.top, "manifests": manifests, "files": blobs}
        )

    def start(self, misdeeds: Sequence[Misdeed] = ()) -> None:
        """Listen, and misbehave so, each as often as it says."""
        rules = [
            {"fault": _said(each.fault), "path": each.path, "times": each.times, **each.conditions} for each in misdeeds
        ]
        plan = self._directory / "plan.json"
        plan.write_text(json.dumps({"port": self.port, "images": self._images, "rules": rules}))
        command = [sys.executable, "-m", "tests.real.faulty", str(plan)]
        self._process = Process(command, self._directory / "faulty.log", directory=ROOT)
        self._process.listens(self.port)

    def stop(self) -> None:
        """End it. Idempotent."""
        if self._process is not None:
            self._process.stop()


def _said(fault: Fault) -> dict[str, Any]:
    """What differs from the answer as it should be; JSON has no bytes."""
    return {name: value for name, value in dataclasses.asdict(fault).items() if value != getattr(NO_FAULT, name)}


def _hold(registry: FakeRegistry, image: dict[str, Any]) -> None:
    for digest, file in image["files"].items():
        data = Path(file).read_bytes()
        if digest in image["manifests"]:
            tag = image["tag"] if digest == image["top"] else None
            registry.content.add_manifest(image["repository"], data, image["manifests"][digest], tag)
        else:
            registry.content.add_blob(image["repository"], data)


def _main() -> None:
    from twisted.internet import reactor

    plan = json.loads(Path(sys.argv[1]).read_text())
    registry = FakeRegistry()
    for image in plan["images"]:
        _hold(registry, image)
    for rule in plan["rules"]:
        registry.script.add(Rule(Fault(**rule.pop("fault")), **rule))
    loop: Any = reactor
    registry.start(loop, port=plan["port"])
    loop.run()


if __name__ == "__main__":
    _main()
