"""Names: what requests ask for."""

from __future__ import annotations

from hypothesis import strategies as st

from crcache.errors import CrcacheError, DigestInvalid, Fault, NameInvalid, NoSuchRoute, TagInvalid
from crcache.grammar.media_type import parse_media_type
from crcache.grammar.reference import DOCKER_IO, Registry, Repository, Tag, parse_reference
from crcache.grammar.request_id import parse_request_id
from crcache.grammar.route import PingRoute, parse_path, which_registry
from tests.fuzz.target import Target, near, one_line
from tests.grammar.strategies import DIGESTS, HOSTILE, REGISTRIES, REPOSITORIES, TAGS

HEX = "ab" * 32
DIGEST = f"sha256:{HEX}"

HOSTS = (
    *("docker.io", "index.docker.io", "registry-1.docker.io", "ghcr.io", "localhost", "localhost:5000", "a.b:65535"),
    *("127.0.0.1:5001", "[::1]:5000", "[2001:db8::1]", "xn--bcher-kva.example", "a-b.c"),
)
BITS = (
    *(
        "",
        ".",
        "..",
        "/",
        "//",
        "\\",
        ":",
        "::",
        "@",
        "%",
        "%2e",
        "%00",
        "%2F",
        "%25",
        "?",
        "#",
        "&",
        "=",
        "_",
        "-",
        "~",
    ),
    *("\n", "\r\n", "\t", "\0", "\x7f", "\x85", "\u2028", " ", "\xe9", "\u0661", "\u212a", "\uff0e", "\U0001f600"),
    *("0x7f", "0177", "1e3", "127.1", ":443", ":80", ":0", ":00443", ":99999", "[", "]", "%25eth0", "A", "user:pass@"),
    *("sha256:", "sha512:", "latest", "https://", "..%2f", "a" * 256),
)


def safe(name: str) -> None:
    """It is one path component that means what it looks like."""
    assert name and len(name) <= 255 and name.isascii() and name.isprintable(), ascii(name)
    assert "/" not in name and "\\" not in name and "\0" not in name, ascii(name)
    assert name not in (".", "..") and name[0] not in ".- ", ascii(name)


def refused(problem: CrcacheError) -> None:
    """The client is told in one line, and it is the client's fault."""
    one_line(problem.message)
    assert problem.fault is Fault.CLIENT and 400 <= problem.status < 500 and problem.status != 429
    assert len(problem.message) < 600, len(problem.message)


def registry(text: str) -> None:
    """A registry has one name, which is one safe path component, however it was written."""
    try:
        found = Registry.parse(text)
    except NameInvalid as problem:
        refused(problem)
        return
    safe(str(found))
    assert Registry.parse(str(found)) == found == Registry(str(found))
    assert Registry.parse(text.upper()) == found == Registry.parse(text.lower())
    assert not str(found).endswith((":443", ".")), str(found)
    assert str(found) not in ("index.docker.io", "registry-1.docker.io")
    # Of two registries none is the beginning of a path in the other's.
    assert str(found) == str(found).lower()


def repository(text: str) -> None:
    """A repository is as it was written: components that are each safe, none of them the store's own."""
    try:
        found = Repository.parse(text)
    except NameInvalid as problem:
        refused(problem)
        return
    assert str(found) == text and len(text) <= 255
    for component in text.split("/"):
        safe(component)
        assert not component.startswith("_")


def reference(text: str) -> None:
    """A tag or a digest is as it was written, and one safe path component."""
    try:
        found = parse_reference(text)
    except (TagInvalid, DigestInvalid) as problem:
        refused(problem)
        return
    assert str(found) == text
    if isinstance(found, Tag):
        safe(text)
    else:
        safe(found.algorithm)
        safe(found.hex)
        assert set(found.hex) <= set("0123456789abcdef") and len(found.hex) == found.hasher().digest_size * 2


def path(text: bytes) -> None:
    """A path is a route whose names could stand in a path again, or a client's mistake."""
    try:
        found = parse_path(text)
    except (NoSuchRoute, NameInvalid, DigestInvalid, TagInvalid) as problem:
        refused(problem)
        return
    if isinstance(found, PingRoute):
        return
    segments = found.name.split("/")
    assert segments and not {"", ".", ".."} & set(segments), ascii(found.name)
    assert found.name.isascii() and found.name.isprintable() and not set(found.name) & set("\\ "), ascii(found.name)
    # Undone once: what was escaped twice still is.
    tail = text.split(b"/")[-1]
    assert b"%" in tail or str(getattr(found, "reference", getattr(found, "digest", "list"))) == tail.decode()


def asked(example: tuple[str, list[str], str | None]) -> None:
    """A request means one registry's one repository, or is refused."""
    name, ns, user_agent = example
    try:
        found, repo = which_registry(name, ns, user_agent, DOCKER_IO)
    except NameInvalid as problem:
        refused(problem)
        return
    safe(str(found))
    assert len(ns) < 2
    if ns:
        # All of it: nothing in the name can change whose it is.
        assert found == Registry.parse(ns[0]) and str(repo) == name
        assert which_registry(name, ns, None, Registry("other.example")) == (found, repo)
    else:
        assert name.endswith(str(repo))


