"""Tests for L{crcache.policy.access}: who may read what."""

from __future__ import annotations

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from crcache.facts import Fetched, Holding, Membership, Privacy, TagEntry
from crcache.grammar.digest import Digest
from crcache.policy.access import Right, content, lets_in, opens, readers, refuses, remembered, tag
from crcache.settings import ACCESS_OPEN, ACCESS_VERIFY

DIGEST = Digest.of(b"content")
PRIVATE = Privacy(1000.0, ('Bearer realm="https://auth.test"',))
EVERYONE, GRANTED, UNPROVEN = Right.EVERYONE, Right.GRANTED, Right.UNPROVEN


class ContentTests(SynchronousTestCase):
    """L{content}."""

    def right(
        self,
        *,
        openly: bool,
        fetched: Fetched,
        given: bool = False,
        privacy: Privacy | None = None,
        access: str = ACCESS_VERIFY,
    ) -> Right:
        """What becomes of a membership."""
        return content(Holding(Membership(DIGEST, None, 7, openly, None, fetched), given, privacy), access)

    def test_unknown(self) -> None:
        """A repository that is not known to hold it opens nothing, whatever else is known or configured."""
        for given, privacy, access in product((False, True), (None, PRIVATE), (ACCESS_VERIFY, ACCESS_OPEN)):
            self.assertIs(content(Holding(None, given, privacy), access), UNPROVEN)

    def test_fetched_openly(self) -> None:
        """What crcache's own way fetched through the repository is for everyone."""
        self.assertIs(self.right(openly=True, fetched=Fetched.OPENLY), EVERYONE)

    def test_fetched_privately(self) -> None:
        """What a client's credentials fetched through it is for those whom the origin lets in."""
        self.assertIs(self.right(openly=False, fetched=Fetched.PRIVATELY), GRANTED)

    def test_named(self) -> None:
        """What was merely named opens content that is for everyone; never other content, however openly named."""
        for access, privacy in product((ACCESS_VERIFY, ACCESS_OPEN), (None, PRIVATE)):
            for openly in (False, True):
                found = self.right(openly=openly, fetched=Fetched.NEVER, access=access, privacy=privacy)
                self.assertIs(found, UNPROVEN)
        self.assertIs(self.right(openly=True, fetched=Fetched.NEVER, given=True), EVERYONE)
        self.assertIs(self.right(openly=False, fetched=Fetched.NEVER, given=True), GRANTED)

    def test_named_openly_fetched_privately(self) -> None:
        """A name that is for everyone does not make the bytes so, unless they are so elsewhere."""
        self.assertIs(self.right(openly=True, fetched=Fetched.PRIVATELY), GRANTED)
        self.assertIs(self.right(openly=True, fetched=Fetched.PRIVATELY, given=True), EVERYONE)

    def test_turned_private(self) -> None:
        """In a repository that refuses crcache's own way nothing is for everyone any more."""
        for given, fetched in product((False, True), (Fetched.PRIVATELY, Fetched.OPENLY)):
            self.assertIs(self.right(openly=True, fetched=fetched, given=given, privacy=PRIVATE), GRANTED)

    def test_configured_open(self) -> None:
        """With C{access: open} all that the repository is known to hold is for everyone."""
        for fetched, privacy in product((Fetched.PRIVATELY, Fetched.OPENLY), (None, PRIVATE)):
            found = self.right(openly=fetched is Fetched.OPENLY, fetched=fetched, privacy=privacy, access=ACCESS_OPEN)
            self.assertIs(found, EVERYONE)


class TagTests(SynchronousTestCase):
    """L{tag} and L{readers}."""

    def test_all(self) -> None:
        """An open tag of an open repository is for everyone; so is any with C{access: open}; others are not."""
        for openly, privacy, access in product((False, True), (None, PRIVATE), (ACCESS_VERIFY, ACCESS_OPEN)):
            entry = TagEntry(DIGEST, "application/json", 7, 1000.0, openly)
            expected = EVERYONE if access == ACCESS_OPEN or (openly and privacy is None) else GRANTED
            self.assertIs(tag(entry, privacy, access), expected)
            self.assertIs(readers(privacy, openly, access), expected)


class AnswerTests(SynchronousTestCase):
    """What an origin's answers say."""

    def test_lets_in(self) -> None:
        """A 2xx, and being sent elsewhere, let in; 401 and 403 do not; all else, 404 too, says neither."""
        for status in (200, 206, 204, 301, 302, 303, 307, 308):
            self.assertIs(lets_in(status), True)
        for status in (401, 403):
            self.assertIs(lets_in(status), False)
        for status in (100, 400, 404, 405, 408, 410, 416, 429, 500, 502, 503, 504):
            self.assertIsNone(lets_in(status))

    def test_pages(self) -> None:
        """A page for people, with a 2xx, is no registry's answer; beside a redirect there often is one."""
        for page in ("text/html", "Text/HTML ; charset=utf-8", "application/xhtml+xml"):
            self.assertEqual([lets_in(status, page) for status in (200, 204, 307, 401)], [None, None, True, False])
            self.assertFalse(opens(200, page))
        for kind in (None, "", "application/octet-stream", "text/plain", "text/html+json"):
            self.assertEqual([lets_in(status, kind) for status in (200, 307, 401)], [True, True, False])
            self.assertEqual([opens(status, kind) for status in (200, 307, 401, 404)], [True, False, False, False])

    def test_refuses(self) -> None:
        """A 401 says that a repository is private, a 403 only when a tag was asked for, nothing else ever."""
        self.assertEqual([refuses(401, by_tag) for by_tag in (False, True)], [True, True])
        self.assertEqual([refuses(403, by_tag) for by_tag in (False, True)], [False, True])
        for status, by_tag in product((200, 307, 400, 404, 429, 500, 503), (False, True)):
            self.assertFalse(refuses(status, by_tag))

    def test_remembered(self) -> None:
        """A refusal with a challenge is told again for so many seconds; none of the future is, and none without."""
        for now, expected in ((1000.0, True), (1009.9, True), (1010.0, False), (999.0, False)):
            self.assertIs(remembered(PRIVATE, now, 10.0), expected)
        self.assertFalse(remembered(None, 1000.0, 10.0))
        self.assertFalse(remembered(Privacy(1000.0), 1000.0, 10.0))
        self.assertFalse(remembered(PRIVATE, 1000.0, 0.0))
