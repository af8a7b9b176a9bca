"""L{crcache.tier.tier}: a bucket that is configured, replaced and taken away while all else goes on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.reference import Tag
from crcache.testing.bucket import FakeBucket
from crcache.tier import queue as queues
from tests.tier.scene import LAYER, TierCase
from tests.web.cases import reactor


class ReloadTests(TierCase):
    """The engine is told another configuration."""

    async def test_added(self) -> None:
        """A bucket that a reload adds is used from then on; what was pulled before is not uploaded."""
        node = self.node()
        config = node.engine.config.now
        node.engine.use(replace(config, s3=None))
        self.assertIsNone(node.engine.tier.describe())
        self.assertEqual(node.engine._sources.turns, 0)
        self.assertTrue(await node.blob(self.layer) == LAYER)
        self.assertEqual(self.bucket.requests, [])
        node.engine.use(config)
        self.assertEqual(node.engine._sources.turns, 1)
        await node.manifest()
        await self.until("something is uploaded", lambda: self.bucket.keys("_tags/"))

    async def test_taken_away(self) -> None:
        """One that a reload takes away is asked for nothing more."""
        node = await self.cold()
        node.engine.use(replace(node.engine.config.now, s3=None))
        await self.pulled(node)
        self.assertEqual(self.bucket.requests, [])
        self.assertNotEqual(self.origin.requests, [])

    async def test_replaced(self) -> None:
        """Another one takes its place, for what waits as well."""
        other = FakeBucket()
        other.start(reactor)
        self.addCleanup(other.stop)
        await self.bucket.stop()
        node = self.node()
        await self.pulled(node)
        self.assertEqual(len(node.waiting()), 4)
        node.engine.use(replace(node.engine.config.now, s3=self.settings(endpoint=other.url)))
        self.patch(queues.Queue, "due", _everything(queues.Queue.due))
        await self.uploaded(node)
        self.assertEqual(len(other.keys("blobs/")), 3)

    async def test_same(self) -> None:
        """One that stays the same keeps what is known of it; the keys are looked for anew."""
        node = self.node()
        running = node.engine.tier._running
        assert running is not None
        await node.manifest()
        node.engine.use(replace(node.engine.config.now, ignore=node.engine.config.now.ignore))
        self.assertIs(node.engine.tier._running, running)
        self.assertIsNone(running._signer._credentials)
        await node.manifest(Tag("1.0"))

    async def test_metrics(self) -> None:
        """Operators see what it does."""
        node = await self.cold()
        await self.pulled(node)
        said = node.engine.meter.collectors.get_sample_value
        self.assertGreater(said("crcache_s3_answers_total", {"result": "hit"}) or 0, 5)
        self.assertGreater(said("crcache_s3_received_bytes_total") or 0, len(LAYER))
        self.assertEqual(said("crcache_s3_failing"), 0)
        self.assertEqual(said("crcache_s3_uploads_total"), 0)


class NothingTests(SynchronousTestCase):
    """No bucket."""

    def test_not_loaded(self) -> None:
        """Without one nothing of it is in memory: not botocore, and of crcache's own no more than has to be."""
        code = (
            "import sys; import crcache.tap\n"
            "print([name for name in sys.modules if name.startswith(('botocore', 'crcache.tier.'))])"
        )
        top = Path(__file__).parents[2]
        printed = subprocess.run(
            [sys.executable, "-c", code], cwd=top, check=True, capture_output=True, text=True
        ).stdout
        self.assertNotIn("botocore", printed)
        self.assertEqual(
            sorted(eval(printed)), ["crcache.tier.counts", "crcache.tier.tier", "crcache.tier.tiered"], printed
        )


def _everything(due: object) -> object:
    """As if no pause were kept."""

    def every(self: queues.Queue, most: int) -> object:
        return self._names()[:most], None

    return every
