"""Tests for L{crcache.grammar.route}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import CrcacheError, DigestInvalid, NameInvalid, NoSuchRoute, TagInvalid
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Registry, Repository, Tag, parse_reference
from crcache.grammar.route import (
    BlobRoute,
    ManifestRoute,
    PingRoute,
    ReferrersRoute,
    TagsRoute,
    parse_path,
    which_registry,
)

from .strategies import DIGESTS, HOSTILE, REGISTRIES, REPOSITORIES, TAGS

DIGEST = Digest.of(b"")


@st.composite
def escaped(draw: st.DrawFn, text: str) -> bytes:
    """The text with some characters, never a slash, percent-encoded in either case."""
    form = st.sampled_from(["{}", "{}", "{}", "%{:02x}", "%{:02X}"])
    parts = [char if char == "/" else draw(form).replace("{}", char).format(ord(char)) for char in text]
    return "".join(parts).encode("ascii")


class ParsePathTests(SynchronousTestCase):
    """L{parse_path}."""

    def test_ping(self) -> None:
        """C{/v2} and C{/v2/} ask whether this is a registry."""
        for path in (b"/v2", b"/v2/", b"/%762/"):
            self.assertEqual(parse_path(path), PingRoute())

    @given(REPOSITORIES, st.one_of(TAGS, DIGESTS.map(str)), DIGESTS, st.data())
    def test_routes(self, name: str, reference: str, digest: Digest, data: st.DataObject) -> None:
        """Every name with every reference makes its route, percent-encoded or not."""
        for path, route in (
            (f"/v2/{name}/manifests/{reference}", ManifestRoute(name, parse_reference(reference))),
            (f"/v2/{name}/blobs/{digest}", BlobRoute(name, digest)),
            (f"/v2/{name}/tags/list", TagsRoute(name)),
            (f"/v2/{name}/referrers/{digest}", ReferrersRoute(name, digest)),
        ):
            self.assertEqual(parse_path(path.encode()), route)
            self.assertEqual(parse_path(data.draw(escaped(path))), route)

    @given(REGISTRIES, REPOSITORIES)
    def test_registry_in_name(self, registry: str, repository: str) -> None:
        """A registry of any form may begin the name."""
        self.assertEqual(
            parse_path(f"/v2/{registry}/{repository}/tags/list".encode()), TagsRoute(f"{registry}/{repository}")
        )

    def test_ambiguous_names(self) -> None:
        """A name may have the words that routes are made of: the last ones count."""
        self.assertEqual(parse_path(b"/v2/a/manifests/manifests/b"), ManifestRoute("a/manifests", Tag("b")))
        self.assertEqual(parse_path(b"/v2/blobs/tags/list"), TagsRoute("blobs"))
        self.assertEqual(parse_path(b"/v2/v2/tags/tags/list"), TagsRoute("v2/tags"))

    def test_no_route(self) -> None:
        """What the specification doesn't have is L{NoSuchRoute}."""
        for path in (
            b"",
            b"/",
            b"*",
            b"v2/",
            b"//v2/",
            b"/v1/",
            b"/V2/",
            b"/v2//",
            b"/v2%2F",
            b"/v2/_catalog",
            b"/v2/a",
            b"/v2/a/tags",
            b"/v2/a/tags/list/",
            b"/v2/a/tags/lists",
            b"/v2/a/blobs/uploads/",
            b"/v2/manifests/latest",
            b"/v2/tags/list",
            b"/v2/../../etc/passwd",
            b"/metrics",
            b"http://host/v2/",
        ):
            self.assertRaises(NoSuchRoute, parse_path, path)

    def test_bad_names(self) -> None:
        """Empty and dot segments, hidden slashes, controls, and what isn't ASCII make no name."""
        for name in (
            b"",
            b"a//b",
            b"/a",
            b"a/",
            b".",
            b"..",
            b"a/../b",
            b"a/%2e%2e/b",
            b"a/.%2e",
            b"a%2fb",
            b"a%2Fb",
            b"a%5cb",
            b"a%00b",
            b"a\x00b",
            b"a%0ab",
            b"a%20b",
            b"a b",
            b"\xc3\xa9",
            b"%c3%a9",
            b"a%",
            b"a%4",
            b"a%zz",
            b"a?b",
            b"a%7f",
        ):
            self.assertRaises(NameInvalid, parse_path, b"/v2/" + name + b"/manifests/latest")

    def test_once(self) -> None:
        """Percent-encoding is undone once, never twice."""
        digest = str(DIGEST).replace(":", "%3A")
        self.assertEqual(parse_path(f"/v2/a/blobs/{digest}".encode()), BlobRoute("a", DIGEST))
        again = digest.replace("%", "%25").encode()
        self.assertRaises(DigestInvalid, parse_path, b"/v2/a/blobs/" + again)
        self.assertRaises(TagInvalid, parse_path, b"/v2/a/manifests/" + again)
        self.assertEqual(parse_path(b"/v2/a%252e/tags/list"), TagsRoute("a%2e"))

    def test_bad_references(self) -> None:
        """What is neither tag nor digest is refused with the error that says which of them it should have been."""
        for reference in (b"", b".", b"..", b"%2e%2e", b"a%2fb", b"a%00", b"\xff", b"%ff", b"a%0a", b"a" * 129):
            self.assertRaises(TagInvalid, parse_path, b"/v2/a/manifests/" + reference)
            self.assertRaises(DigestInvalid, parse_path, b"/v2/a/blobs/" + reference)
            self.assertRaises(DigestInvalid, parse_path, b"/v2/a/referrers/" + reference)
        self.assertRaises(DigestInvalid, parse_path, b"/v2/a/manifests/md5:00")
        self.assertRaises(DigestInvalid, parse_path, b"/v2/a/blobs/uploads")

    @given(st.one_of(st.binary(), HOSTILE.map(lambda text: text.encode("utf-8", "surrogatepass"))))
    def test_any_bytes(self, junk: bytes) -> None:
        """Any bytes anywhere in a path make a route without anything hidden in it, or a 400 or 404."""
        for path in (junk, b"/v2/" + junk, b"/v2/" + junk + b"/tags/list", b"/v2/a/manifests/" + junk):
            try:
                route = parse_path(path)
            except CrcacheError as error:
                self.assertIn(error.status, (400, 404))
                continue
            if not isinstance(route, PingRoute):
                self.assertTrue(route.name.isascii() and route.name.isprintable())
                self.assertTrue({"", ".", ".."}.isdisjoint(route.name.split("/")))


