"""L{crcache.host.dumps}."""

from __future__ import annotations

import resource

from twisted.trial.unittest import SynchronousTestCase

from crcache.host.dumps import refuse_dumps


class DumpTests(SynchronousTestCase):
    """The process's own limit."""

    def test_none(self) -> None:
        """There are none; whoever needs one can still allow it."""
        before = resource.getrlimit(resource.RLIMIT_CORE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_CORE, before)
        refuse_dumps()
        self.assertEqual(resource.getrlimit(resource.RLIMIT_CORE), (0, before[1]))

    def test_forbidden(self) -> None:
        """Where a sandbox does not let limits be set, all else goes on."""
        for problem in (PermissionError(1, "Operation not permitted"), ValueError("not allowed to raise the limit")):

            def refuse(*_: object, problem: Exception = problem) -> None:
                raise problem

            self.patch(resource, "setrlimit", refuse)
            refuse_dumps()
