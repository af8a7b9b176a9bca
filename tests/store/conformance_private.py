"""What every store must do with what not everyone may read: part of the suite in L{tests.store.conformance}."""

from __future__ import annotations

from dataclasses import replace

from crcache.facts import Fetched, Holding, Membership, Privacy, TagEntry, Verdict
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Repository
from tests.store.stores import ALPINE, DATA, DIGEST, GHCR, LATEST, NGINX, StoreCase, content_of

ASKED = Privacy(1_700_000_000.0, ('Bearer realm="https://auth.test/token",service="x"', 'Basic realm="y"'))

OTHER = Repository("other")


class Given(StoreCase):
    """Who has fetched what, and whether everyone has been given it."""

    async def _holding(self, repository: Repository = ALPINE) -> Holding:
        return await self.store.holding(DOCKER_IO, repository, DIGEST)

    async def _fetched(self) -> Fetched:
        found = await self.store.member(DOCKER_IO, ALPINE, DIGEST)
        assert found is not None
        return found.fetched

    async def test_nothing_known(self) -> None:
        """Of what was never noted nothing is known."""
        self.assertEqual(await self._holding(), Holding(None, False, None))

    async def test_named(self) -> None:
        """What was but named has been given to nobody: not by any number of names, open ones or not."""
        for repository, opened in ((ALPINE, True), (NGINX, False)):
            named = Membership(DIGEST, "a/b", 5, opened, 1.0)
            await self.store.enrol(DOCKER_IO, repository, [named])
            self.assertEqual(await self._holding(repository), Holding(named, False, None))

    async def test_private(self) -> None:
        """Nor what was fetched with a client's own credentials; it is that repository's alone."""
        mine = Membership(DIGEST, open=False, since=1.0, fetched=Fetched.PRIVATELY)
        await self.store.enrol(DOCKER_IO, ALPINE, [mine])
        self.assertEqual(await self._holding(), Holding(mine, False, None))
        self.assertEqual(await self._holding(NGINX), Holding(None, False, None))
        named = Membership(DIGEST, since=1.0)
        await self.store.enrol(DOCKER_IO, NGINX, [named])
        self.assertEqual(await self._holding(NGINX), Holding(named, False, None))

    async def test_openly(self) -> None:
        """What was fetched openly everyone has been given, through whatever registry and repository it is asked."""
        given = Membership(DIGEST, since=1.0, fetched=Fetched.OPENLY)
        await self.store.enrol(DOCKER_IO, ALPINE, [given])
        self.assertEqual(await self._holding(), Holding(given, True, None))
        self.assertEqual(await self._holding(NGINX), Holding(None, True, None))
        self.assertEqual(await self.store.holding(GHCR, NGINX, DIGEST), Holding(None, True, None))
        other = Digest.of(b"other")
        self.assertEqual(await self.store.holding(DOCKER_IO, ALPINE, other), Holding(None, False, None))

    async def test_marker_vanishes(self) -> None:
        """Without its mark content counts as given only where it was fetched; when it is given again, everywhere."""
        given = Membership(DIGEST, since=1.0, fetched=Fetched.OPENLY)
        await self.store.enrol(DOCKER_IO, ALPINE, [given])
        for again in (ALPINE, NGINX):
            self.vanish("given")
            self.assertTrue((await self._holding()).given)
            self.assertFalse((await self._holding(Repository("other"))).given)
            await self.store.enrol(DOCKER_IO, again, [given])
            self.assertTrue((await self._holding(Repository("other"))).given)

    async def test_outlives_its_members(self) -> None:
        """That content was given stays true when the repository that gave it is forgotten."""
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST, fetched=Fetched.OPENLY)])
        self.vanish("members")
        self.assertEqual(await self._holding(), Holding(None, True, None))

    async def test_fetched_stays_fetched(self) -> None:
        """Nothing that is noted later takes back what was fetched; what was fetched more openly counts."""
        for fetched, expected in (
            (Fetched.NEVER, Fetched.NEVER),
            (Fetched.PRIVATELY, Fetched.PRIVATELY),
            (Fetched.NEVER, Fetched.PRIVATELY),
            (Fetched.OPENLY, Fetched.OPENLY),
            (Fetched.PRIVATELY, Fetched.OPENLY),
            (Fetched.NEVER, Fetched.OPENLY),
        ):
            new = Membership(DIGEST, open=fetched is not Fetched.PRIVATELY, fetched=fetched)
            await self.store.enrol(DOCKER_IO, ALPINE, [new])
            self.assertIs(await self._fetched(), expected)

    async def test_open_and_fetched_privately(self) -> None:
        """Open by name and fetched privately are two things: together they do not make content given."""
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST, open=False, fetched=Fetched.PRIVATELY)])
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)])
        found = await self._holding()
        assert found.member is not None
        self.assertEqual((found.member.open, found.member.fetched), (True, Fetched.PRIVATELY))
        self.assertFalse(found.given)

    async def test_nonsense(self) -> None:
        """Nobody fetches openly what is not open: that is not believed, also once it is open by name."""
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST, open=False, fetched=Fetched.OPENLY)])
        found = await self._holding()
        assert found.member is not None
        self.assertEqual((found.member.open, found.member.fetched, found.given), (False, Fetched.NEVER, False))
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)])
        self.assertIs(await self._fetched(), Fetched.NEVER)

    async def test_commit(self) -> None:
        """What a fill has fetched openly has been given from its commit on; what it fetched privately has not."""
        for repository, opened in ((ALPINE, False), (None, True)):
            fill = await self.ingest_of(repository)
            fill.settle(len(DATA))
            await fill.write(0, [DATA])
            fetched = Fetched.OPENLY if opened else Fetched.PRIVATELY
            known = Membership(DIGEST, None, len(DATA), opened, 1.0, fetched)
            self.assertFalse((await self._holding(NGINX)).given)
            await fill.commit(len(DATA), [(ALPINE, known)])
            self.assertEqual(await self._holding(), Holding(known, opened, None))
            self.assertEqual((await self._holding(NGINX)).given, opened)
            await self.store.drop(DIGEST)

    async def test_tags(self) -> None:
        """A tag remembers in whose way it was found; the last who found it says."""
        entry = TagEntry(DIGEST, "a/b", 7, 1.5, False)
        for each in (entry, replace(entry, open=True), entry):
            await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, each)
            self.assertEqual(await self.store.tag(DOCKER_IO, ALPINE, LATEST), each)


