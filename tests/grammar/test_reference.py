"""Tests for L{crcache.grammar.reference}."""

from __future__ import annotations

import dataclasses
import os.path

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import CrcacheError, DigestInvalid, NameInvalid, TagInvalid
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Registry, Repository, Tag, parse_reference

from .strategies import DIGESTS, HOSTILE, HOSTS, REGISTRIES, REPOSITORIES, TAGS


def is_safe_component(text: str) -> bool:
    """Whether this can be a file's or directory's name anywhere, and nothing else than one."""
    return (
        0 < len(text) <= 255
        and text.isascii()
        and text.isprintable()
        and text[0] not in ".- "
        and "/" not in text
        and "\\" not in text
        and os.path.normpath(os.path.join("/root", text)) == "/root/" + text
    )


class SafePathTests(SynchronousTestCase):
    """What the module's docstring guarantees."""

    @given(st.one_of(HOSTILE, REGISTRIES))
    @example("..")
    @example("a/../b")
    @example("[::1%../..]")
    @example("[fe80::1%eth0]")
    def test_registry(self, text: str) -> None:
        """Whatever parses as a registry is one safe path component; all else is L{NameInvalid}."""
        try:
            registry = Registry.parse(text)
        except NameInvalid:
            return
        self.assertTrue(is_safe_component(str(registry)), registry)

    @given(st.one_of(HOSTILE, REPOSITORIES))
    @example("a/_tags")
    @example("a/.hidden")
    @example("a/../b")
    def test_repository(self, text: str) -> None:
        """Whatever parses as a repository is safe components, none beginning with C{_}; all else is L{NameInvalid}."""
        try:
            repository = Repository.parse(text)
        except NameInvalid:
            return
        self.assertEqual(str(repository), text)
        for component in str(repository).split("/"):
            self.assertTrue(is_safe_component(component), repository)
            self.assertFalse(component.startswith("_"), repository)

    @given(st.one_of(HOSTILE, TAGS, DIGESTS.map(str)))
    @example("..")
    @example("-rf")
    def test_reference(self, text: str) -> None:
        """Whatever parses as a reference is one safe path component; all else is refused with one of our errors."""
        try:
            reference = parse_reference(text)
        except CrcacheError as error:
            self.assertEqual(error.status, 400)
            return
        self.assertEqual(str(reference), text)
        self.assertTrue(is_safe_component(str(reference)), reference)


class RegistryTests(SynchronousTestCase):
    """L{Registry}."""

    @given(REGISTRIES)
    def test_canonical(self, text: str) -> None:
        """Every host and address with any port is taken, and its canonical name means the same registry."""
        registry = Registry.parse(text)
        self.assertEqual(Registry.parse(str(registry)), registry)
        self.assertEqual(Registry(str(registry)), registry)
        self.assertEqual(Registry.parse(text.upper()), registry)

    @given(HOSTS, st.sampled_from(["", ":5000", ":443", ":80"]))
    def test_same_host(self, host: str, port: str) -> None:
        """Case and one trailing dot make no difference, nor does HTTPS's own port; any other port does."""
        registry = Registry.parse(host + port)
        self.assertEqual(Registry.parse(f"{host.title()}.{port}"), registry)
        self.assertEqual(registry == Registry.parse(host), port in ("", ":443"))
        self.assertRaises(NameInvalid, Registry.parse, f"{host}..{port}")

    @given(
        REGISTRIES,
        st.integers(0, 300),
        st.sampled_from([*map(chr, range(33)), *"\x7f@/\\?#%,;&=+!$'()*<>|^`{}~\"_\u00ad"]),
    )
    def test_nothing_but_a_host(self, text: str, at: int, bad: str) -> None:
        """User names, paths, queries, fragments, escapes, blanks and control characters are refused, wherever in a name
        they stand."""
        at %= len(text) + 1
        self.assertRaises(NameInvalid, Registry.parse, text[:at] + bad + text[at:])

    @given(
        REGISTRIES,
        REGISTRIES,
        st.sampled_from(["@", ":@", "/", "//", "/@", "\\@", "#@", "?@", ",", " ", "\r\n", "\t", ":"]),
    )
    def test_one_host(self, one: str, other: str, between: str) -> None:
        """Two hosts are none, whatever stands between them, so nobody can be told of the one and led to the other."""
        self.assertRaises(NameInvalid, Registry.parse, one + between + other)

    def test_docker_hub(self) -> None:
        """Docker Hub's three names, in any form, are one registry; another port is another registry."""
        for text in ("docker.io", "registry-1.docker.io", "Index.Docker.IO", "docker.io:443", "index.docker.io.:443"):
            self.assertEqual(Registry.parse(text), DOCKER_IO)
        self.assertEqual(str(DOCKER_IO), "docker.io")
        for text in ("docker.io:5000", "registry-2.docker.io", "hub.docker.com"):
            self.assertNotEqual(Registry.parse(text), DOCKER_IO)

    def test_addresses(self) -> None:
        """An address has one notation; those in which resolvers would still see one are refused."""
        self.assertEqual(str(Registry.parse("[2001:DB8:0:0::1]:5000")), "[2001:db8::1]:5000")
        self.assertEqual(str(Registry.parse("127.0.0.1:5001")), "127.0.0.1:5001")
        for text in (
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "127.0.0.01",
            "256.0.0.1",
            "1.2.3.4.5",
            "host.5",
            "[::ffff:127.0.0.1]",
            "[127.0.0.1]",
            "[::1",
            "::1",
            "[::1].",
            "[]",
            "[::1]5000",
        ):
            self.assertRaises(NameInvalid, Registry.parse, text)

    def test_refused(self) -> None:
        """User names, paths, schemes, control characters, bad ports, underscores and overlong names are refused."""
        for text in (
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "-a.b",
            "a-.b",
            "_a",
            "a_b",
            "user@host",
            "user:pass@host",
            "host/path",
            "https://host",
            "host?x",
            "host#x",
            "host:",
            "host:0",
            "host:080",
            "host:65536",
            "host:-1",
            "host:+1",
            "host:1:2",
            "host:\u0661",
            "host\n",
            "host\x00",
            "ho st",
            "\u212aelvin",
            "b\u00fccher.example",
            "%68ost",
            "a" * 64,
            "a" * 1_000_000,
        ):
            self.assertRaises(NameInvalid, Registry.parse, text)

    def test_length(self) -> None:
        """A host may be 253 characters long, and a name with its port 255, what a file's name may be."""
        longest = ".".join(["a" * 63] * 3 + ["a" * 61])
        self.assertEqual(str(Registry.parse(longest)), longest)
        self.assertRaises(NameInvalid, Registry.parse, longest + "a")
        self.assertEqual(str(Registry.parse(f"{longest}:1")), f"{longest}:1")
        self.assertRaises(NameInvalid, Registry.parse, f"{longest}:10")

    def test_only_canonical(self) -> None:
        """No instance has another name than the canonical one."""
        for text in ("DOCKER.IO", "registry-1.docker.io", "host.", "host:443", "[0::1]", "../x", ""):
            self.assertRaises(NameInvalid, Registry, text)
        self.assertRaises(NameInvalid, dataclasses.replace, DOCKER_IO, name="Docker.io")


