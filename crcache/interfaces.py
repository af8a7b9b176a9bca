"""The seams: what the rooms of crcache promise each other.

Everything asynchronous returns a L{Deferred}; everything else is synchronous and cheap. All
methods are called in the reactor thread unless the docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.web.http_headers import Headers
from zope.interface import Attribute, Interface

from crcache.errors import CrcacheError
from crcache.facts import Holding, Membership, Privacy, Query, TagEntry, Verdict
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag

if TYPE_CHECKING:
    from crcache.asks import Ask
    from crcache.outcomes import Outcome


class IAnswer(Interface):
    """An origin's final answer (redirects followed, tokens negotiated), whatever its status.

    Whoever gets one must call exactly one of L{deliver}, L{abort}.
    """

    status: int = Attribute("The HTTP status.")
    headers: Headers = Attribute("The header lines as the origin sent them.")
    length: int | None = Attribute("The body's length in bytes; None if the origin did not say.")

    def deliver(consumer: IConsumer) -> Deferred[None]:
        """Send the body to C{consumer}.

        C{consumer.registerProducer(producer, True)} comes first, where C{producer} is an
        C{IPushProducer}; then C{write}s; then C{unregisterProducer}, in every case.

        @return: fires when the body is complete, to its length or, without one, to its end. Fails with
            L{BodyCut<crcache.errors.BodyCut>} if it is cut short or nothing came for the stall timeout (while not
            paused), or if it has neither a length nor an end of its own and the connection was lost uncleanly.
        """

    def abort() -> None:
        """Close the connection at once, without waiting for the peer. Idempotent, also during and after L{deliver}."""


class INearby(Interface):
    """What answers provide besides that are not the origin's own, but of somebody whom nobody has to believe: what they
    bring counts for no more than its digest does, and whoever waits for it is kept until that is known, for a while."""


class IUpstream(Interface):
    """How origins are asked."""

    def ask(query: Query) -> Deferred[IAnswer]:
        """Put one question to the registry's origin, its URLs in order; again where it fails for the moment.

        @return: the answer, with any final status: 200, 206, 404, a 401 with the origin's own challenge, 5xx, 429.
            Fails with L{OriginUnreachable<crcache.errors.OriginUnreachable>},
            L{OriginTimeout<crcache.errors.OriginTimeout>}, L{OriginLied<crcache.errors.OriginLied>} (too many
            redirects, a redirect to no URL) or L{Astray<crcache.errors.Astray>}; without asking, with the first two or
            L{OriginFailed<crcache.errors.OriginFailed>} while a failure is remembered, and with
            L{OriginBusy<crcache.errors.OriginBusy>} while a 429 or a `Retry-After` is. Cancelling it closes the
            connection.
        """


class IWatcher(Interface):
    """Someone who waits for a body to grow."""

    def moved() -> None:
        """More bytes may be there, or the verdict has changed. Cheap, and never raises."""


class IBody(Interface):
    """A file's worth of bytes that may still be growing: committed content, or a fill."""

    size: int | None = Attribute("In bytes; None while nobody knows (then ranges wait).")
    verdict: Verdict = Attribute("FILLING until all bytes have been checked against the digest asked for.")
    problem: CrcacheError | None = Attribute("Why it has FAILED; None before, and if nobody knows.")

    def open() -> int:
        """A descriptor to read from, which the caller closes. It stays good whatever becomes of the path.

        @raise crcache.errors.StoreError: if there is none to be had.
        """

    def readable(offset: int) -> int:
        """The end (exclusive) of the unbroken run of bytes that is there from C{offset} on; C{offset} if there is none.

        It may stop short of the end of a long run: ask again from there.
        """

    def watch(watcher: IWatcher, span: tuple[int, int | None] | None = None) -> None:
        """Call C{watcher.moved()} at every change from now on.

        @param span: the bytes that it waits for, from the first to the end (exclusive; C{None} is that of the body):
            what is far ahead of the front may be fetched out of turn, until L{unwatch}.
        """

    def unwatch(watcher: IWatcher) -> None:
        """Undo L{watch}. Idempotent."""


