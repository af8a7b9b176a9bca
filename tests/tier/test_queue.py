"""L{crcache.tier.queue}, and what becomes of it when processes die, disks fill, and buckets refuse."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository
from crcache.store.layout import Layout
from crcache.testing.script import Fault
from crcache.tier import health
from crcache.tier.queue import CONTENT, PRIVACY, TAG, Entry, Queue
from tests.store.case import logged_by
from tests.tier.scene import APP, LAYER, REGISTRY, TierCase
from tests.tier.scene import TAG as ITS_TAG
from tests.web.cases import pause

ONE = Entry(CONTENT, Registry("r.test"), Repository("a/b"), str(Digest.of(b"one")))
TWO = Entry(TAG, Registry("r.test"), Repository("a/b"), "1.0", gone=True)
THREE = Entry(PRIVACY, Registry("r.test"), Repository("a/b"), "")


class QueueTests(TestCase):
    """The files."""

    def setUp(self) -> None:
        """An empty one."""
        self.now = 1000.0
        self.root = Path(tempfile.mkdtemp(prefix="crcache-test-"))
        self.addCleanup(shutil.rmtree, self.root)
        self.directory = self.root / "uploads"
        self.logged = logged_by(self)
        self.queue = self.another()

    def another(self, most: int = 100) -> Queue:
        """As another process sees it."""
        return Queue(self.directory, lambda: self.now, most)

    def test_order(self) -> None:
        """What was noted first is done first, and what is noted twice is done once; whoever looks sees the same."""
        for entry in (ONE, TWO, THREE, TWO):
            self.now += 1
            self.queue.add(entry)
        names, later = self.another().due(10)
        self.assertEqual(names, [ONE.file, THREE.file, TWO.file])
        self.assertIsNone(later)
        self.assertEqual(self.another().due(1)[0], [ONE.file])
        lease = self.another().take(TWO.file)
        assert lease is not None
        self.assertEqual((lease.entry.what, lease.entry.tag, lease.entry.gone), (TAG, ITS_TAG, True))

    def test_one_at_a_time(self) -> None:
        """What somebody works at nobody else gets, until that one lets go or is done."""
        self.queue.add(ONE)
        lease = self.queue.take(ONE.file)
        assert lease is not None
        self.assertIsNone(self.another().take(ONE.file))
        lease.end()
        again = self.another().take(ONE.file)
        assert again is not None
        again.done()
        self.assertIsNone(self.queue.take(ONE.file))
        self.assertEqual(self.queue.waiting(), 0)

    def test_noted_meanwhile(self) -> None:
        """What is noted anew while it is worked at is done once more."""
        self.queue.add(ONE)
        lease = self.queue.take(ONE.file)
        assert lease is not None
        self.another().add(ONE)
        lease.done()
        self.assertEqual(self.queue.waiting(), 1)
        self.assertIsNotNone(self.queue.take(ONE.file))

    def test_later(self) -> None:
        """What has failed waits; a clock that was set back does not keep it for long."""
        self.queue.add(ONE)
        lease = self.queue.take(ONE.file)
        assert lease is not None
        lease.note(tries=3, after=1500.0, upload="an-id")
        lease.end()
        self.assertEqual(self.another().due(10), ([], 1500.0))
        self.now = 1501.0
        self.assertEqual(self.another().due(10)[0], [ONE.file])
        again = self.another().take(ONE.file)
        assert again is not None
        self.assertEqual((again.entry.tries, again.entry.upload), (3, "an-id"))
        again.end()
        self.now = -1e9
        self.assertEqual(self.another().due(10)[0], [ONE.file])

    def test_full(self) -> None:
        """When there are too many the oldest go, which is said in one line."""
        queue = self.another(most=10)
        entries = [Entry(TAG, ONE.registry, ONE.repository, f"v{number}") for number in range(15)]
        for number, entry in enumerate(entries):
            self.now += 1
            queue.add(entry)
            os.utime(self.directory / entry.file, (self.now, self.now))
            self.assertLessEqual(len(os.listdir(self.directory)), 10, number)
        self.assertFalse((self.directory / entries[0].file).exists())
        self.assertTrue((self.directory / entries[-1].file).exists())
        dropped = [event for event in self.logged if "do not keep up" in str(event) or "does not keep up" in str(event)]
        self.assertEqual(len(dropped), 5)
        self.assertEqual({event["path"] for event in dropped}, {str(self.directory)})

    def test_lies(self) -> None:
        """A file that is none of the queue's, or says something else than its name, is removed, and named."""
        self.queue.add(ONE)
        good = json.loads((self.directory / ONE.file).read_text())
        bad = {
            "0" * 32: json.dumps(good),
            ONE.file[:-1] + "x": "",
            "README": "not ours",
            "1" * 32: "[" * 100_000,
            "2" * 32: json.dumps({**good, "repository": "../../etc"}),
            "3" * 32: json.dumps({**good, "tries": 1e999}),
            "4" * 32: json.dumps({**good, "what": "everything"}),
        }
        for name, text in bad.items():
            (self.directory / name).write_text(text)
        for name in bad:
            self.assertIsNone(self.queue.take(name))
        self.assertEqual(self.queue.due(100)[0], [ONE.file])
        self.assertEqual(os.listdir(self.directory), [ONE.file])
        self.assertEqual({Path(event["path"]).name for event in self.logged if "path" in event}, set(bad))

    def test_odd(self) -> None:
        """Directories, links and pipes in its place do no harm."""
        self.queue.add(ONE)
        (self.directory / "directory").mkdir()
        os.symlink("/etc/passwd", self.directory / "link")
        os.mkfifo(self.directory / "pipe")
        self.assertEqual(self.queue.due(100)[0], [ONE.file])
        for name in ("directory", "link", "pipe"):
            self.assertIsNone(self.queue.take(name))

    def test_killed(self) -> None:
        """Of one that is killed while it works at an entry, the entry is there for the next, and free."""
        self.queue.add(ONE)
        code = (
            "import sys, time; from pathlib import Path; from crcache.tier.queue import Queue\n"
            f"lease = Queue(Path({str(self.directory)!r}), time.time).take({ONE.file!r})\n"
            "print(lease is not None, flush=True); time.sleep(60)"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), b"True\n")
            self.assertIsNone(self.queue.take(ONE.file))
            process.send_signal(signal.SIGKILL)
        self.assertIsNotNone(self.queue.take(ONE.file))

    def test_many(self) -> None:
        """As long as nothing can be done, nothing is read; what comes meanwhile is seen."""
        self.queue.add(ONE)
        lease = self.queue.take(ONE.file)
        assert lease is not None
        lease.note(after=1500.0)
        self.assertEqual(self.queue.due(10), ([], 1500.0))
        os.chmod(self.directory / ONE.file, 0)
        os.truncate(self.directory / ONE.file, 0)
        self.assertEqual(self.queue.due(10), ([], 1500.0))
        self.queue.add(TWO)
        self.assertEqual(self.queue.due(10)[0], [TWO.file])

    def test_name(self) -> None:
        """It is where the layout says, which knows its name."""
        self.assertEqual(Layout(self.root).uploads, self.directory)