class WhichRegistryTests(SynchronousTestCase):
    """L{which_registry}."""

    def test_ns(self) -> None:
        """C{ns} names the registry, and the whole name is the repository, whatever it begins with."""
        docker = (DOCKER_IO, Repository("library/alpine"))
        self.assertEqual(which_registry("library/alpine", ["registry-1.docker.io"], None, Registry("x")), docker)
        for ns in ("harbor.example.com", "docker.io"):
            self.assertEqual(
                which_registry("docker.io/library/alpine", [ns], "docker/24.0", DOCKER_IO),
                (Registry(ns), Repository("docker.io/library/alpine")),
            )
        self.assertEqual(
            which_registry("a", ["127.0.0.1:5001"], None, DOCKER_IO), (Registry("127.0.0.1:5001"), Repository("a"))
        )

    @given(REGISTRIES, REPOSITORIES)
    def test_in_name(self, registry: str, repository: str) -> None:
        """Without C{ns} a host before the repository names the registry; other words do only with C{ns}."""
        if not {".", ":"}.isdisjoint(registry):
            expected = (Registry.parse(registry), Repository(repository))
            self.assertEqual(which_registry(f"{registry}/{repository}", [], None, DOCKER_IO), expected)
            self.assertEqual(which_registry(f"{registry}/{repository}", [], "docker/24.0", DOCKER_IO), expected)
        expected = (Registry.parse(registry), Repository(repository))
        self.assertEqual(which_registry(repository, [registry], None, DOCKER_IO), expected)

    def test_localhost(self) -> None:
        """C{localhost} is a host without a dot."""
        expected = (Registry("localhost"), Repository("a/b"))
        self.assertEqual(which_registry("localhost/a/b", [], None, DOCKER_IO), expected)

    def test_docker(self) -> None:
        """Docker, which sends neither C{ns} nor a host, means the default registry; others are told what to do."""
        default = Registry("mirror.example.com")
        self.assertEqual(
            which_registry("library/alpine", [], "docker/24.0.7 go/go1.20", default),
            (default, Repository("library/alpine")),
        )
        for user_agent in (None, "", "curl/8", "containerd/1.7.0", "notdocker/1", "x docker/1"):
            error = self.assertRaises(NameInvalid, which_registry, "library/alpine", [], user_agent, default)
            self.assertIn("hosts.toml", error.message)
            self.assertIn("ns=", error.message)

    def test_refused(self) -> None:
        """No C{ns} twice or empty, no registry without a repository, and nothing beside the grammar."""
        for name, ns in (
            ("a", ["docker.io", "docker.io"]),
            ("a", ["docker.io", "quay.io"]),
            ("a", [""]),
            ("a", ["../x"]),
            ("a", ["user@host"]),
            ("a", ["host/path"]),
            ("A", ["docker.io"]),
            ("host:5000/a", ["docker.io"]),
            ("", ["docker.io"]),
            ("docker.io", []),
            ("docker.io/", []),
            ("docker.io/A", []),
            ("a..b/c", []),
            ("user@host.example/a", []),
            ("", []),
        ):
            self.assertRaises(NameInvalid, which_registry, name, ns, "docker/24.0", DOCKER_IO)

    @given(HOSTILE, st.lists(HOSTILE, max_size=2), st.one_of(st.none(), st.just("docker/24.0")))
    def test_any_text(self, name: str, ns: list[str], user_agent: str | None) -> None:
        """Any text is a registry and a repository, or L{NameInvalid}."""
        try:
            registry, repository = which_registry(name, ns, user_agent, DOCKER_IO)
        except NameInvalid:
            return
        self.assertEqual(Registry(str(registry)), registry)
        self.assertEqual(Repository(str(repository)), repository)