class IIngest(Interface):
    """A fill's two files: data at its final offsets, and marks that say what is there.

    Every process that shares the store sees the same ones; one at a time is the owner.
    """

    owner: bool = Attribute("Whether this process holds the lock: it fetches, the others follow.")
    size: int | None = Attribute("The body's size from the marks; None if not known.")
    answered: bool = Attribute("Whether the origin has agreed to send the body.")
    state: Verdict = Attribute("From the marks, read anew each time.")

    def open() -> int:
        """As L{IBody.open}."""

    def readable(offset: int) -> int:
        """As L{IBody.readable}, from the marks."""

    def hole(offset: int) -> tuple[int, int | None] | None:
        """The first missing run at or after C{offset}, as (start, end); end is C{None} if the size is unknown.

        C{None} when nothing is missing up to the known size.
        """

    def settle(size: int | None) -> None:
        """Owner: note that the origin answered, and the size it gave.

        @raise crcache.errors.OriginLied: if another size has been noted before.
        """

    def room(size: int | None) -> Deferred[None]:
        """Owner: have room made for a body of this size, before it is written. If nobody knows it, L{write} does that.

        Idempotent. Fails with L{NoRoom<crcache.errors.NoRoom>} if there is none to be had."""

    def write(
        offset: int, buffers: Sequence[bytes], also: Callable[[Sequence[bytes]], None] | None = None
    ) -> Deferred[None]:
        """Owner: put bytes at their offset, then mark them. Calls for one segment must not overlap in time.

        @param also: called with the same buffers in the same worker thread, once they are marked.

        Fails with L{StoreError<crcache.errors.StoreError>}.
        """

    def synced(front: int) -> Deferred[None]:
        """Owner: flush the data to disk, then note that everything before C{front} is safe from a power cut."""

    def commit(size: int, members: Sequence[tuple[Repository, Membership]]) -> Deferred[None]:
        """Owner: the digest is right: note the verdict at once, then make the data content, durably, and let go.

        The verdict is in the marks (and L{state} says so) before this method returns. Each repository of C{members}
        is enrolled once the content is in its place. Data whose path is no longer its own is not committed; that is
        no failure.
        """

    def discard() -> Deferred[None]:
        """Owner: the bytes are wrong, or there are none: note the verdict at once, then remove both files and close."""

    def claim() -> Deferred[bool]:
        """Follower: try to become the owner. True if so (or already); false while another process is.

        Fails with L{StoreError<crcache.errors.StoreError>} if the files have gone without a verdict.
        """

    def close() -> None:
        """Let go of the lock; the files stay for whoever comes next. Idempotent.

        What is there can still be read as long as somebody holds this object.
        """


