"""What the registry of a chaos run does depends on the seed alone, and leaves a way to the right bytes."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from crcache.testing.content import Content
from crcache.testing.script import NO_FAULT, Fault
from tests.chaos.faults import SLOW, Faults, Told
from tests.chaos.images import make

COUNT = 3


class FaultsTests(SynchronousTestCase):
    """Three URLs of one registry."""

    def setUp(self) -> None:
        self.content, self.images = make(7, 20)
        named = [
            (kind, f"/v2/{wanted.image.name}/{kind}s/{reference}")
            for wanted in self.images
            for kind, reference in (
                ("manifest", wanted.tag),
                ("manifest", wanted.image.digest),
                *(("blob", layer) for layer in wanted.image.layers),
            )
        ]
        self.paths = list(dict.fromkeys(named))

    def faults(self, number: int, *, seed: int = 7, share: float = 0.2, content: Content | None = None) -> Faults:
        """One URL's, with nothing remembered."""
        return Faults(seed, number, COUNT, share, content or self.content, Told(), "http://elsewhere.test")

    def answers(self, faults: Faults, times: int = 5) -> dict[str, list[Fault]]:
        """What becomes of some questions for everything there is."""
        return {path: [faults.match(kind, path, "GET").fault for _ in range(times)] for kind, path in self.paths}

    def test_images(self) -> None:
        """The images are the same for the same seed, in every process, and others for another."""
        self.assertEqual(make(7, 20)[1], self.images)
        self.assertNotEqual(make(8, 20)[1], self.images)

    def test_seed(self) -> None:
        """The same seed and URL do the same, in whichever order things are asked for; others do not."""
        first = self.answers(self.faults(0))
        self.paths.reverse()
        self.assertEqual(self.answers(self.faults(0)), first)
        self.assertNotEqual(self.answers(self.faults(1)), first)
        self.assertNotEqual(self.answers(self.faults(0, seed=8)), first)

    def test_share(self) -> None:
        """So many of the answers are bad as was asked for, all are counted, and by kind."""
        for share, least, most in ((0.0, 0.0, 0.0), (0.2, 0.17, 0.23), (0.5, 0.5, 0.5)):
            told = Told()
            faults = Faults(7, 0, COUNT, share, self.content, told, "http://elsewhere.test")
            found = [fault for answers in self.answers(faults, 20).values() for fault in answers]
            bad = [fault for fault in found if fault not in (NO_FAULT, SLOW)]
            self.assertTrue(least <= len(bad) / len(found) <= most, (share, len(bad), len(found)))
            self.assertEqual((told.answers, sum(told.faults.values())), (len(found), len(bad)))

    def test_not_twice_in_a_row(self) -> None:
        """No URL fails twice in a row for the same thing."""
        for number in range(COUNT):
            for answers in self.answers(self.faults(number, share=0.4), 50).values():
                bad = [fault not in (NO_FAULT, SLOW) for fault in answers]
                self.assertFalse(any(first and second for first, second in itertools.pairwise(bad)))

    def test_one_lies(self) -> None:
        """About each thing one URL lies, about some things each of them does, and the lie is noted."""
        liars: dict[str, set[int]] = {}
        for number in range(COUNT):
            told = Told()
            self.answers(Faults(7, number, COUNT, 0.5, self.content, told, "http://elsewhere.test"), 20)
            self.assertGreater(told.faults["lie"], 0)
            for reference in told.lies:
                liars.setdefault(reference, set()).add(number)
        self.assertEqual({len(numbers) for numbers in liars.values()}, {1})

    def test_one_limits(self) -> None:
        """One URL alone limits the rate."""
        limits = [
            number
            for number in range(COUNT)
            if any(
                fault.status == 429 for each in self.answers(self.faults(number, share=0.5)).values() for fault in each
            )
        ]
        self.assertEqual(limits, [0])

    def test_heads(self) -> None:
        """What has no body is not cut."""
        faults = self.faults(0, share=0.5)
        for kind, path in self.paths:
            fault = faults.match(kind, path, "HEAD").fault
            self.assertIsNone(fault.cut)
            self.assertFalse(fault.wrong or fault.extra or fault.body)
