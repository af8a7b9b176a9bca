"""L{crcache.host.descriptors}."""

from __future__ import annotations

import resource

from twisted.trial.unittest import SynchronousTestCase

from crcache.host.descriptors import allow, allowed


class DescriptorTests(SynchronousTestCase):
    """The process's own limit."""

    def setUp(self) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        self.hard = before[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, self.hard))

    def test_raised(self) -> None:
        """It is raised as far as wanted, and never lowered."""
        self.assertEqual(allowed(), 400)
        self.assertEqual(allow(500), 500)
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (500, self.hard))
        self.assertEqual(allow(450), 500)

    def test_as_far_as_allowed(self) -> None:
        """No further than whoever started the process allows."""
        if self.hard == resource.RLIM_INFINITY:
            return
        self.assertEqual(allow(self.hard + 1), self.hard)
