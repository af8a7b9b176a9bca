"""What a cluster pulls in a season: images that share layers, as they come out, are asked for, and are so no more.

Drawn by chance from a fixed seed. Sizes and shares are those of public registries, roughly: a layer of 3 MiB is the
middle one and a hundred times that is not rare; an application's images share its base's layers with others', and most
of their own with the version before; one pull in seven is of a node that has it all and asks for the manifest only.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

START = 1_700_000_000
DAY = 86400
#: How long it goes on.
SEASON = 90 * DAY
KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Image:
    """One version of an image, for one platform or several.

    @ivar time: when it came out.
    @ivar top: what its tag means: an index, or a manifest.
    @ivar manifests: one for each platform, the usual one first; each with its configuration and layers.
    """

    time: int
    top: int
    manifests: tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Pull:
    """What is asked for, in this order, when.

    @ivar time: in seconds since the epoch, with a fraction.
    @ivar wanted: numbers of contents.
    """

    time: float
    wanted: tuple[int, ...]


@dataclass(frozen=True)
class Trace:
    """All that there is, and what is asked for.

    @ivar sizes: in bytes, of each content.
    @ivar names: what an index or manifest names.
    """

    sizes: Sequence[int]
    names: Mapping[int, Sequence[int]]
    pulls: Sequence[Pull]

    @property
    def total(self) -> int:
        """Bytes of everything that is ever asked for."""
        return sum(self.sizes[item] for item in {item for pull in self.pulls for item in pull.wanted})


def trace(images: int = 5000, pulls: int = 100_000, *, nodes: int = 150, seed: int = 1) -> Trace:
    """So many pulls of so many images by so many nodes."""
    chance = random.Random(seed)
    universe = _Universe(chance)
    applications = universe.applications(images)
    popular = _Zipf(chance, len(applications), 1.0)
    crowd = [_Node() for _ in range(nodes)]
    asked = []
    for time in sorted(START + SEASON * chance.random() for _ in range(pulls)):
        image = None
        while image is None:
            image = _version(chance, applications[popular.draw()], time)
        # A node is of one platform for all its life: one in eight of another than the usual.
        number = chance.randrange(nodes)
        manifest, blobs = image.manifests[-1 if number % 8 == 0 else 0]
        asked.append(Pull(time, tuple(crowd[number].pull(image.top, manifest, blobs))))
    return Trace(universe.sizes, universe.names, asked)


def _version(chance: random.Random, versions: Sequence[Image], time: float) -> Image | None:
    """Mostly the latest that is out, often the one before, sometimes any; C{None} if there is none yet."""
    out = bisect_right(versions, time, key=lambda image: image.time)
    if not out:
        return None
    if chance.random() < 0.1:
        return versions[chance.randrange(out)]
    back = 0
    while chance.random() < 0.35:
        back += 1
    return versions[max(out - 1 - back, 0)]


class _Zipf:
    """Draws places of so many, the first the most often."""

    def __init__(self, chance: random.Random, count: int, exponent: float) -> None:
        self._chance = chance
        self._sums = list(accumulate((1 + place) ** -exponent for place in range(count)))

    def draw(self) -> int:
        """One of them, from 0."""
        return bisect_left(self._sums, self._chance.random() * self._sums[-1])


@dataclass
class _Universe:
    """All contents, numbered as they are made."""

    chance: random.Random
    sizes: list[int] = field(default_factory=list)
    names: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def applications(self, images: int) -> list[list[Image]]:
        """The versions of each application, oldest first; popular ones have more of them."""
        bases = [self._base() for _ in range(60)]
        usual = _Zipf(self.chance, len(bases), 1.1)
        count = max(images // 8, 1)
        share = _Zipf(self.chance, count, 0.6)
        versions = [0] * count
        for _ in range(images):
            versions[share.draw()] += 1
        return [self._application(bases[usual.draw()], number) for number in versions if number]

    def _base(self) -> list[tuple[int, tuple[int, ...]]]:
        """What a base image consists of, from when on: some layers that stay for months, and one that is mended."""
        stay = tuple(self._layer(20 * MIB) for _ in range(self.chance.randint(0, 2)))
        times = sorted(START + self.chance.randrange(SEASON) for _ in range(self.chance.randint(0, 6)))
        return [(time, (*stay, self._layer(12 * MIB))) for time in (0, *times)]

    def _application(self, base: list[tuple[int, tuple[int, ...]]], versions: int) -> list[Image]:
        """Each version on the base that is out, with most layers of the version before."""
        # A third has been out for long.
        times = sorted(
            max(START - SEASON // 2 + self.chance.randrange(SEASON * 3 // 2), START) for _ in range(versions)
        )
        platforms = self.chance.choice((1, 1, 2))
        kept: list[list[int]] = [[self._layer(3 * MIB) for _ in range(self.chance.randint(1, 8))]] * platforms
        images = []
        for time in times:
            below = base[bisect_right(base, time, key=lambda item: item[0]) - 1][1]
            manifests = []
            for platform in range(platforms):
                # Layers are in the order of how often they change: whatever is above one that is new is new as well.
                layers = kept[platform]
                first = self.chance.randint(len(layers) // 2, len(layers))
                layers = [*layers[:first], *(self._layer(3 * MIB) for _ in layers[first:])] or [self._layer(MIB)]
                kept[platform] = layers
                blobs = (self._add(8 * KIB), *below, *layers)
                manifests.append((self._add(2 * KIB, blobs), blobs))
            top = manifests[0][0]
            if platforms > 1:
                top = self._add(KIB, tuple(manifest for manifest, _ in manifests))
            images.append(Image(time, top, tuple(manifests)))
        return images

    def _layer(self, middle: int) -> int:
        return self._add(min(int(middle * self.chance.lognormvariate(0, 1.8)) + 100, 2 << 30))

    def _add(self, size: int, names: tuple[int, ...] = ()) -> int:
        self.sizes.append(size)
        if names:
            self.names[len(self.sizes) - 1] = names
        return len(self.sizes) - 1


class _Node:
    """Has what it has pulled lately, and asks for what it lacks."""

    #: Images that it keeps.
    ROOM = 60

    def __init__(self) -> None:
        self._images: OrderedDict[int, tuple[int, ...]] = OrderedDict()
        self._count: dict[int, int] = {}

    def pull(self, top: int, manifest: int, blobs: Sequence[int]) -> Iterator[int]:
        """What it asks for."""
        yield top
        whole = (manifest, *blobs)
        if top not in self._images:
            yield from (item for item in whole if item != top and not self._count.get(item))
            self._images[top] = whole
            for item in whole:
                self._count[item] = self._count.get(item, 0) + 1
        self._images.move_to_end(top)
        if len(self._images) > self.ROOM:
            for item in self._images.popitem(last=False)[1]:
                self._count[item] -= 1