class Privacies(StoreCase):
    """Which repositories have refused crcache's own way."""

    async def _known(self, repository: Repository = ALPINE) -> None:
        await self.store.enrol(DOCKER_IO, repository, [Membership(DIGEST)])

    async def test_set(self) -> None:
        """A privacy is of one registry and repository, and can be taken back."""
        await self._known()
        await self._known(NGINX)
        await self.store.enrol(GHCR, ALPINE, [Membership(DIGEST)])
        await self.store.set_privacy(DOCKER_IO, ALPINE, ASKED)
        self.assertEqual(await self.store.privacy(DOCKER_IO, ALPINE), ASKED)
        self.assertEqual((await self.store.holding(DOCKER_IO, ALPINE, DIGEST)).privacy, ASKED)
        for registry, repository in ((GHCR, ALPINE), (DOCKER_IO, NGINX)):
            self.assertIsNone(await self.store.privacy(registry, repository))
            self.assertIsNone((await self.store.holding(registry, repository, DIGEST)).privacy)
        for _ in range(2):
            await self.store.set_privacy(DOCKER_IO, ALPINE, None)
            self.assertIsNone(await self.store.privacy(DOCKER_IO, ALPINE))
        self.assertIsNotNone(await self.store.member(DOCKER_IO, ALPINE, DIGEST))

    async def test_again(self) -> None:
        """The last refusal counts, and the challenges that came with it."""
        await self._known()
        for privacy in (ASKED, replace(ASKED, checked=ASKED.checked + 60), Privacy(ASKED.checked + 61, ("Basic",))):
            await self.store.set_privacy(DOCKER_IO, ALPINE, privacy)
            self.assertEqual(await self.store.privacy(DOCKER_IO, ALPINE), privacy)

    async def test_known_by_tag(self) -> None:
        """A repository of which but a tag is known is known."""
        await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, TagEntry(DIGEST, "a/b", 7, 1.5))
        await self.store.set_privacy(DOCKER_IO, ALPINE, ASKED)
        self.assertEqual(await self.store.privacy(DOCKER_IO, ALPINE), ASKED)

    async def test_unknown(self) -> None:
        """Nothing is noted of what clients have but named: beside, above or below what is known."""
        await self._known()
        for name in ("library/other", "library", "library/alpine/below", "other"):
            await self.store.set_privacy(DOCKER_IO, Repository(name), ASKED)
            self.assertIsNone(await self.store.privacy(DOCKER_IO, Repository(name)))
            await self.store.set_privacy(DOCKER_IO, Repository(name), None)

    async def test_bounded(self) -> None:
        """Of challenges the first few are kept, a few kilobytes in all, and nothing that could end a line."""
        await self._known()
        longest, most = "x" * 4096, tuple(f"Basic {n}" for n in range(8))
        for challenges, expected in (
            ((*most, "Basic 8"), most),
            ((longest,), (longest,)),
            ((longest, "y"), (longest,)),
            ((longest + "x", "y"), ("y",)),
            (("x" * 4090, "Basic", "Basicc"), ("x" * 4090, "Basic")),
            (("Basic\r\nSet-Cookie: a=b", "Basic\x00", "B\u00e4sic", "Basic\x7f", "", "Basic"), ("Basic",)),
        ):
            await self.store.set_privacy(DOCKER_IO, ALPINE, None)
            await self.store.set_privacy(DOCKER_IO, ALPINE, Privacy(5.0, challenges))
            self.assertEqual(await self.store.privacy(DOCKER_IO, ALPINE), Privacy(5.0, expected))

    async def test_vanishes(self) -> None:
        """A privacy that somebody removes is not known, and can be noted again."""
        await self._known()
        for _ in range(2):
            await self.store.set_privacy(DOCKER_IO, ALPINE, ASKED)
            self.assertIsNotNone(await self.store.privacy(DOCKER_IO, ALPINE))
            self.vanish("privacies")
            self.assertIsNone(await self.store.privacy(DOCKER_IO, ALPINE))
            await self.store.set_privacy(DOCKER_IO, ALPINE, None)


