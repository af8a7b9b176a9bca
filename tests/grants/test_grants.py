"""L{crcache.grants.grants}: what one process knows."""

from __future__ import annotations

import gc

from zope.interface.verify import verifyObject

from crcache.grammar.reference import DOCKER_IO, Registry, Repository
from crcache.granting import IGrants
from crcache.grants import grants as module
from crcache.grants.grants import Grants
from crcache.grants.moments import TTL
from crcache.secret import Secret
from tests.grants.case import ALPINE, TOKEN, GrantsCase, Later

GHCR = Registry("ghcr.io")


class Behaviour(GrantsCase):
    """What holds wherever they are kept."""

    shared = False

    def setUp(self) -> None:
        """Make some."""
        super().setUp()
        self.grants = self.make(shared=self.shared)

    def test_interface(self) -> None:
        """They are what the seam says."""
        verifyObject(IGrants, self.grants)

    def test_nothing(self) -> None:
        """Nobody is let in who was not; dropping what is not there is no error."""
        self.assertFalse(self.known(self.grants))
        self.drop(self.grants)
        self.assertFalse(self.known(self.grants))

    def test_add(self) -> None:
        """A grant is for one authorization, registry and repository, and nothing near them."""
        self.add(self.grants)
        for _ in range(2):
            self.assertTrue(self.known(self.grants))
        self.assertTrue(self.known(self.grants, Secret(TOKEN.reveal())))
        for text in ("", "Bearer", TOKEN.reveal() + " ", TOKEN.reveal().lower(), TOKEN.reveal()[:-1]):
            self.assertFalse(self.known(self.grants, Secret(text)), text)
        self.assertFalse(self.known(self.grants, registry=GHCR))
        for name in ("library", "library/alpine/x", "library/alpin", "alpine"):
            self.assertFalse(self.known(self.grants, repository=Repository(name)), name)

    def test_framing(self) -> None:
        """What is cut elsewhere is another grant."""
        self.grants.add(Secret("ab"), Registry("c.test"), Repository("d"))
        for text, registry in (("a", "bc.test"), ("abc", ".test"), ("abc.test", "d")):
            framed = self.grants._framed(Secret(text), registry, Repository("d"))  # type: ignore[arg-type]
            self.assertFalse(self.successResultOf(self.grants._known(framed)))
        self.assertTrue(self.known(self.grants, Secret("ab"), Registry("c.test"), Repository("d")))

    def test_odd_authorization(self) -> None:
        """Whatever a client sends can be asked for, and noted."""
        for text in ("", "\x00", "B\u00e4r", "\udcff", "x" * 20_000, "\n"):
            self.assertFalse(self.known(self.grants, Secret(text)))
            self.add(self.grants, Secret(text))
            self.assertTrue(self.known(self.grants, Secret(text)))

    def test_expires(self) -> None:
        """A grant lasts five minutes from when it was given last."""
        self.add(self.grants)
        self.later(TTL - 1)
        self.assertTrue(self.known(self.grants))
        self.add(self.grants)
        self.later(TTL - 1)
        self.assertTrue(self.known(self.grants))
        self.later(1)
        self.assertFalse(self.known(self.grants))
        self.add(self.grants)
        self.assertTrue(self.known(self.grants))

    def test_clock_set_back(self) -> None:
        """Setting the time of day back prolongs no grant, by however much; what is granted then lasts its time."""
        for back in (-10.0, -200.0, -100_000.0):
            self.add(self.grants)
            self.later(100)
            self.later(back, 0)
            self.later(TTL - 100)
            self.assertFalse(self.known(self.grants), back)
            self.add(self.grants)
            self.assertTrue(self.known(self.grants))
            self.drop(self.grants)

    def test_clock_set_forward(self) -> None:
        """Setting it forward ends grants, and no more than that."""
        self.add(self.grants)
        self.later(100_000.0, 0)
        self.assertFalse(self.known(self.grants))
        self.add(self.grants)
        self.assertTrue(self.known(self.grants))

    def test_drop(self) -> None:
        """Whoever has been refused is not let in any more; others are."""
        other = Secret("Basic eDp5")
        self.add(self.grants)
        self.add(self.grants, other)
        for _ in range(2):
            self.drop(self.grants)
            self.assertFalse(self.known(self.grants))
        self.assertTrue(self.known(self.grants, other))
        self.add(self.grants)
        self.assertTrue(self.known(self.grants))

    def test_nothing_legible(self) -> None:
        """No authorization is kept, nor shown."""
        self.add(self.grants)
        self.known(self.grants)
        self.assertNotIn("5ecret", repr(self.grants))
        self.assertNotIn("alpine", repr(self.grants))
        gc.collect()
        seen: set[int] = set()
        left: list[object] = [self.grants.__dict__]
        while left:
            each = left.pop()
            if id(each) in seen or isinstance(each, type):
                continue
            seen.add(id(each))
            if isinstance(each, str | bytes):
                self.assertNotIn(b"5ecret", each if isinstance(each, bytes) else each.encode())
            elif isinstance(each, dict):
                left += [*each.keys(), *each.values()]
            elif isinstance(each, list | tuple | set):
                left += each
            else:
                self.assertNotIsInstance(each, Secret)
                left += [vars(each)] if type(each).__module__.startswith("crcache") else []
        self.assertGreater(len(seen), 5)

    def test_stop(self) -> None:
        """Stopping is for good order only: twice, or without a start."""
        self.grants.stop()
        self.grants.start()
        self.grants.stop()
        self.grants.stop()
        self.assertEqual(self.timer.getDelayedCalls(), [])