class RepositoryTests(SynchronousTestCase):
    """L{Repository}."""

    @given(REPOSITORIES)
    def test_round_trip(self, text: str) -> None:
        """Every name of the specification's grammar is taken as it is."""
        self.assertEqual(str(Repository.parse(text)), text)

    def test_length(self) -> None:
        """A name may be 255 characters long, and no longer."""
        self.assertEqual(str(Repository.parse("a" * 255)), "a" * 255)
        self.assertRaises(NameInvalid, Repository.parse, "a" * 256)
        self.assertRaises(NameInvalid, Repository.parse, "a/" * 1_000_000 + "a")

    def test_refused(self) -> None:
        """Upper case, doubled separators, empty components and components that begin or end oddly are refused."""
        for text in (
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a..b",
            "a___b",
            "a._b",
            "a-_b",
            "_a",
            "a_",
            "a/_tags/latest",
            "a/.b",
            "-a",
            "a-",
            "a:b",
            "a@b",
            "a b",
            "a\n",
            "a\x00",
            "\u0661",
            "\u00e9",
            "a%2fb",
            "..",
        ):
            self.assertRaises(NameInvalid, Repository.parse, text)
            self.assertRaises(NameInvalid, Repository, text)


class TagTests(SynchronousTestCase):
    """L{Tag} and L{parse_reference}."""

    @given(TAGS)
    def test_round_trip(self, text: str) -> None:
        """Every tag of the specification's grammar is taken as it is, also as a reference."""
        self.assertEqual(str(Tag.parse(text)), text)
        self.assertEqual(parse_reference(text), Tag(text))

    @given(DIGESTS)
    def test_digest(self, digest: Digest) -> None:
        """A digest is a reference, and no tag."""
        self.assertEqual(parse_reference(str(digest)), digest)
        self.assertRaises(TagInvalid, Tag.parse, str(digest))

    def test_refused(self) -> None:
        """What begins with a separator, is too long or has any other character is no tag."""
        for text in ("", ".a", "-a", ".", "..", "a/b", "a b", "a\n", "a\x00", "\u00e9", "\u0661", "a" * 129, "a%"):
            self.assertRaises(TagInvalid, Tag.parse, text)
            self.assertRaises(TagInvalid, Tag, text)

    def test_colon(self) -> None:
        """A colon makes it a digest, and so L{DigestInvalid} if it is none."""
        for text in ("latest:1", ":", "md5:d41d8cd98f00b204e9800998ecf8427e"):
            self.assertRaises(DigestInvalid, parse_reference, text)
