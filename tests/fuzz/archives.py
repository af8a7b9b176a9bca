"""Archives of images, and Kubernetes manifests that name some."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from crcache.commands.wishlist import images_in_manifest
from crcache.errors import ArchiveInvalid, ConfigError, StoreError
from crcache.images.importing import Importer, Wish
from crcache.store import version
from crcache.store.layout import Layout
from tests.fuzz.target import Target, near, one_line
from tests.images.archives import APP, Archive, app, docker, named, zipped

_LAYERS = (b"one" * 100, b"two" * 300)
_NAMES = (
    "",
    ".",
    "..",
    "../x",
    "/x",
    "a/../b",
    "index.json",
    "manifest.json",
    "oci-layout",
    "blobs/sha256/x",
    "\n",
    "é",
    "x" * 300,
)
_TYPES = (b"0", b"1", b"2", b"3", b"5", b"6", b"7", b"L", b"K", b"x", b"g", b"S", b"\0", b"Z")
_BITS = (
    b"",
    b" ",
    b"\0",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b'"',
    b":",
    b"null",
    b"1",
    b"-1",
    b"1e999",
    b"\xff",
    b"sha256:",
    b"\x1f\x8b",
)
_WORDS = (
    "digest",
    "size",
    "mediaType",
    "manifests",
    "layers",
    "config",
    "annotations",
    "RepoTags",
    "Config",
    "Layers",
    "diff_ids",
)

#: What is done to a member: which, what, and with what.
_EDITS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 20), st.just("drop"), st.none()),
        st.tuples(st.integers(0, 20), st.just("twice"), st.none()),
        st.tuples(st.integers(0, 20), st.just("name"), st.sampled_from(_NAMES)),
        st.tuples(st.integers(0, 20), st.just("linkname"), st.sampled_from(_NAMES)),
        st.tuples(st.integers(0, 20), st.just("type"), st.sampled_from(_TYPES)),
        st.tuples(st.integers(0, 20), st.just("size"), st.sampled_from((0, 1, 511, 10**6, 1 << 62, -1))),
        st.tuples(
            st.integers(0, 20),
            st.just("data"),
            st.tuples(st.integers(0, 2000), st.integers(0, 9), st.sampled_from(_BITS)),
        ),
        st.tuples(st.integers(0, 20), st.just("word"), st.tuples(st.sampled_from(_WORDS), st.sampled_from(_WORDS))),
    ),
    max_size=3,
)
ARCHIVES = st.tuples(
    st.sampled_from(("oci", "docker")),
    _EDITS,
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 12_000)),
    st.booleans(),
)


def _made(kind: str, edits: list[tuple[int, str, Any]], gnu: bool, cut: int | None, packed: bool) -> bytes:
    archive = app(layers=_LAYERS) if kind == "oci" else docker((*_LAYERS, _LAYERS[0]))
    for place, what, how in edits:
        if not archive.members:
            break
        number = place % len(archive.members)
        member, data = archive.members[number]
        if what == "drop":
            del archive.members[number]
        elif what == "twice":
            archive.members.append((member, data))
        elif what == "data":
            at, length, bit = how
            at %= len(data) + 1
            _replace(archive, number, data[:at] + bit + data[at + length :])
        elif what == "word":
            _replace(archive, number, data.replace(*(word.encode() for word in how)))
        else:
            setattr(member, what, how)
    try:
        whole = archive.bytes(tarfile.GNU_FORMAT if gnu else tarfile.PAX_FORMAT)
    except (ValueError, UnicodeError):
        # What no tar archive can say.
        whole = b""
    whole = zipped(whole) if packed else whole
    return whole if cut is None else whole[:cut]


def _replace(archive: Archive, number: int, data: bytes) -> None:
    member, _ = archive.members[number]
    member.size = len(data)
    archive.members[number] = member, data


def check_archive(example: tuple[str, list[tuple[int, str, Any]], bool, int | None, bool]) -> None:
    """An archive is taken wholly, or refused in one line with nothing left behind."""
    place = Path(tempfile.mkdtemp(prefix="crcache-fuzz-"))
    try:
        layout = Layout(place)
        version.write(layout)
        before = _files(place)
        try:
            Importer(layout, named).take(io.BytesIO(_made(*example)), "a.tar", Wish())
        except (ArchiveInvalid, StoreError) as problem:
            one_line(problem.message)
            assert _files(place) == before, _files(place)
        else:
            names = APP if example[0] == "oci" else "docker.io/library/app:1.0"
            registry, repository, tag = named(names)
            assert layout.tag(registry, repository, tag).exists(), _files(place)  # type: ignore[arg-type]
            assert not list(place.glob("ingest/.*"))
    finally:
        shutil.rmtree(place)


def _files(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir()}


def check_manifests(text: str) -> None:
    """Kubernetes manifests name images, or are refused in one line that names the file."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="surrogateescape", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        try:
            found = images_in_manifest(file.name)
        except ConfigError as problem:
            one_line(problem.message)
            assert problem.message.startswith(file.name), problem.message
        else:
            assert found and len(set(found)) == len(found)


_PODS = (
    "kind: Pod\nspec:\n  containers:\n  - {name: a, image: 'nginx:1'}\n  volumes:\n  - image: {reference: a/b}\n",
    "a: &a {image: x}\nitems: [{spec: {initContainers: [*a, {<<: *a}], containers: []}}]\n"
    '---\n{"containers": [{"image": "y"}]}\n',
)
_PIECES = (
    "", " ", "\n", "---\n", "- ", ": ", "[", "]", "{", "}", "*a", "&a ", "<<: ", "!!binary ", "'", '"', "\\", "|\n",
    "? ", "image", "containers", "\x85", "\ufeff", "\U0001f600", "%YAML 1.1\n", "\t", "#", "null", "=",
)  # fmt: skip

TARGETS = (
    Target(
        "archives",
        ARCHIVES,
        check_archive,
        [
            ("oci", [], False, None, False),
            ("docker", [], True, None, True),
            ("oci", [(0, "twice", None)], False, None, False),
            ("docker", [(2, "type", b"2"), (2, "linkname", "")], False, None, False),
            ("oci", [(3, "size", -1)], True, None, False),
        ],
    ),
    Target(
        "kubernetes manifests", near(_PODS, _PIECES), check_manifests, ["", "[", "containers: [{image: }]", "a: *b"]
    ),
)