class SharedBehaviour(Behaviour):
    """The same with a directory."""

    shared = True


class MemoryTests(GrantsCase):
    """What is kept in memory."""

    def setUp(self) -> None:
        """Make some that nobody shares."""
        super().setUp()
        self.grants = self.make(shared=False)

    def _kept(self, grants: Grants) -> int:
        return len(grants._grants)

    def test_bounded(self) -> None:
        """There are only so many; those that expire first go first, and one that is renewed does not."""
        self.patch(module, "MOST", 3)
        for number in range(3):
            self.add(self.grants, Secret(str(number)))
            self.later(1)
        self.add(self.grants, Secret("0"))
        self.add(self.grants, Secret("3"))
        self.assertEqual([self.known(self.grants, Secret(str(number))) for number in range(4)], [1, 0, 1, 1])
        self.assertEqual(self._kept(self.grants), 3)

    def test_bound(self) -> None:
        """So many are a few megabytes."""
        self.assertEqual(module.MOST, 16_384)

    def test_expired_go(self) -> None:
        """What has expired is forgotten."""
        for number in range(10):
            self.add(self.grants, Secret(str(number)))
        self.later(TTL)
        self.add(self.grants)
        self.assertEqual(self._kept(self.grants), 1)

    def test_keys(self) -> None:
        """Hashes are of this process alone: nobody can look up what another one's memory holds."""
        other = self.make(shared=False)
        for grants in (self.grants, other):
            self.add(grants)
        self.assertNotEqual(list(self.grants._grants), list(other._grants))

    def test_no_directory(self) -> None:
        """Without a directory nobody else knows, and no thread is asked."""
        workers = Later()
        grants = self.make(workers, shared=False)
        grants.start()
        self.add(grants)
        self.assertTrue(self.known(grants))
        self.assertFalse(self.known(self.make(shared=False)))
        self.drop(grants)
        self.assertFalse(self.known(grants))
        self.assertEqual((workers.waiting, self.timer.getDelayedCalls()), ([], []))


class AtOnceTests(GrantsCase):
    """What is known before the disk has said anything."""

    def setUp(self) -> None:
        """Make some, with a disk that takes its time."""
        super().setUp()
        self.workers = Later()
        self.grants = self.make(self.workers)

    def test_add(self) -> None:
        """What was granted here is known at once, and to others as soon as it is written."""
        other = self.make()
        self.add(self.grants)
        self.assertTrue(self.known(self.grants))
        self.assertFalse(self.known(other))
        self.workers.go()
        self.assertTrue(self.known(other))

    def test_drop_while_asked(self) -> None:
        """Whoever is refused while the disk is asked about him is not let in."""
        self.add(self.grants)
        self.workers.go()
        asked = self.grants.known(TOKEN, DOCKER_IO, ALPINE)
        self.workers.waiting[0][1]()
        self.drop(self.grants)
        self.workers.go()
        self.assertFalse(self.successResultOf(asked))

    def test_other_dropped_while_asked(self) -> None:
        """When somebody else is refused meanwhile, it makes no difference: the disk is not asked again."""
        self.add(self.grants)
        self.workers.go()
        asked = self.grants.known(TOKEN, DOCKER_IO, ALPINE)
        self.drop(self.grants, Secret("other"))
        self.workers.go(1)
        self.assertTrue(self.successResultOf(asked))

    def test_add_while_asked(self) -> None:
        """Whoever is let in while the disk is asked about him is."""
        asked = self.grants.known(TOKEN, DOCKER_IO, ALPINE)
        self.add(self.grants)
        self.workers.go()
        self.assertTrue(self.successResultOf(asked))

    def test_add_then_drop(self) -> None:
        """The last word counts, however fast it follows."""
        self.add(self.grants)
        self.drop(self.grants)
        self.assertEqual(len(self.workers.waiting), 2)
        self.workers.go()
        self.assertEqual(self.files(), [])
        self.drop(self.grants)
        self.add(self.grants)
        self.workers.go()
        self.assertTrue(self.known(self.make()))