def request_id(text: str) -> None:
    """A request id is as it came, and breaks nothing that it is put into."""
    found = parse_request_id(text)
    assert found in (None, text)
    if found is not None:
        assert 1 <= len(found) <= 64 and not set(found) - set("._-") - set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
        )


def media_type(value: object) -> None:
    """A media type can stand in a head."""
    found = parse_media_type(value)
    if found is not None:
        assert isinstance(value, str) and found == value.lower()
        assert found.isascii() and found.isprintable() and " " not in found and found.count("/") == 1
        assert len(found) <= 255


PATHS = (
    *(f"/v2/library/alpine/manifests/{tag}".encode() for tag in ("latest", "3.19", DIGEST)),
    f"/v2/a/blobs/{DIGEST}".encode(),
    f"/v2/a/b/referrers/{DIGEST}".encode(),
    b"/v2/docker.io/library/alpine/tags/list",
    b"/v2/localhost:5000/a/tags/list",
    b"/v2/",
    b"/v2",
)
PATH_BITS = (*(bit.encode() for bit in BITS), b"\xff", b"%ff", b"%c0%ae", b"%e2%84%aa", b"%", b"%2", b"%zz", b";")

#: What is tried each time, as names.
NASTY = (
    *(
        "",
        ".",
        "..",
        "/",
        "//",
        "a/",
        "/a",
        "a//b",
        "a/../b",
        "./a",
        "a/./b",
        "..\\a",
        "\\\\host\\share",
        "-rf",
        ".git",
    ),
    *("a\0b", "a\nb", "a\r\nX: y", "a\x1b[31mb", "a\u202eb", "\u212aelvin.io", "docker\uff0eio", "d\u043ecker.io"),
    *("docker.io.", "docker.io..", "DOCKER.IO", "docker.io:443", "docker.io.:443", "docker.io:0443", "docker.io:80"),
    *("docker.io:", "docker.io:0", "docker.io:65536", "docker.io:443:443", ".docker.io", "docker..io", "-.io", "a-.io"),
    *("[::1]", "[::1", "::1", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::1%25lo]", "[1::2::3]", "[::1]:443"),
    *("127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "1.2.3.4.5", "256.0.0.1", "1.2.3.0x4"),
    *(
        "user@host.io",
        "host.io/path",
        "http://host.io",
        "host.io?x",
        "host.io#x",
        "host.io:5000/",
        " host.io",
        "host.io ",
    ),
    *("a" * 256, "a" * 64 + ".io", "a." * 127 + "io", "a/" * 128 + "a", "_tags", "a/_digests/b", "A", "a__b", "a___b"),
    *("sha256:", f"sha256:{HEX.upper()}", f"{DIGEST}0", f"{DIGEST}\n", f"sha256::{HEX}", f"SHA256:{HEX}", "md5:00"),
    *(f"sha256:{'0' * 63}\u0661", f"sha512:{HEX}", f"sha256+b64:{HEX}", "%2e%2e", "%252e%252e", "a%2fb", "a%00"),
)

TEXTS = st.one_of(HOSTILE, near((*HOSTS, "library/alpine", "a.b/c-d/e__f", "3.19", DIGEST), BITS))

TARGETS = (
    Target("registry", st.one_of(REGISTRIES, TEXTS), registry, NASTY),
    Target("repository", st.one_of(REPOSITORIES, TEXTS), repository, NASTY),
    Target("reference", st.one_of(TAGS, DIGESTS.map(str), TEXTS), reference, NASTY),
    Target(
        "path",
        st.one_of(near(PATHS, PATH_BITS), st.binary(max_size=60)),
        path,
        (
            *(f"/v2/{each}/blobs/{DIGEST}".encode("utf-8", "surrogatepass") for each in NASTY),
            *(f"/v2/a/manifests/{each}".encode("utf-8", "surrogatepass") for each in NASTY),
            *(b"", b"/", b"//v2/", b"/v2/v2/v2/tags/list", b"/V2/", b"/v2/blobs/blobs/tags/list", b"/v2/%2e%2e/"),
            *(b"/" * 100_000, b"/v2/" + b"a/" * 50_000 + b"tags/list", b"/v2/" + b"%41" * 50_000 + b"/tags/list"),
        ),
    ),
    Target(
        "ns",
        st.tuples(TEXTS, st.lists(TEXTS, max_size=2), st.sampled_from([None, "docker/24.0", "curl/8", "docker/"])),
        asked,
        [(name, ns, agent) for name in NASTY for ns in ([], ["docker.io"], [name]) for agent in (None, "docker/1")],
    ),
    Target("request id", st.one_of(st.text(max_size=80), near(("0123-abc_D.e", "a" * 64), BITS)), request_id, NASTY),
    Target(
        "media type",
        st.one_of(near(("application/vnd.oci.image.index.v1+json", "a/b"), BITS), st.none(), st.integers()),
        media_type,
        (
            *NASTY,
            "a/b\n",
            "a/b; c=d",
            "a/b\r\nX: y",
            "/",
            "a/",
            "/b",
            "a" * 128 + "/b",
            "\xe9/b",
            5,
            None,
            ["a/b"],
            b"a/b",
        ),
    ),
)