class UploadsTests(TierCase):
    """What works on it."""

    async def test_restart(self) -> None:
        """What was pulled while the bucket was away is uploaded after a restart, when it is there again."""
        node = self.node("same")
        self.bucket.fault(Fault(status=503), times=None)
        await self.pulled(node)
        self.assertEqual(len(node.waiting()), 4)
        await node.stop()
        node.stop = _nothing  # type: ignore[method-assign]
        self.bucket.script.clear()
        for name in node.waiting():
            # As if the pause after a failure were over.
            path = node.root / "uploads" / name
            path.write_text(json.dumps({**json.loads(path.read_text()), "after": 0}))
        again = self.node("same")
        await self.uploaded(again)
        self.assertEqual(len(self.bucket.keys("blobs/")), 3)
        self.assertEqual(len(self.bucket.keys("_tags/")), 1)

    async def test_two_processes(self) -> None:
        """Two on one directory upload everything, each thing once."""
        first, second = self.node("same"), self.node("same")
        await self.pulled(first)
        await self.pulled(second)
        await self.uploaded(first)
        self.assertEqual(len(self.bucket.asked("content", "PUT")), 3)

    async def test_evicted(self) -> None:
        """What has been evicted before it could be uploaded is no error, and no tag is removed for it."""
        node = self.node("same")
        self.patch(health, "REST", 0.1)
        self.bucket.fault(Fault(hold=True), times=None)
        await node.manifest()
        await self.until("it is noted", lambda: len(node.waiting()) == 2)
        shutil.rmtree(node.root / "blobs")
        shutil.rmtree(node.root / "registries")
        self.bucket.script.clear()
        from crcache.tier import uploads

        self.patch(uploads, "SOON", 0.0)
        await self.uploaded(node)
        self.assertEqual([event for event in self.logged if event.get("log_failure")], [])
        self.assertEqual(self.bucket.asked(method="DELETE"), [])
        self.assertEqual(self.bucket.keys("blobs/"), [])

    async def test_damaged(self) -> None:
        """A file that has been damaged since is never uploaded."""
        node = self.node()
        self.bucket.fault(Fault(status=503), times=None)
        await self.pulled(node)
        path = node.root / "blobs/sha256" / self.layer.hex
        before = path.stat()
        path.chmod(0o600)
        path.write_bytes(b"x" + LAYER[1:])
        # Whoever wants to deceive sets the time as well.
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.bucket.script.clear()
        lease = Queue(node.root / "uploads", lambda: 0.0).take(Entry(CONTENT, REGISTRY, APP, str(self.layer)).file)
        assert lease is not None
        from crcache.tier.problems import Wrong

        running = node.engine.tier._running
        assert running is not None
        try:
            await running._uploads._upload.run(lease)
        except Wrong as wrong:
            self.assertIn("other bytes", wrong.message)
        else:
            self.fail("it was uploaded")
        lease.end()
        self.assertEqual(self.bucket.keys(self.layer.hex), [])
        self.assertFalse(path.exists())

    async def test_refused(self) -> None:
        """A bucket that may be read and not written to is told of once, and read all the same."""
        self.bucket.fault(Fault(status=403, body=b"<Error><Code>AccessDenied</Code></Error>"), method="PUT", times=None)
        node = self.node()
        await self.pulled(node)
        await self.until("it is refused", lambda: self.events("bucket-refused"))
        await pause(0.5)
        self.assertEqual(len(self.events("bucket-refused")), 1)
        self.assertLessEqual(len(self.bucket.asked(method="PUT")), 2)
        self.assertEqual(self.events("bucket-failing"), [])
        self.assertEqual(len(node.waiting()), 4)

    async def test_unconditional(self) -> None:
        """A service that knows no conditions is asked with a HEAD first, which is enough; so is one that says so."""
        self.bucket.conditional = False
        await self.warm()
        self.assertEqual(len(self.bucket.asked("content", "PUT")), 3)
        for key in self.bucket.keys("registries/"):
            del self.bucket.objects[key]
        await self.pulled(again := self.node())
        await self.uploaded(again)
        self.assertEqual(len(self.bucket.asked("content", "PUT")), 3)
        self.bucket.objects.clear()
        self.bucket.fault(Fault(status=501), "content", method="PUT")
        await self.pulled(third := self.node())
        await self.uploaded(third)
        self.assertEqual(len(self.bucket.keys("blobs/")), 3)

    async def test_somebody_faster(self) -> None:
        """Who finds that somebody was faster is done."""
        self.bucket.fault(Fault(status=412), "content", method="PUT", times=None)
        await self.warm()
        self.assertEqual(self.events("bucket-failing"), [])

    async def test_corrupted_on_the_way(self) -> None:
        """What arrives damaged is refused by the service, and sent again."""
        from crcache.tier import uploads

        self.patch(uploads, "PAUSES", (0.05, 0.1))
        self.patch(uploads, "REFUSED", 0.05)
        self.bucket.fault(Fault(status=400, body=b"<Error><Code>BadDigest</Code></Error>"), "content", method="PUT")
        await self.warm()
        self.assertEqual(len(self.bucket.keys("blobs/")), 3)


async def _nothing() -> None:
    """It has been stopped."""
