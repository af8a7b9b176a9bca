"""All that a cache directory holds, as what could go: images, and what belongs to none. All of it blocks."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from crcache.grammar.digest import Digest
from crcache.grammar.manifest import KNOWN
from crcache.grammar.reference import Tag
from crcache.inventory.contents import walk
from crcache.inventory.images import Images
from crcache.inventory.problems import Problems
from crcache.inventory.repositories import Home
from crcache.store.layout import Layout
from crcache.store.pins import Pins

#: A digest in as few bytes as can be: there may be a million.
Key = bytes


def key_of(digest: Digest) -> Key:
    """A digest as a key. Those of one algorithm are of one length."""
    return bytes.fromhex(digest.hex)


def digest_of(key: Key) -> Digest:
    """The digest that a key was made of."""
    return Digest("sha256" if len(key) == 32 else "sha512", key.hex())


@dataclass(frozen=True, slots=True)
class Unit:
    """Something that goes, or stays, as a whole.

    @ivar home: C{None}: content that no repository holds.
    @ivar tag: C{None}: a manifest that no tag leads to, or a blob that no manifest here names.
    @ivar top: what it begins with.
    @ivar image: whether it is one; otherwise it is a single blob.
    @ivar used: when it was last used through its repository, in seconds since the epoch.
    @ivar noted: when its tag's file was last written or used; C{None} without one.
    """

    home: Home | None
    tag: Tag | None
    top: Key
    image: bool
    used: float
    noted: float | None = None
    pinned: bool = False

    @property
    def reference(self) -> Tag | Digest:
        """What it is called in its repository."""
        return digest_of(self.top) if self.tag is None else self.tag

    def __str__(self) -> str:
        if self.home is None:
            return str(self.reference)
        return f"{self.home}:{self.tag}" if self.tag is not None else f"{self.home}@{self.reference}"


class Stock:
    """What there is at one moment.

    @ivar units: all that can be kept or go.
    @ivar numbers: content that is here, numbered from 0.
    @ivar sizes: in bytes, by number.
    @ivar times: when each was last used, in whole seconds since the epoch, by number.
    """

    def __init__(self, layout: Layout, problems: Problems, seen: Callable[[], object] = lambda: None) -> None:
        """
        @param seen: called for each repository that has been looked at.
        """
        self._images = Images(layout, problems)
        self._pins = Pins(layout)
        self.units: list[Unit] = []
        self.numbers: dict[Key, int] = {}
        self.sizes = array("q")
        self.times = array("q")
        #: Of each manifest that was read: what it names, and whether as a manifest.
        self._names: dict[Key, tuple[tuple[Key, bool], ...]] = {}
        for held in walk(layout, problems):
            self.numbers[key_of(held.digest)] = len(self.sizes)
            self.sizes.append(held.size)
            self.times.append(int(held.used))
        known: set[Key] = set()
        for home in self._images.repositories.homes():
            known |= self._add(home)
            seen()
        for key, number in self.numbers.items():
            if key not in known:
                self.units.append(Unit(None, None, key, False, self.times[number]))

    def _add(self, home: Home) -> set[Key]:
        """The units of a repository.

        @return: all that they consist of.
        """
        repositories = self._images.repositories
        members: dict[Key, tuple[float, str | None]] = {
            key_of(member.digest): (used, member.media_type) for member, used in repositories.members(home)
        }
        pins = dict(self._pins.of(home.registry, home.repository))
        reached: set[Key] = set()
        tagged = set()
        for each in repositories.tags(home):
            top = key_of(each.entry.digest)
            tagged.add(each.tag)
            used = max(each.used, members.get(top, (0.0, None))[0])
            pinned = each.tag in pins or each.entry.digest in pins
            self._unit(reached, Unit(home, each.tag, top, True, used, each.used, pinned), each.entry.media_type)
        for reference, meant in pins.items():
            if meant is not None and reference not in tagged:
                tag = reference if isinstance(reference, Tag) else None
                used, media_type = members.get(key_of(meant), (0.0, None))
                self._unit(reached, Unit(home, tag, key_of(meant), True, used, None, True), media_type)
        left = {
            key: media_type
            for key, (_, media_type) in members.items()
            if media_type in KNOWN and key in self.numbers and key not in reached
        }
        named = {child for key, media_type in left.items() for child, _ in self._read(key, media_type) if child != key}
        # A circle names all of itself; then each of it is one.
        for key in [key for key in left if key not in named] or list(left):
            self._unit(reached, Unit(home, None, key, True, members[key][0]), left[key])
        for key in members.keys() - reached:
            self.units.append(Unit(home, None, key, False, members[key][0]))
        return reached | members.keys()

    def _unit(self, reached: set[Key], unit: Unit, media_type: str | None) -> None:
        self.units.append(unit)
        reached.update(self.closure(unit.top, media_type))

    def _read(self, key: Key, media_type: str | None) -> tuple[tuple[Key, bool], ...]:
        """What a manifest names, whether that is here or not; nothing if the manifest is not here itself."""
        found = self._names.get(key)
        if found is None:
            document = None
            if key in self.numbers:
                document = self._images.manifests.read(digest_of(key), media_type)
            parts = () if document is None else document.parts
            found = tuple((key_of(part.descriptor.digest), part.kind == "manifest") for part in parts)
            self._names[key] = found
        return found

    def closure(self, top: Key, media_type: str | None = None) -> set[Key]:
        """A manifest and all that it leads to, whether that is here or not."""
        reached, read = {top}, {top}
        waiting = [(top, media_type)]
        while waiting:
            for child, manifest in self._read(*waiting.pop()):
                reached.add(child)
                # What one manifest calls a layer may be another one's manifest.
                if manifest and child not in read:
                    read.add(child)
                    waiting.append((child, None))
        return reached

    def consists(self, unit: Unit) -> set[Key]:
        """All that a unit consists of."""
        return self.closure(unit.top) if unit.image else {unit.top}

    def led(self, key: Key) -> set[Key]:
        """Some content, and all that it leads to if it was read as a manifest."""
        return self.closure(key) if key in self._names else {key}

    def edges(self) -> Iterator[tuple[int, int]]:
        """Which content names which, by their numbers."""
        for parent, children in self._names.items():
            number = self.numbers.get(parent)
            if number is not None:
                for child, _ in children:
                    below = self.numbers.get(child)
                    if below is not None:
                        yield number, below

    def bytes_of(self, keys: Iterable[Key]) -> int:
        """What they take, as far as they are here."""
        return sum(self.sizes[self.numbers[key]] for key in keys if key in self.numbers)