class Turned(StoreCase):
    """What becomes of what a repository has given openly, when it turns private, and open again."""

    async def _give(self, *repositories: Repository, digest: Digest = DIGEST) -> None:
        for repository in repositories:
            known = Membership(digest, since=1.0, fetched=Fetched.OPENLY)
            await self.store.enrol(DOCKER_IO, repository, [known])

    async def _turn(self, repository: Repository = ALPINE, privacy: Privacy | None = ASKED) -> None:
        await self.store.set_privacy(DOCKER_IO, repository, privacy)

    async def _given(self, repository: Repository = OTHER, digest: Digest = DIGEST) -> bool:
        return (await self.store.holding(DOCKER_IO, repository, digest)).given

    async def test_taken_back(self) -> None:
        """A repository that turns private gives nothing any more, to nobody; what was noted of it stays noted."""
        second = Digest.of(b"second")
        await self._give(ALPINE)
        await self._give(ALPINE, digest=second)
        await self._turn()
        for digest in (DIGEST, second):
            for repository in (OTHER, ALPINE):
                self.assertFalse(await self._given(repository, digest))
            self.assertFalse((await self.store.holding(GHCR, ALPINE, digest)).given)
        found = await self.store.member(DOCKER_IO, ALPINE, DIGEST)
        self.assertEqual(found, Membership(DIGEST, since=1.0, fetched=Fetched.OPENLY))

    async def test_others_give(self) -> None:
        """As long as one of those that gave it is open, it is given; once all are private, it is not."""
        await self._give(ALPINE, NGINX)
        await self.store.enrol(GHCR, ALPINE, [Membership(DIGEST, fetched=Fetched.OPENLY)])
        for turned in (ALPINE, NGINX):
            await self._turn(turned)
            self.assertTrue(await self._given())
        await self.store.set_privacy(GHCR, ALPINE, ASKED)
        self.assertFalse(await self._given())

    async def test_given_anew(self) -> None:
        """Who shows it after that gives it again."""
        await self._give(ALPINE)
        await self._turn()
        await self._give(NGINX)
        self.assertTrue(await self._given())

    async def test_not_while_private(self) -> None:
        """What is fetched openly through a repository that is private by then, as by a fill that began before, is
        noted as such, and given once the repository is open."""
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)])
        await self._turn()
        await self._give(ALPINE)
        self.assertFalse(await self._given())
        found = await self.store.member(DOCKER_IO, ALPINE, DIGEST)
        assert found is not None
        self.assertIs(found.fetched, Fetched.OPENLY)
        await self._turn(privacy=None)
        self.assertTrue(await self._given())

    async def test_committed_while_private(self) -> None:
        """So it is with a fill for everyone that is committed after its repository has turned private."""
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)])
        fill = await self.ingest_of(None)
        fill.settle(len(DATA))
        await fill.write(0, [DATA])
        await self._turn()
        await fill.commit(len(DATA), [(ALPINE, Membership(DIGEST, fetched=Fetched.OPENLY))])
        self.assertFalse(await self._given())

    async def test_open_again(self) -> None:
        """A repository that is open again gives what was fetched openly through it, and nothing else."""
        private, named = Digest.of(b"private"), Digest.of(b"named")
        await self._give(ALPINE)
        mine = Membership(private, open=False, fetched=Fetched.PRIVATELY)
        await self.store.enrol(DOCKER_IO, ALPINE, [mine, Membership(named)])
        for _ in range(2):
            await self._turn()
            await self._turn(privacy=None)
            self.assertTrue(await self._given())
            for digest in (private, named):
                self.assertFalse(await self._given(digest=digest))

    async def test_not_open_for_others(self) -> None:
        """That one is open again gives nothing that others have taken back."""
        second = Digest.of(b"second")
        await self._give(ALPINE)
        await self._give(NGINX, digest=second)
        await self._turn(ALPINE)
        await self._turn(NGINX)
        await self._turn(ALPINE, None)
        self.assertTrue(await self._given())
        self.assertFalse(await self._given(digest=second))

    async def test_forgotten(self) -> None:
        """A repository whose note has vanished gives nothing before it has given it again, and takes it back again."""
        await self._give(ALPINE)
        await self._turn()
        self.vanish("privacies")
        self.assertFalse(await self._given())
        await self._give(ALPINE)
        self.assertTrue(await self._given())
        await self._turn()
        self.assertFalse(await self._given())

    async def test_eight(self) -> None:
        """The first eight givers count; when they are private, those after them have to give it again."""
        names = [Repository(f"library/r{number}") for number in range(9)]
        await self._give(*names, *names)
        for name in names[:8]:
            self.assertTrue(await self._given())
            await self._turn(name)
        self.assertFalse(await self._given())
        self.assertTrue(await self._given(names[8]))
        await self._give(names[8])
        self.assertTrue(await self._given())


