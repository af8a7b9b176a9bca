"""L{crcache.store.records}: what files say that somebody else has written."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crcache.facts import Membership, TagEntry
from crcache.grammar.digest import Digest
from crcache.store.records import membership_from, membership_record, tag_from, tag_record

DIGEST = Digest.of(b"x")
NOT_A_TYPE: tuple[Any, ...] = (
    "a",
    "a/b\r\nX-Evil: y",
    "a/b\n",
    "text/html; charset=x",
    "\u212a/b",
    "",
    5,
    None,
    ["a/b"],
)


class RecordTests(SynchronousTestCase):
    """Memberships and tags."""

    def test_types(self) -> None:
        """What could not be a media type never gets into an answer's head: a membership goes without, a tag is none."""
        member = membership_record(Membership(DIGEST, "a/b", 5))
        tag = tag_record(TagEntry(DIGEST, "a/b", 5, 7.5))
        self.assertEqual(membership_from(member, DIGEST), Membership(DIGEST, "a/b", 5))
        self.assertEqual(tag_from(tag), TagEntry(DIGEST, "a/b", 5, 7.5))
        for bad in NOT_A_TYPE:
            self.assertEqual(membership_from({**member, "mediaType": bad}, DIGEST), Membership(DIGEST, None, 5))
            self.assertIsNone(tag_from({**tag, "mediaType": bad}))
