"""The images that the tests pull: made once a run, pushed once, served by many registries."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.real.images import MIB, Image, make_image, make_index
from tests.real.registries import DockerRegistry, push

#: Where L{Library.app} and L{Library.multi} are in the storage.
APP, MULTI = "team/app", "team/multi"


@dataclass(frozen=True)
class Library:
    """
    @ivar storage: of a docker-registry that holds all of it; nobody writes to it any more.
    @ivar app: three layers, of 1, 20 and 200 MiB. Its tag is 1.0.
    @ivar multi: an index of two platforms, with layers of 1 and 3 MiB each. Its tag is 1.0.
    """

    storage: Path
    app: Image
    multi: Image


@functools.cache
def library() -> Library:
    """The library, which lasts until this process ends."""
    directory = Path(tempfile.mkdtemp(prefix="crcache-library-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    app = make_image(directory / "app", "1.0", [MIB, 20 * MIB, 200 * MIB])
    multi = make_index(directory / "multi", "1.0", [MIB, 3 * MIB], ["amd64", "arm64"])
    registry = DockerRegistry(directory, directory / "storage")
    try:
        push(app, registry, APP)
        push(multi, registry, MULTI)
    finally:
        registry.stop()
    return Library(directory / "storage", app, multi)


@functools.cache
def small() -> tuple[Path, Image]:
    """The storage of a docker-registry that holds an image of two platforms, with layers of 256 KiB and 2 MiB each, at
    L{MULTI}:1.0; and the image. Both last until this process ends."""
    directory = Path(tempfile.mkdtemp(prefix="crcache-small-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    image = make_index(directory / "multi", "1.0", [MIB // 4, 2 * MIB], ["amd64", "arm64"])
    registry = DockerRegistry(directory, directory / "storage")
    try:
        push(image, registry, MULTI)
    finally:
        registry.stop()
    return directory / "storage", image
