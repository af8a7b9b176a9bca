"""What origins' answers say of who may read: overheard wherever one is asked."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from crcache.facts import Query
from crcache.grammar.reference import Tag
from crcache.granting import IGrants
from crcache.interfaces import IAnswer, IUpstream
from crcache.policy.access import lets_in, opens, refuses
from crcache.privacies import Privacies


@implementer(IUpstream)
class Witness:
    """Passes questions on, and notes whose `Authorization` was accepted, and which repositories refuse ours."""

    def __init__(self, upstream: IUpstream, grants: IGrants, privacies: Privacies) -> None:
        self._upstream = upstream
        self._grants = grants
        self._privacies = privacies

    def ask(self, query: Query) -> Deferred[IAnswer]:
        """As L{IUpstream.ask}."""
        return self._upstream.ask(query).addCallback(self._heard, query)

    def _heard(self, answer: IAnswer, query: Query) -> IAnswer:
        # Lists of tags and referrers are open to everybody with some registries, for all that the content is not.
        if query.kind in ("manifest", "blob"):
            if query.authorization is None:
                self._own(answer, query)
            else:
                said = lets_in(answer.status, _media_type(answer))
                if said:
                    self._grants.add(query.authorization, query.registry, query.repository)
                elif said is False:
                    self._grants.drop(query.authorization, query.registry, query.repository)
        return answer

    def _own(self, answer: IAnswer, query: Query) -> None:
        if refuses(answer.status, isinstance(query.reference, Tag)):
            # RFC 9110, 15.5.4: what a 403 is sent to is of no use there.
            found = answer.headers.getRawHeaders(b"WWW-Authenticate", []) if answer.status == 401 else []
            self._privacies.refused(query, tuple(line.decode("latin-1") for line in found))
        elif (query.kind, query.method) == ("manifest", "GET") and opens(answer.status, _media_type(answer)):
            # Not by a HEAD, which shows nothing: what stands before a registry may remember the answer from before.
            self._privacies.opened(query)


def _media_type(answer: IAnswer) -> str | None:
    lines = answer.headers.getRawHeaders(b"Content-Type", [])
    return lines[0].decode("latin-1") if lines else None
