"""Tests for L{crcache.grammar.manifest}."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import OriginLied
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import (
    ACCEPT,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    LIMIT,
    MOST_CHILDREN,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    parse_manifest,
)

from .strategies import DIGESTS

CONFIG = Descriptor("application/vnd.oci.image.config.v1+json", Digest.of(b"config"), 6)
LAYER = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", Digest.of(b"layer"), 5)
OTHER = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", Digest.of(b"other", "sha512"), 5)


def described(descriptor: Descriptor) -> dict[str, object]:
    """The descriptor as it is in a manifest."""
    return {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}


def parsed(document: object, content_type: str | None = OCI_MANIFEST) -> Manifest:
    """What this document means as a manifest."""
    return parse_manifest(json.dumps(document).encode(), content_type)


IMAGE: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": OCI_MANIFEST,
    "config": described(CONFIG),
    "layers": [described(LAYER), described(OTHER)],
}


class ChildrenTests(SynchronousTestCase):
    """What a manifest names."""

    def test_image(self) -> None:
        """An image names its config and its layers."""
        self.assertEqual(parsed(IMAGE), Manifest(OCI_MANIFEST, (CONFIG, LAYER, OTHER), None))

    def test_index(self) -> None:
        """An index names its manifests."""
        child = Descriptor(OCI_MANIFEST, Digest.of(b"child"), 5)
        document = {"manifests": [{**described(child), "platform": {"os": "linux"}}]}
        for media_type in (OCI_INDEX, DOCKER_LIST):
            self.assertEqual(parsed(document, media_type), Manifest(media_type, (child,), None))

    def test_schema1(self) -> None:
        """Schema 1 names its layers' digests and nothing more, the empty layer once however often it occurs."""
        layers = [{"blobSum": str(layer.digest)} for layer in (LAYER, OTHER, LAYER)]
        self.assertEqual(
            parsed({"schemaVersion": 1, "fsLayers": layers, "signatures": []}, DOCKER_SCHEMA1_SIGNED),
            Manifest(
                DOCKER_SCHEMA1_SIGNED,
                (Descriptor(None, LAYER.digest, None), Descriptor(None, OTHER.digest, None)),
                None,
            ),
        )

    def test_artifact(self) -> None:
        """An artifact manifest names its blobs and its subject."""
        subject = Descriptor(OCI_MANIFEST, Digest.of(b"subject"), 7)
        document = {"blobs": [described(LAYER)], "subject": described(subject)}
        self.assertEqual(parsed(document, OCI_ARTIFACT), Manifest(OCI_ARTIFACT, (LAYER,), subject))

    @given(st.lists(DIGESTS), st.integers(0, 2**63 - 1))
    def test_round_trip(self, digests: list[Digest], size: int) -> None:
        """Every digest is found, once, in its order."""
        layers = [{"digest": str(digest), "size": size} for digest in digests]
        self.assertEqual(
            parsed({"layers": layers}).children,
            tuple(Descriptor(None, digest, size) for digest in dict.fromkeys(digests)),
        )

    def test_sizes_and_types(self) -> None:
        """A size or media type that is none is as good as absent; the digest counts all the same."""
        size: object
        for size in (-1, 2**63, 1.5, 5.0, True, "5", None, [5], {}):
            (child,) = parsed({"layers": [{"digest": str(LAYER.digest), "size": size}]}).children
            self.assertEqual(child, Descriptor(None, LAYER.digest, None))
        media_type: object
        for media_type in ("", "text", "a/b/c", "a/b\r\nX: y", "a/b; c=d", "\u00e9/b", 5, None, ["a/b"]):
            (child,) = parsed({"layers": [{"digest": str(LAYER.digest), "mediaType": media_type}]}).children
            self.assertEqual(child, Descriptor(None, LAYER.digest, None))

    def test_foreign_digests(self) -> None:
        """Descriptors that crcache couldn't serve are passed over, their neighbours are not."""
        bad: object
        for bad in ("md5:00", f"blake3:{LAYER.digest.hex}", "../../etc/passwd", "", None, 5, [], {}):
            document = {
                "config": {"digest": bad},
                "layers": [{"digest": bad}, described(LAYER)],
                "subject": {"digest": bad},
            }
            self.assertEqual(parsed(document), Manifest(OCI_MANIFEST, (LAYER,), None))

    def test_odd_fields(self) -> None:
        """Fields of the wrong shape name nothing."""
        odd: object
        for odd in (None, 5, "x", True, {}, {"digest": str(LAYER.digest)}, [None, 5, "x", [], {}]):
            document: dict[str, object] = {
                "manifests": odd,
                "layers": odd,
                "blobs": odd,
                "fsLayers": odd,
                "config": described(CONFIG),
            }
            self.assertEqual(parsed(document).children, (CONFIG,))

    def test_most_children(self) -> None:
        """Of very many descriptors the first L{MOST_CHILDREN} count."""
        digests = [Digest.of(str(number).encode()) for number in range(MOST_CHILDREN + 10)]
        children = parsed({"layers": [{"digest": str(digest)} for digest in digests]}).children
        self.assertEqual([child.digest for child in children], digests[:MOST_CHILDREN])

    def test_duplicate_keys(self) -> None:
        """Of a key given twice the last counts."""
        body = json.dumps({"layers": [described(LAYER)]})[:-1] + "," + json.dumps({"layers": [described(OTHER)]})[1:]
        self.assertEqual(parse_manifest(body.encode(), OCI_MANIFEST).children, (OTHER,))


