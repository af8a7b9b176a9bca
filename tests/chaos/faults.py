"""How the registry of a chaos run misbehaves: on a fifth of its answers, by the seed."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from crcache.testing.content import Content
from crcache.testing.records import Record
from crcache.testing.script import NO_FAULT, Fault, Rule, Script

#: Not a fault: so that a body takes long enough for something to happen to it.
SLOW = Fault(rate=1_500_000.0)
_LARGE = 100_000
_PAGE = b"<html><body>Please log in.</body></html>"
_HTML: tuple[tuple[str, str | None], ...] = (("Content-Type", "text/html"),)


@dataclass
class Told:
    """What the registry has done, at all of its URLs.

    @ivar faults: how often, by kind.
    @ivar lies: when it last lied about a reference, in seconds of the monotonic clock.
    """

    answers: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    lies: dict[str, float] = field(default_factory=dict)


class Faults(Script):
    """The faults of one of the registry's URLs.

    What becomes of the n-th question for a thing depends on the seed, the URL, the thing and n alone, in whichever
    order things are asked for. A way to the right bytes is always left: no URL fails twice in a row for the same thing,
    and only one of them ever lies about it.
    """

    def __init__(
        self, seed: int, number: int, count: int, share: float, content: Content, told: Told, elsewhere: str | None
    ) -> None:
        """
        @param number: of this URL, of C{count}.
        @param share: of the answers that are bad, from 0 to a half.
        @param elsewhere: where blobs are redirected to; C{None}: they are not.
        """
        super().__init__()
        self._seed = seed
        self._number = number
        self._count = count
        # After a bad answer comes a good one, so the others have to be bad more often.
        self._share = share / (1 - share)
        self._content = content
        self._told = told
        self._elsewhere = elsewhere
        self._asked: Counter[tuple[str, str]] = Counter()
        self._bad: set[tuple[str, str]] = set()
        #: The request that is being answered.
        self.record: Callable[[], Record] | None = None

    def match(self, kind: str, path: str, method: str) -> Rule:
        """As L{Script}: what to do to this answer."""
        self._told.answers += 1
        # Tokens are asked for at one path, whatever they are for.
        thing = path if self.record is None or kind != "token" else f"{path}?{self.record().query}"
        self._asked[method, thing] += 1
        chance = random.Random(f"{self._seed}/{self._number}/{method}/{thing}/{self._asked[method, thing]}")
        if (method, thing) in self._bad or chance.random() >= self._share:
            self._bad.discard((method, thing))
            slow = self._size(path) > _LARGE and chance.random() < 0.3
            return Rule(SLOW if slow else NO_FAULT)
        self._bad.add((method, thing))
        name, fault = self._fault(chance, kind, path, method)
        self._told.faults[name] += 1
        if name == "lie":
            self._told.lies[path.rpartition("/")[2]] = time.monotonic()
        return Rule(fault)

    def _fault(self, chance: random.Random, kind: str, path: str, method: str) -> tuple[str, Fault]:
        size = self._size(path)
        names = ["error", "error", "silence", "hang up"]
        if self._number == 0:
            # If all of them limited the rate at once, nothing could save a pull.
            names.append("limit")
        if method == "GET":
            names += ["cut", "cut", "reset", "stall", "stall"]
            if self._lies(path):
                names += ["lie"] * 6
            if self.record is not None and self.record().header("Range") is not None:
                names += ["ignored range"] * 4
        if kind == "blob" and self._elsewhere is not None:
            names += ["redirect"] * 2
        name = chance.choice(names)
        offset = chance.randint(0, max(size - 1, 0))
        faults = {
            "error": Fault(status=chance.choice((500, 502, 503, 504))),
            "limit": Fault(status=429, headers=(("Retry-After", "1"),)),
            "silence": Fault(hold=True),
            "hang up": Fault(hang_up=True),
            "cut": Fault(cut=offset),
            "reset": Fault(cut=offset, reset=True),
            "stall": Fault(stall=offset),
            "lie": chance.choice((Fault(wrong=True), Fault(extra=b"!"), Fault(status=200, body=_PAGE, headers=_HTML))),
            "ignored range": Fault(ignore_range=True),
            "redirect": Fault(redirect=f"{self._elsewhere}/cdn/{{digest}}"),
        }
        return name, faults[name]

    def _lies(self, path: str) -> bool:
        reference = path.rpartition("/")[2]
        return random.Random(f"{self._seed}/{reference}").randrange(self._count) == self._number

    def _size(self, path: str) -> int:
        reference = path.rpartition("/")[2]
        name = path.removeprefix("/v2/").partition("/manifests/")[0]
        if "/manifests/" in path:
            found = self._content.manifest(name, reference)
            return 0 if found is None else len(found[2])
        return len(self._content.blobs.get(reference, b""))