class Apart(StoreCase):
    """Whom fills are shared with."""

    async def test_apart(self) -> None:
        """Fills of one digest for everyone, for one repository's clients, and for another's have nothing to do with
        each other; those for the same ones are one."""
        fills = [await self.ingest_of(repository) for repository in (None, ALPINE, NGINX)]
        fills.append(await self.ingest_of(ALPINE, GHCR))
        self.assertEqual([fill.owner for fill in fills], [True] * 4)
        await fills[1].write(0, [DATA[:1000]])
        self.assertEqual([fill.readable(0) for fill in fills], [0, 1000, 0, 0])
        for repository, seen in ((None, 0), (ALPINE, 1000), (NGINX, 0)):
            follower = await self.ingest_of(repository)
            self.assertEqual((follower.owner, follower.readable(0)), (False, seen))

    async def test_endings(self) -> None:
        """However one of them ends, the others go on, to be committed as if it had not been."""
        first, second, third = [await self.ingest_of(repository) for repository in (None, ALPINE, NGINX)]
        for fill in (first, second, third):
            fill.settle(len(DATA))
            await fill.write(0, [DATA])
        await first.discard()
        self.assertEqual([fill.state for fill in (second, third)], [Verdict.FILLING] * 2)
        mine = Membership(DIGEST, None, len(DATA), False, 1.0, Fetched.PRIVATELY)
        await second.commit(len(DATA), [(ALPINE, mine)])
        self.assertIs(third.state, Verdict.FILLING)
        await third.commit(len(DATA), [(NGINX, mine)])
        self.assertEqual(content_of(await self.body()), DATA)
        for repository in (ALPINE, NGINX):
            self.assertEqual(await self.store.member(DOCKER_IO, repository, DIGEST), mine)
