"""The images of a chaos run: the same for the same seed, in every process."""

from __future__ import annotations

import random
from dataclasses import dataclass

from crcache.testing.content import Content, Image, noise

#: The registry, as clients name it.
NAME = "registry.test"
#: Bytes of layers; small ones are more frequent, as in life.
_SIZES = (300, 5_000, 40_000, 64 << 10, 70_000, 200_000, 500_000, 1 << 20, (1 << 20) + 1, 3_000_000)
_WEIGHTS = (4, 4, 4, 1, 2, 3, 2, 1, 1, 1)
_REPOSITORIES = 10


@dataclass(frozen=True)
class Wanted:
    """An image, and the tag that means it."""

    tag: str
    image: Image


def make(seed: int, count: int) -> tuple[Content, list[Wanted]]:
    """So many images, with layers of their own and some that others have as well."""
    chance = random.Random(f"images/{seed}")
    content = Content()
    shared = [noise(size, seed) for size in _SIZES]
    images = []
    for number in range(count):
        sizes = chance.choices(_SIZES, _WEIGHTS, k=chance.randint(1, 4))
        layers = [noise(size + number, seed + index) for index, size in enumerate(sizes)]
        layers += chance.sample(shared, chance.randint(0, 2))
        name = f"team{number % _REPOSITORIES}/app"
        tag = f"v{number}"
        images.append(Wanted(tag, content.add_image(name, tag, layers, seed=seed + number)))
    return content, images
