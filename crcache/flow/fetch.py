"""The owner's side of a fill: asks for what is missing, hashes what is there, gives the verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from crcache import events
from crcache.errors import Astray, OriginError, OriginLied, StoreError, wanted
from crcache.facts import Fetched, Membership, Query
from crcache.flow.demand import Demands, OutOfTurn
from crcache.flow.follow import Reports
from crcache.flow.hasher import Hasher
from crcache.flow.patience import to_the_end
from crcache.flow.streams import Claimed, Streams
from crcache.flow.tools import Tools
from crcache.interfaces import IIngest
from crcache.policy.retry import Tries
from crcache.policy.runs import in_pieces

log = Logger()

#: Bytes of the front between two syncs.
SYNC = 256 << 20


class Verified(Reports, Protocol):
    """Whom the owner tells."""

    def verified(self, size: int) -> None:
        """All of it is there and right."""


class Fetch:
    """Fetches what a fill's marks say is missing: from front to back, and out of turn what is waited for."""

    def __init__(
        self,
        tools: Tools,
        query: Query,
        ingest: IIngest,
        fill: Verified,
        *,
        demands: Demands,
        expected: int | None,
        patient: bool,
        fetched: Fetched = Fetched.OPENLY,
    ) -> None:
        """
        @param demands: what clients wait for.
        @param expected: the size that a descriptor gave, for an origin that does not say.
        @param patient: whether clients wait in mid-body already, so that even a first refusal is worth a second try.
        @param fetched: in whose way the origin is asked.
        """
        self._tools = tools
        self._query = query
        self._ingest = ingest
        self._fill = fill
        self._patient = patient
        self._fetched = fetched
        self._digest = tools.digest(query)
        self._hasher = Hasher(ingest, self._digest, tools.hashing, self._hashed)
        query = replace(query, resumes=patient)
        self._streams = Streams(tools, query, ingest, self._hasher, fill, self._begun, self._progressed, expected)
        self._ahead = OutOfTurn(tools, query, ingest, self._streams, demands, self._freed, self._break)
        self._front: Claimed | None = None
        self._fronting: Deferred[BaseException | None] | None = None
        self._idle: Deferred[None] | None = None
        self._broken: BaseException | None = None
        self._waiting: Deferred[None] | None = None
        self._began = tools.clock.seconds()
        self._synced = 0
        self._syncing: Deferred[None] | None = None
        self._unsafe: Failure | None = None

    async def run(self) -> None:
        """To the end: committed, or discarded, or left for the next ask to resume.

        @raise crcache.errors.OriginError: the origin would not, or sent what was not asked for.
        @raise crcache.errors.StoreError: the disk would not.
        """
        try:
            await self._fetch()
            size = self._ingest.size
            if size is None:
                raise StoreError("the fill's marks are damaged")
            right = await self._hash(size) == self._digest.hex
            if not right:
                told = f"{self._query.registry} sent bytes that are not {self._digest}; nothing of it is kept"
                raise OriginLied(told)
            await self._keep(size)
        except StoreError:
            # What the disk would not take must not stand in the way of the next try, nor fill it further.
            await to_the_end(self._ingest.discard())
            raise
        except OriginError as problem:
            # One of the two is wrong, what is kept or what the origin says now: nobody could ever go on from here.
            useless = isinstance(problem, OriginLied) or self._unsafe is not None
            if useless or self._ingest.hole(0) == (0, self._ingest.size):
                await self._drop()
            raise
        except Exception:
            # What a failed sync has made uncertain must not be resumed, whatever else has happened.
            if self._unsafe is not None or self._ingest.hole(0) == (0, None):
                await self._drop()
            raise
        finally:
            self._hasher.stop()
            # They call back: descriptors would stay open until somebody collects the circle.
            del self._streams, self._ahead

    async def _drop(self) -> None:
        """A disk that does not let go of it changes nothing of why: the marks say that it has failed."""
        if not self._ingest.owner:
            return
        try:
            await to_the_end(self._ingest.discard())
        except StoreError as problem:
            log.warn(
                "removing what is wrong of {digest} failed: {problem} (request {request_id})",
                event=events.CACHE_FAILED,
                problem=problem.message,
                **events.about(self._query),
            )

    async def _keep(self, size: int) -> None:
        """Clients are released at once; that the content then cannot be kept is no failure of theirs."""
        if self._syncing is not None:
            # Other processes hear of it from the commit, a sync later.
            self._fill.verified(size)
            await self._syncing
        if self._unsafe is not None:
            self._fill.verified(size)
            log.warn(
                "{digest} is not kept: {problem} (request {request_id})",
                event=events.NOT_KEPT,
                problem=self._unsafe.value,
                **events.about(self._query),
            )
            await to_the_end(self._ingest.discard())
            return
        member = Membership(self._digest, None, size, self._fetched is Fetched.OPENLY, None, self._fetched)
        committed = self._ingest.commit(size, [(self._query.repository, member)] if self._streams.proved else [])
        self._fill.verified(size)
        try:
            await committed
        except StoreError as problem:
            log.warn(
                "keeping {digest} failed: {problem} (request {request_id})",
                event=events.NOT_KEPT,
                problem=problem.message,
                **events.about(self._query),
            )
            return
        log.info(
            "fetched {digest} from {registry}: {bytes} bytes in {seconds:.3f} s (request {request_id})",
            event=events.FETCHED,
            bytes=size,
            seconds=self._tools.clock.seconds() - self._began,
            **events.about(self._query),
        )

    # Fetching

    async def _fetch(self) -> None:
        """Have all of it written; no stream is left running, however this ends."""
        fronting: Deferred[BaseException | None] = Deferred.fromCoroutine(self._outcome())
        self._fronting = fronting
        try:
            problem = await fronting
        finally:
            self._fronting = None
            await self._ahead.stop()
        if isinstance(problem, CancelledError) and self._broken is not None:
            problem = self._broken
        if problem is not None:
            raise problem
        self._fill.answered(self._ingest.size, None)

    async def _outcome(self) -> BaseException | None:
        """How it went. An error within a Deferred would keep all that it has passed through."""
        try:
            await self._in_turn()
        except Exception as problem:
            return problem
        return None

    async def _in_turn(self) -> None:
        tries = Tries(self._tools.retry)
        while self._ingest.hole(0) is not None:
            if self._broken is not None:
                raise self._broken
            run = self._streams.free()
            if run is None:
                self._idle = Deferred()
                await self._idle
                continue
            size = self._ingest.size
            if self._ahead.going and size is not None:
                run = in_pieces(run, size)
            claim = self._front = self._streams.claim(*run)
            try:
                await self._streams.fetch(claim)
                if claim.moved:
                    tries.progressed()
            except OriginError as problem:
                if isinstance(problem, Astray) or not (self._streams.answered or self._patient):
                    raise
                if claim.moved:
                    tries.progressed()
                pause = tries.failed(wanted(problem))
                if pause is None:
                    raise
                self._resuming(problem)
                # It stays claimed meanwhile: nobody else would fare better.
                await deferLater(self._tools.clock, pause, lambda: None)
            finally:
                self._front = None
                self._streams.release(claim)

    def _resuming(self, problem: OriginError) -> None:
        log.info(
            "fetching {digest} from {registry} broke off ({problem}); resuming (request {request_id})",
            event=events.FETCH_RESUMED,
            problem=problem.message,
            **events.about(self._query),
        )
        self._tools.meter.resumed(self._query.registry)
        # A traceback would keep the descriptors of whatever it passed through.
        problem.__traceback__ = None

    def _begun(self) -> None:
        self._ahead.consider()

    def _freed(self) -> None:
        """A stream out of turn has ended. If it leaves something undone that the front has passed, that comes first."""
        front, free = self._front, self._streams.free()
        if front is not None and free is not None and free[0] < front.start:
            front.shorten(front.position)
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.callback(None)

    def _break(self, failure: Failure) -> None:
        """A stream out of turn cannot write."""
        self._broken = failure.value
        if self._fronting is not None:
            self._fronting.cancel()

    def _progressed(self) -> None:
        self._hasher.advance()
        self._fill.moved()

    # Hashing

    async def _hash(self, size: int) -> str:
        while True:
            waiting: Deferred[None] = Deferred()
            self._waiting = waiting
            self._hasher.advance()
            found = self._hasher.digest_at(size)
            if found is not None:
                return found
            if not self._hasher.busy:
                raise StoreError("the fill's marks are damaged")
            await waiting

    def _hashed(self) -> None:
        self._sync(self._hasher.hashed)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _sync(self, front: int) -> None:
        """Now and then, so that a power cut costs little; not shortly before the end, which syncs it all anyway."""
        size = self._ingest.size
        if self._syncing is None and front - self._synced >= SYNC and (size is None or size - front >= SYNC):
            self._synced = front
            self._syncing = self._ingest.synced(front)
            self._syncing.addCallbacks(self._sync_ended, self._sync_failed)

    def _sync_ended(self, _: None) -> None:
        self._syncing = None

    def _sync_failed(self, failure: Failure) -> None:
        self._syncing = None
        self._unsafe = failure
