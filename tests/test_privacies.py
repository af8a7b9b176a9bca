"""Which repositories refuse crcache's own way, in memory and on disk."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import StoreError
from crcache.facts import Membership, Privacy, Query
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository
from crcache.privacies import Privacies
from crcache.store.memory import Memory

REGISTRY, REPOSITORY = Registry("registry.test"), Repository("team/app")
QUERY = Query(REGISTRY, REPOSITORY, "manifest", Digest.of(b"a manifest"), "id-1")


class PrivaciesTests(SynchronousTestCase):
    """One repository, of which something is kept."""

    def setUp(self) -> None:
        self.now = 1000.0
        self.store = Memory(lambda: self.now)
        self.store.enrol(REGISTRY, REPOSITORY, [Membership(Digest.of(b"a manifest"))])
        self.privacies = Privacies(self.store, lambda: self.now, lambda _: 10.0)

    def find(self) -> Privacy | None:
        """What is known of it."""
        return self.successResultOf(Deferred.fromCoroutine(self.privacies.find(REGISTRY, REPOSITORY)))

    def lately(self) -> Privacy | None:
        """What can be told without asking."""
        return self.privacies.lately(REGISTRY, REPOSITORY)

    def test_newest(self) -> None:
        """Of what this process has heard and what another one has noted, the later counts, once it has been read."""
        self.privacies.refused(QUERY, ("Basic realm=a",))
        later = Privacy(1005.0, ("Basic realm=b",))
        self.store.set_privacy(REGISTRY, REPOSITORY, later)
        self.now = 1012.0
        self.assertIsNone(self.lately())
        self.assertEqual((self.find(), self.lately()), (later, later))
        self.privacies.refused(QUERY, ("Basic realm=c",))
        self.store.set_privacy(REGISTRY, REPOSITORY, later)
        self.assertEqual(self.find(), Privacy(1012.0, ("Basic realm=c",)))

    def test_opened_elsewhere(self) -> None:
        """What another process has noted, and then found open, is open here, too; its refusal is told for a while."""
        self.store.set_privacy(REGISTRY, REPOSITORY, Privacy(self.now, ("Basic realm=b",)))
        self.assertIsNotNone(self.find())
        self.store.set_privacy(REGISTRY, REPOSITORY, None)
        self.assertIsNone(self.find())
        self.assertIsNotNone(self.lately())
        self.now += 10
        self.assertIsNone(self.lately())

    def test_other_credentials(self) -> None:
        """When credentials have changed, what was refused before is asked for again, and is private until then."""
        self.privacies.refused(QUERY, ("Basic realm=a",))
        self.assertIsNotNone(self.lately())
        self.now += 1
        self.privacies.try_again()
        self.assertIsNone(self.lately())
        self.assertIsNotNone(self.find())
        self.privacies.refused(QUERY, ("Basic realm=a",))
        self.assertIsNotNone(self.lately())

    def test_opened(self) -> None:
        """A repository that has been opened again is open, here and on disk."""
        self.privacies.refused(QUERY, ("Basic realm=a",))
        self.privacies.opened(QUERY)
        self.assertEqual((self.find(), self.store.privacies), (None, {}))

    def test_clock_set_back(self) -> None:
        """What was refused later than now is asked for again, and is private until then."""
        self.privacies.refused(QUERY, ("Basic realm=a",))
        self.now -= 3600
        self.assertIsNone(self.lately())
        self.assertIsNotNone(self.find())

    def test_in_order(self) -> None:
        """However long the disk takes for one note, what was heard last is noted last; what was heard in between is
        not noted at all, so that a registry that says something else each time has nobody work for it."""
        noted: list[Privacy | None] = []
        waiting: list[Deferred[None]] = []

        def slowly(_: Registry, __: Repository, privacy: Privacy | None) -> Deferred[None]:
            noted.append(privacy)
            waiting.append(Deferred())
            return waiting[-1]

        self.patch(self.store, "set_privacy", slowly)
        self.privacies.opened(QUERY)
        for number in range(100):
            self.privacies.opened(QUERY)
            self.privacies.refused(QUERY, (f"Basic realm={number}",))
        self.assertEqual(noted, [None])
        waiting.pop().errback(StoreError("the disk takes too long"))
        self.assertEqual(noted, [None, Privacy(1000.0, ("Basic realm=99",))])
        waiting.pop().callback(None)
        self.assertEqual(len(noted), 2)
        self.privacies.opened(QUERY)
        self.assertIsNone(noted[2])

    def test_known_until_noted(self) -> None:
        """What is not on disk yet is known, whatever others have refused meanwhile."""
        waiting: Deferred[None] = Deferred()
        self.patch(self.store, "set_privacy", lambda *_: waiting)
        self.privacies.refused(QUERY, ("Basic realm=a",))
        for number in range(2000):
            self.privacies.refused(replace(QUERY, repository=Repository(f"of/others-{number}")), ())
        self.assertIsNotNone(self.find())
        waiting.callback(None)
        self.assertIsNone(self.find())
