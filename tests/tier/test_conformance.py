"""L{crcache.tier.tiered} promises what every store does."""

from __future__ import annotations

from crcache.settings import S3Settings
from crcache.testing.bucket import FakeBucket
from tests.store import conformance
from tests.tier.case import BehindCase
from tests.web.cases import reactor


class FakeCase(BehindCase):
    """Behind the directory, a bucket in memory."""

    def s3(self) -> S3Settings:
        """Begin it."""
        self.set_keys("AKEY", "a-secret-key")
        bucket = FakeBucket()
        bucket.start(reactor)
        self.addCleanup(bucket.stop)
        return S3Settings("cache", bucket.url)


class TieredTests(FakeCase, conformance.Conformance):
    """A store with a bucket behind it."""


class TieredPrivateTests(FakeCase, conformance.Private):
    """Fills for one repository's clients in front of a bucket."""
