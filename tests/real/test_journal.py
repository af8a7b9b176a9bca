"""crcache's lines in a real journal: fields, explanations, and a journal that hangs."""

from __future__ import annotations

import time
from pathlib import Path

from crcache import events
from tests.real.daemon import ROOT, twistd
from tests.real.journald import Journald
from tests.real.processes import run, until
from tests.real.scene import Scene, digest_of
from tests.real.statics import StaticOrigin

_NAME = "registry.test"
_REPOSITORY = "team/app"


class JournalTests(Scene):
    """Where standard error goes to the journal nothing has to be configured."""

    def setUp(self) -> None:
        """One blob at an origin, and a daemon whose standard error is the journal."""
        super().setUp()
        self.journald = self.ending(Journald(self.directory))
        self.origin = self.ending(StaticOrigin(self.directory / "origin"))
        layer = self.directory / "layer"
        layer.write_bytes(b"layer" * 200_000)
        self.digest = digest_of(layer)
        path = self.origin.publish_blob(layer, _REPOSITORY, self.digest)
        self.origin.start()
        self.daemon = self.crcache(
            self.place("crcache"), {_NAME: {"url": self.origin.url}}, prefix=self.journald.prefix
        )
        self.url = f"{self.daemon.url}{path}?ns={_NAME}"

    def test_request(self) -> None:
        """journalctl finds a request by its registry, with all that there is to know of it and of what it caused."""
        self.assertEqual(self.get(self.url, "--header", "X-Request-Id: me-1"), self.digest)
        matches = (f"CRCACHE_REGISTRY={_NAME}", "CRCACHE_EVENT=request")
        until("the request", lambda: bool(self.journald.entries(*matches)))
        (entry,) = self.journald.entries(*matches)
        expected = {
            "MESSAGE_ID": events.REQUEST.id,
            "PRIORITY": "6",
            "SYSLOG_IDENTIFIER": "crcache",
            "_TRANSPORT": "journal",
            "_PID": str(self.daemon.pid),
            "CODE_FILE": str(ROOT / "crcache" / "web" / "requestlog.py"),
            "CODE_FUNC": "RequestLog.finished",
            "CRCACHE_REGISTRY": _NAME,
            "CRCACHE_REPOSITORY": _REPOSITORY,
            "CRCACHE_DIGEST": self.digest,
            "CRCACHE_REFERENCE": self.digest,
            "CRCACHE_STATUS": "200",
            "CRCACHE_CACHE": "miss",
            "CRCACHE_BYTES": "1000000",
            "CRCACHE_REQUEST_ID": "me-1",
            "CRCACHE_CLIENT": "127.0.0.1",
            "CRCACHE_METHOD": "GET",
            "CRCACHE_KIND": "blob",
        }
        self.assertEqual({name: entry.get(name) for name in expected}, expected)
        line = Path(entry["CODE_FILE"]).read_text().splitlines()[int(entry["CODE_LINE"]) - 1]
        self.assertIn("log.emit", line)
        self.assertLess(float(entry["CRCACHE_SECONDS"]), 10)
        until("both", lambda: len(self.journald.entries("CRCACHE_REQUEST_ID=me-1")) == 2)
        caused = {each["CRCACHE_EVENT"] for each in self.journald.entries("CRCACHE_REQUEST_ID=me-1")}
        self.assertEqual(caused, {"request", "fetched"})

    def test_from_beginning_to_end(self) -> None:
        """The first line and the last are there, nothing went to standard error, nothing is Twisted's chatter."""
        self.daemon.stop()
        entries = self.journald.entries(f"_PID={self.daemon.pid}")
        self.assertEqual([each["MESSAGE_ID"] for each in entries[:1]], [events.READY.id])
        self.assertEqual([each["MESSAGE_ID"] for each in entries[-1:]], [events.STOPPED.id])
        self.assertEqual({each["_TRANSPORT"] for each in entries}, {"journal"})
        self.assertEqual({each["PRIORITY"] for each in entries}, {"6"})

    def test_cannot_start(self) -> None:
        """Why it cannot start is in the journal although the process ends at once."""
        cache = self.place("foreign")
        (cache / "VERSION").write_text("99\n")
        command = [*self.journald.prefix, *twistd(), "-n", "--pidfile=", "crcache", "--cache-dir", str(cache)]
        with self.assertRaisesRegex(AssertionError, "exit status 1"):
            run([*command, "--listen", "tcp:0:interface=127.0.0.1", "--admin", "off"], directory=ROOT)
        (entry,) = self.journald.entries(f"MESSAGE_ID={events.CANNOT_START.id}")
        self.assertEqual(entry["PRIORITY"], "2")
        self.assertIn(str(cache), entry["CRCACHE_PROBLEM"])

    def test_explained(self) -> None:
        """C{journalctl -x} explains, with the line's own values in the explanation."""
        self.origin.stop()
        self.head(self.url)
        matches = (f"MESSAGE_ID={events.ORIGIN_FAILING.id}", f"CRCACHE_REGISTRY={_NAME}")
        until("the failure", lambda: bool(self.journald.entries(*matches)))
        (entry,) = self.journald.entries(*matches)
        self.assertEqual(entry["PRIORITY"], "4")
        told = self.journald.show("--catalog", *matches)
        self.assertIn("Subject: A registry fails", told)
        self.assertIn("Documentation: man:crcache(8)", told)
        self.assertIn(f"{_NAME} does not answer as it should: {entry['CRCACHE_PROBLEM']}", told)
        listed = self.journald.show("--list-catalog")
        for event in events.EVENTS:
            self.assertIn(event.id, listed)

    def test_hanging_journal(self) -> None:
        """A journald that takes nothing keeps nobody waiting; all lines are there once it goes on."""
        self.assertEqual(self.get(self.url), self.digest)
        self.journald.hang()
        began = time.monotonic()
        for _ in range(30):
            self.assertEqual(self.head(self.url)[":status"], "200")
        self.assertLess(time.monotonic() - began, 10)
        self.journald.go_on()
        matches = ("CRCACHE_METHOD=HEAD", f"CRCACHE_REGISTRY={_NAME}")
        until("all lines", lambda: len(self.journald.entries(*matches)) == 30)

    def test_hanging_to_the_end(self) -> None:
        """A daemon that is told to stop ends, although the journal takes nothing any more."""
        self.journald.hang()
        for _ in range(20):
            self.head(self.url)
        began = time.monotonic()
        self.daemon.stop()
        self.assertLess(time.monotonic() - began, 6)
        self.journald.go_on()