class MediaTypeTests(SynchronousTestCase):
    """What kind a manifest is."""

    def test_header(self) -> None:
        """A `Content-Type` that is a manifest's wins over the body, whatever its case and parameters."""
        for media_type in (
            DOCKER_MANIFEST,
            DOCKER_LIST,
            DOCKER_SCHEMA1,
            DOCKER_SCHEMA1_SIGNED,
            OCI_INDEX,
            OCI_ARTIFACT,
        ):
            self.assertEqual(parsed(IMAGE, f" {media_type.upper()} ; charset=utf-8").media_type, media_type)

    def test_body(self) -> None:
        """Without such a header the body's own word counts, if it is a kind of JSON."""
        for header in (None, "", "application/json", "text/plain; charset=utf-8", "application/octet-stream"):
            self.assertEqual(parsed({**IMAGE, "mediaType": DOCKER_MANIFEST}, header).media_type, DOCKER_MANIFEST)
            self.assertEqual(
                parsed({"mediaType": "application/x.new+json"}, header).media_type, "application/x.new+json"
            )
            self.assertEqual(parsed({**IMAGE, "mediaType": "text/html"}, header).media_type, OCI_MANIFEST)

    def test_fields(self) -> None:
        """Without any word the fields tell."""
        for field, media_type in (
            ("manifests", OCI_INDEX),
            ("layers", OCI_MANIFEST),
            ("fsLayers", DOCKER_SCHEMA1_SIGNED),
            ("blobs", OCI_ARTIFACT),
        ):
            self.assertEqual(parsed({"schemaVersion": 2, field: []}, None).media_type, media_type)
        self.assertEqual(parsed({"config": described(CONFIG)}, None).media_type, OCI_MANIFEST)

    def test_accept(self) -> None:
        """crcache asks for both vendors' manifests and lists, and for anything else after them."""
        self.assertEqual(ACCEPT, (DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX, "*/*"))


class RefusedTests(SynchronousTestCase):
    """What is no manifest."""

    def test_no_manifest(self) -> None:
        """Whatever isn't a JSON object in UTF-8 is refused, and so is one that has nothing of a manifest."""
        for body in (b"", b"<html>", b"null", b"[]", b'"x"', b"5", b"{", b"{} {}", b"\xff{}", b"\xef\xbb\xbf{}"):
            self.assertRaises(OriginLied, parse_manifest, body, OCI_MANIFEST)
        self.assertRaises(OriginLied, parse_manifest, json.dumps(IMAGE).encode("utf-16"), OCI_MANIFEST)
        for document in ({}, {"errors": [{"code": "X"}]}, {"layers": 5}, {"mediaType": 5}):
            self.assertRaises(OriginLied, parsed, document, "application/json")

    def test_too_large(self) -> None:
        """A body of L{LIMIT} bytes is read, one byte more is not."""
        body = json.dumps(IMAGE).encode()
        self.assertEqual(parse_manifest(body.ljust(LIMIT), OCI_MANIFEST).children, (CONFIG, LAYER, OTHER))
        self.assertRaises(OriginLied, parse_manifest, body.ljust(LIMIT + 1), OCI_MANIFEST)

    def test_bombs(self) -> None:
        """Depth, sheer number of values, and numbers without end are refused, not suffered."""
        for body in (
            b"[" * 400_000,
            b'{"layers":' * 400_000,
            b'{"layers":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
            b'{"layers":[' + b"{}," * 1_000_000 + b"{}]}",
            b'{"layers":[],"x":' + b"9" * 1_000_000 + b"}",
        ):
            self.assertRaises(OriginLied, parse_manifest, body, OCI_MANIFEST)

    @given(st.one_of(st.binary(), st.text().map(str.encode)), st.one_of(st.none(), st.text(), st.just(OCI_INDEX)))
    def test_any_bytes(self, body: bytes, content_type: str | None) -> None:
        """Any bytes are a manifest or refused with L{OriginLied}."""
        with contextlib.suppress(OriginLied):
            self.assertIsInstance(parse_manifest(body, content_type), Manifest)

    @given(
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(), DIGESTS.map(str)),
            lambda values: st.one_of(
                st.lists(values, max_size=4),
                st.dictionaries(
                    st.sampled_from(
                        ["mediaType", "config", "layers", "manifests", "blobs", "fsLayers", "digest", "size", "subject"]
                    ),
                    values,
                    max_size=5,
                ),
            ),
            max_leaves=30,
        )
    )
    def test_any_json(self, document: object) -> None:
        """Any JSON of a manifest's words is a manifest, or refused with L{OriginLied}."""
        for content_type in (None, OCI_MANIFEST):
            try:
                manifest = parsed(document, content_type)
            except OriginLied:
                continue
            self.assertIsInstance(manifest.media_type, str)
            for child in manifest.children:
                self.assertIsInstance(child.digest, Digest)
