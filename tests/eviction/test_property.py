"""Whatever the tree of content: what stays is whole, what is pinned stays, and there is no more than there may be."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crcache.eviction.naming import named
from crcache.grammar.digest import Digest
from crcache.settings import Bounds
from tests.eviction.case import HOUR, EvictionCase
from tests.store.other import now


@dataclass(frozen=True)
class Tree:
    """A cache's content. Ages are in hours, numbers beyond the end mean the last.

    @ivar blobs: the ages of blobs.
    @ivar images: which blobs each names, and its age.
    @ivar indexes: which images each names, and its age.
    @ivar pinned: which images.
    @ivar used: images that are used after the plan was made.
    @ivar share: how much of it there may be, in percent.
    """

    blobs: list[int]
    images: list[tuple[list[int], int]]
    indexes: list[tuple[list[int], int]]
    pinned: list[int]
    used: list[int]
    share: int


AGES = st.integers(0, 30)
NUMBERS = st.lists(st.integers(0, 5), max_size=5)
TREES = st.builds(
    Tree,
    st.lists(AGES, min_size=1, max_size=8),
    st.lists(st.tuples(NUMBERS, AGES), min_size=1, max_size=5),
    st.lists(st.tuples(NUMBERS, AGES), max_size=2),
    st.lists(st.integers(0, 5), max_size=1),
    st.lists(st.integers(0, 5), max_size=2),
    st.integers(0, 100),
)


class PropertyTests(EvictionCase):
    """Trees that nobody has thought of."""

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(tree=TREES)
    def test_whole(self, tree: Tree) -> None:
        """No manifest that stays lacks anything that was there; the pinned closure is whole; the bounds hold, unless
        what is pinned, or has been used since, is larger."""
        for name in ("blobs", "eviction", "registries"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        self.evictor, self.store = self.another()
        blobs = [self.blob(number, 500, age * HOUR) for number, age in enumerate(tree.blobs)]

        def some(numbers: list[int], of: list[Digest]) -> list[Digest]:
            return [of[min(number, len(of) - 1)] for number in numbers]

        images = [self.manifest(some(which, blobs), age * HOUR, str(at)) for at, (which, age) in enumerate(tree.images)]
        for which, age in tree.indexes:
            images.append(self.index(some(which, images[: len(tree.images)]), age * HOUR))
        for each in some(tree.pinned, images):
            self.pin(each)
        self.walk()
        stays = some(tree.pinned, images)
        for each in some(tree.used, images):
            now(self.store.read(each, 1 << 20))
            stays.append(each)
        for each in stays:
            stays.extend(child for child in named(self.layout, each) if child not in stays)
        most = self.held() * tree.share // 100
        self.bounds = Bounds(most, 0, 1.0, 1.0)
        self.evictor.look()
        self.evictor._hurry.set()
        kept = [each for each in images if self.holds(each)]
        for each in kept:
            for child in named(self.layout, each):
                self.assertTrue(self.holds(child))
        pinned = some(tree.pinned, images)
        for each in pinned:
            self.assertTrue(self.holds(each))
            pinned.extend(child for child in named(self.layout, each) if child not in pinned)
        least = sum(self.path(each).stat().st_size for each in set(stays) if self.holds(each))
        self.assertLessEqual(self.held(), max(most, least))
        self.assertEqual(self.content(), self.held())
