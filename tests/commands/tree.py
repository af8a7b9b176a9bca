"""A cache directory with images in it, made by the real store."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crcache.cli import main
from crcache.commands.references import Name, parse_name
from crcache.facts import Fetched, Membership, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import OCI_INDEX, OCI_MANIFEST
from crcache.grammar.reference import Tag
from crcache.store import version
from crcache.store.contents import Contents
from crcache.store.layout import Layout
from crcache.store.pins import Pins
from crcache.store.repositories import Repositories

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DAY = 86400.0


def descriptor(media_type: str, data: bytes, **more: Any) -> dict[str, Any]:
    """As manifests have them."""
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **more}


class Tree:
    """Puts images there as the daemon does, piece by piece.

    @ivar now: the time of day at which it does.
    """

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.now = time.time()
        self.contents = Contents(self.layout, lambda: self.now, lambda digest, before, after: None)
        self.repositories = Repositories(self.layout, lambda: self.now)
        self.pins = Pins(self.layout)
        root.mkdir(parents=True, exist_ok=True)
        version.write(self.layout)

    def put(self, data: bytes) -> Digest:
        """Some content."""
        digest = Digest.of(data)
        self.contents.put(digest, data)
        return digest

    def enrol(self, name: Name, data: bytes, media_type: str, *, here: bool = True, open: bool = True) -> Digest:
        """Content that a repository holds; it is only named if it is not here."""
        fetched = (Fetched.OPENLY if open else Fetched.PRIVATELY) if here else Fetched.NEVER
        digest = self.put(data) if here else Digest.of(data)
        member = Membership(digest, media_type, len(data), open, fetched=fetched, named=not here)
        self.repositories.enrol(name.registry, name.repository, [member])
        return digest

    def image(
        self,
        name: str,
        layers: Sequence[bytes],
        *,
        platform: str = "linux/amd64",
        absent: Sequence[bytes] = (),
        tagged: bool = True,
    ) -> bytes:
        """An image with these layers, of which some may be absent. A tag in the name gets an entry.

        @return: its manifest.
        """
        said = parse_name(name)
        system, _, architecture = platform.partition("/")
        config = json.dumps({"os": system, "architecture": architecture, "created": "2026-01-02T03:04:05Z"}).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": descriptor(CONFIG, config),
                "layers": [descriptor(LAYER, layer) for layer in layers],
            }
        ).encode()
        self.enrol(said, config, CONFIG)
        for layer in layers:
            self.enrol(said, layer, LAYER, here=layer not in absent)
        self.enrol(said, manifest, OCI_MANIFEST)
        if tagged:
            self.tag(said, manifest, OCI_MANIFEST)
        return manifest

    def index(self, name: str, here: dict[str, bytes], absent: Sequence[str] = ()) -> bytes:
        """An index of manifests that are here, by platform, and of others that never were.

        @return: the index.
        """
        said = parse_name(name)
        entries = []
        for platform, manifest in [*here.items(), *((each, b"{}" + each.encode()) for each in absent)]:
            system, _, architecture = platform.partition("/")
            of = {"os": system, "architecture": architecture}
            entries.append(descriptor(OCI_MANIFEST, manifest, platform=of))
            if platform in absent:
                self.enrol(said, manifest, OCI_MANIFEST, here=False)
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
        self.enrol(said, index, OCI_INDEX)
        self.tag(said, index, OCI_INDEX)
        return index

    def tag(self, name: Name, manifest: bytes, media_type: str, *, open: bool = True) -> None:
        """What a tag means."""
        assert isinstance(name.image, Tag)
        entry = TagEntry(Digest.of(manifest), media_type, len(manifest), self.now, open)
        self.repositories.set_tag(name.registry, name.repository, name.image, entry)

    def content(self, data: bytes) -> Path:
        """Where these bytes are, or would be."""
        return self.layout.content(Digest.of(data))

    def age(self, name: str, seconds: float) -> None:
        """Have an image, and all that it consists of, last been used so long ago."""
        said = parse_name(name)
        home = self.layout.registries / str(said.registry) / str(said.repository)
        then = self.now - seconds
        for path in home.rglob("*"):
            os.utime(path, (then, then))
        for digest in self.layout.held(said.registry, said.repository):
            path = self.layout.content(digest)
            if path.exists():
                fd = os.open(path, os.O_RDONLY)
                try:
                    self.contents.seals.set(fd, digest, then)
                finally:
                    os.close(fd)

    def files(self) -> dict[str, int]:
        """Every file below the cache directory, with its size."""
        found = (path for path in self.layout.root.rglob("*") if path.is_file() and not path.is_symlink())
        return {str(path.relative_to(self.layout.root)): path.stat().st_size for path in found}


class TreeCase(SynchronousTestCase):
    """A test with a cache directory of its own.

    @ivar tree: what fills it.
    """

    def setUp(self) -> None:
        """An empty one."""
        # What runs in the background may have been told to ignore it, and whatever it starts would as well.
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
        place = Path(tempfile.mkdtemp(prefix="crcache-test-"))
        self.addCleanup(shutil.rmtree, place, ignore_errors=True)
        self.tree = Tree(place / "cache")
        self.file = place / "crcache.yaml"
        self.file.write_text("")

    def run_main(self, command: str, *arguments: str) -> tuple[int, str, str]:
        """A command on this directory: exit status, stdout, stderr."""
        place = ("-c", str(self.file), "-d", str(self.tree.layout.root))
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main([command, *place, *arguments])
        return status, out.getvalue(), err.getvalue()

    def done(self, command: str, *arguments: str) -> str:
        """What a command prints that is done, and has nothing to complain of."""
        status, out, err = self.run_main(command, *arguments)
        self.assertEqual((status, err), (0, ""))
        return out

    def json(self, command: str, *arguments: str) -> Any:
        """The same, as JSON."""
        return json.loads(self.done(command, "--json", *arguments))