class IStore(Interface):
    """Where bytes rest. Any file may vanish at any time: what is missing or damaged is a miss, never an error.

    Reads of content that fail for another reason than absence, and all writes, fail with
    L{StoreError<crcache.errors.StoreError>}; a membership or tag that cannot be read is a miss.
    """

    def start() -> None:
        """Make or check the layout; blocking, in a thread of its own. May be tried again.

        @raise crcache.errors.StoreAway: with one line that says what is not there yet; it may come by itself.
        @raise crcache.errors.StoreError: with one line that says what is wrong with which directory.
        """

    def ready() -> Deferred[None]:
        """Whether content can be written now. Fails with L{StoreError<crcache.errors.StoreError>} saying why not."""

    def stop() -> None:
        """Let go of everything. Idempotent."""

    def find(digest: Digest) -> Deferred[IBody | None]:
        """Committed content, or C{None}. Its last use is noted (at most hourly).

        What somebody else may have written to is hashed first: what proves wrong is dropped, and is C{None}.
        """

    def read(digest: Digest, limit: int) -> Deferred[bytes | None]:
        """Small committed content, whole and verified against its digest; damaged or larger than C{limit}: C{None}."""

    def put(digest: Digest, data: bytes) -> Deferred[None]:
        """Small content, verified by the caller. Idempotent."""

    def drop(digest: Digest, damaged: IBody | None = None) -> Deferred[None]:
        """Forget content that proved damaged. Idempotent.

        @param damaged: what it was that proved so: what has been put in its place since then stays. C{None} is
            whatever is there.
        """

    def ingest(registry: Registry, digest: Digest, repository: Repository | None = None) -> Deferred[IIngest | IBody]:
        """Begin, resume or follow the one fill of this digest from this registry; or content, if it is there by now.

        @param repository: the one whose clients' credentials it needs: such a fill is another one than the registry's
            open one, and than other repositories', so that whoever may read the repository may follow it.
        """

    def member(registry: Registry, repository: Repository, digest: Digest) -> Deferred[Membership | None]:
        """What is known of this repository holding this digest. Last use is noted (at most hourly)."""

    def enrol(registry: Registry, repository: Repository, memberships: Sequence[Membership]) -> Deferred[None]:
        """Note that this repository holds these. An open membership is never replaced by one that is not, nor one that
        was fetched by one that was not, or less openly. Content that was fetched openly the repository gives to
        everyone from now on, unless it is noted as private; of each content the first eight givers are noted."""

    def holding(registry: Registry, repository: Repository, digest: Digest) -> Deferred[Holding]:
        """All that is known of this repository and this digest, at once. Last use is noted (at most hourly)."""

    def privacy(registry: Registry, repository: Repository) -> Deferred[Privacy | None]:
        """Whether the repository has refused crcache's own way, the last time that it was asked."""

    def set_privacy(registry: Registry, repository: Repository, privacy: Privacy | None) -> Deferred[None]:
        """Note that it has, or (C{None}) that it has not. Idempotent.

        As long as it is noted as private the repository gives nothing to everyone: what it gave is taken back, and what
        was fetched openly through it is given again when it is open again. What others give stays given.

        Nothing is noted of a repository that nothing else is known of: clients can name any.
        """

    def tag(registry: Registry, repository: Repository, tag: Tag) -> Deferred[TagEntry | None]:
        """What the tag was last found to mean, and whether it is pinned. Of a repository that has refused crcache's own
        way no tag is open."""

    def set_tag(registry: Registry, repository: Repository, tag: Tag, entry: TagEntry) -> Deferred[None]:
        """Note what the tag means. Atomic. Whether it is pinned stays as it is."""

    def forget_tag(registry: Registry, repository: Repository, tag: Tag) -> Deferred[None]:
        """The tag is gone. Idempotent."""


class IMeter(Interface):
    """Counts. Every method is cheap and never raises; registries outside the bounded set are counted as C{other}."""

    def answered(registry: Registry | None, kind: str, status: int, cache: str, seconds: float | None) -> None:
        """A client's request has ended. C{kind}: ping, manifest, blob, tags, referrers, or other. C{cache}: hit,
        miss, collapsed, stale, bypass, or none. C{seconds}: until the first byte of the answer."""

    def sent(registry: Registry | None, cache: str, count: int) -> None:
        """Bytes of bodies went to a client."""

    def asked(registry: Registry, kind: str, status: int | None) -> None:
        """An origin has been asked (C{kind} as in L{Query}, or C{token}); status C{None}: no answer."""

    def received(registry: Registry, count: int) -> None:
        """Bytes of bodies came from an origin."""

    def resumed(registry: Registry) -> None:
        """A fill went on after its upstream broke off."""

    def filling(change: int) -> None:
        """Fills now running: one more (1) or fewer (-1)."""

    def following(change: int) -> None:
        """Clients now being sent a body that is still growing, beyond the first of each: 1 or -1."""

    def rate_limit(registry: Registry, remaining: int) -> None:
        """What an origin's C{ratelimit-remaining} said."""


class ICache(Interface):
    """The story: authorise, look up, serve or fill or relay."""

    def handle(ask: Ask) -> Deferred[Outcome]:
        """The outcome of one ask, as soon as the answer's head can be written. Fails with a
        L{CrcacheError<crcache.errors.CrcacheError>}. Cancelling is not needed when a client leaves."""
