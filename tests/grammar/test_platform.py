"""L{crcache.grammar.platform}."""

from __future__ import annotations

import platform

from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.platform import Platform, choose, host


class PlatformTests(SynchronousTestCase):
    """Names of platforms."""

    def test_parse(self) -> None:
        """What people type, by its usual names."""
        for text, usual in (
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/i386", "linux/386"),
            ("windows/amd64", "windows/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
        ):
            self.assertEqual(str(Platform.parse(text)), usual)

    def test_none(self) -> None:
        """What is no platform."""
        for text in ("", "linux", "linux/", "/amd64", "a/b/c/d", "linux/amd 64", "linux/\x1b", "a/" + "b" * 65):
            self.assertRaises(ValueError, Platform.parse, text)
        values: list[object] = [None, [], {}, {"os": "linux"}, {"os": "linux", "architecture": 5}]
        for value in (*values, {"os": "\n", "architecture": "a"}):
            self.assertIsNone(Platform.said(value))

    def test_host(self) -> None:
        """This machine's is one that an index may have."""
        for machine, expected in (("x86_64", "linux/amd64"), ("aarch64", "linux/arm64"), ("riscv64", "linux/riscv64")):
            self.patch(platform, "machine", lambda machine=machine: machine)
            self.patch(platform, "system", lambda: "Linux")
            self.assertEqual(str(host()), expected)


class ChooseTests(SynchronousTestCase):
    """Which of an index's images a machine takes."""

    def check(self, wanted: str, offered: list[str | None], expected: list[int]) -> None:
        """C{offered} are as an index says them."""
        words = [None if each is None else Platform(*each.split("/")) for each in offered]
        self.assertEqual(choose(words, Platform.parse(wanted)), expected)

    def test_choose(self) -> None:
        """The one of its platform; else of the newest variant that it runs; else what says none."""
        self.check("linux/amd64", ["linux/arm64", "linux/amd64", "unknown/unknown"], [1])
        self.check("linux/arm64", ["linux/arm64/v8", "linux/amd64"], [0])
        self.check("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/amd64"], [1])
        self.check("linux/arm/v6", ["linux/arm/v7"], [])
        self.check("linux/arm", ["linux/arm", "linux/arm/v6"], [0])
        self.check("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2"], [1])
        self.check("linux/amd64/v3", ["linux/amd64"], [0])
        self.check("linux/amd64", ["linux/amd64/v2"], [])
        self.check("windows/amd64", ["windows/amd64", "windows/amd64"], [0, 1])
        self.check("linux/amd64", [None, "linux/arm64"], [0])
        self.check("linux/amd64", ["linux/arm64"], [])
        self.check("linux/amd64", [], [])
