"""Which images an archive says it holds, and what they are called there."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crcache.errors import ArchiveInvalid, CrcacheError, StoreError
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import DOCKER_MANIFEST, LIMIT, MOST_CHILDREN, Descriptor
from crcache.grammar.media_type import parse_media_type
from crcache.images.documents import read_json, read_object
from crcache.images.intake import DOCKER, INDEX, LAYOUT, Intake, Kept
from crcache.images.tar import inner, shown
from crcache.store.contents import Contents

#: Whole names, as containerd and docker write them; and names of any kind, within the archive.
NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"

_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20
#: What a layer comes to unpacked, at most.
_LARGEST_LAYER = 256 << 30


@dataclass
class Root:
    """An image of an archive.

    @ivar names: what it is called, as it is written there; each once, and only such as are whole.
    """

    descriptor: Descriptor
    names: list[str] = field(default_factory=list)


def find_roots(intake: Intake, contents: Contents) -> list[Root]:
    """The images, each digest once.

    @raise ArchiveInvalid: if there are none, or what the archive says of them is not true.
    @raise StoreError: if the disk fails.
    """
    if INDEX in intake.documents:
        roots = _oci(intake)
    elif DOCKER in intake.documents:
        roots = _docker(intake, contents)
    else:
        raise ArchiveInvalid(f"there is neither {INDEX} nor {DOCKER} in it: it is no archive of images")
    if not roots:
        raise ArchiveInvalid("there is no image in it")
    found: dict[Digest, Root] = {}
    for root in roots:
        known = found.setdefault(root.descriptor.digest, root)
        known.names.extend(name for name in root.names if name not in known.names)
    return list(found.values())


def _oci(intake: Intake) -> list[Root]:
    """https://github.com/opencontainers/image-spec/blob/main/image-layout.md."""
    version = read_object(intake.documents.get(LAYOUT, b""), LAYOUT).get("imageLayoutVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise ArchiveInvalid(f"{LAYOUT} is of a version that is not known here: {str(version)[:40]!r}")
    listed = read_object(intake.documents[INDEX], INDEX).get("manifests")
    if not isinstance(listed, list) or len(listed) > MOST_CHILDREN:
        raise ArchiveInvalid(f"{INDEX} does not list manifests, or more than {MOST_CHILDREN}")
    return [_entry(each) for each in listed]


def _entry(entry: object) -> Root:
    if not isinstance(entry, dict) or not isinstance(entry.get("digest"), str):
        raise ArchiveInvalid(f"{INDEX} lists something that is no descriptor")
    try:
        digest = Digest.parse(entry["digest"])
    except CrcacheError as problem:
        raise ArchiveInvalid(f"{INDEX}: {problem.message}") from None
    size = entry.get("size")
    if type(size) is not int or size < 0:
        raise ArchiveInvalid(f"{INDEX} does not say of what size {digest} is")
    said = entry.get("annotations")
    annotations: Mapping[str, object] = said if isinstance(said, dict) else {}
    names = [name for name in (annotations.get(NAME), annotations.get(REF_NAME)) if _is_whole(name)]
    return Root(Descriptor(parse_media_type(entry.get("mediaType")), digest, size), [str(name) for name in names[:1]])


def _is_whole(name: object) -> bool:
    """Whether a name says which registry it means: many write no more than a tag."""
    host = name.partition("/")[0] if isinstance(name, str) and "/" in name else ""
    return "." in host or ":" in host or host == "localhost"


def _docker(intake: Intake, contents: Contents) -> list[Root]:
    """https://github.com/moby/docker-image-spec/blob/v1.3.1/v1.2.md#combined-image-json--filesystem-changeset-format."""
    listed = read_json(intake.documents[DOCKER], DOCKER)
    if not isinstance(listed, list) or len(listed) > MOST_CHILDREN:
        raise ArchiveInvalid(f"{DOCKER} does not list images, or more than {MOST_CHILDREN}")
    made = _Made(intake, contents)
    return [made.root(each) for each in listed]


class _Made:
    """Manifests for what has none: docker's, of the layers as they are in the archive."""

    def __init__(self, intake: Intake, contents: Contents) -> None:
        self._intake = intake
        self._contents = contents
        self._unpacked: dict[Digest, tuple[str, str]] = {}

    def root(self, entry: object) -> Root:
        if not isinstance(entry, dict):
            raise ArchiveInvalid(f"{DOCKER} lists something that is no image")
        config, layers = entry.get("Config"), entry.get("Layers")
        tags = entry.get("RepoTags") or []
        if not (isinstance(config, str) and _texts(layers) and _texts(tags)):
            raise ArchiveInvalid(f"{DOCKER} lists an image without Config, Layers and RepoTags")
        assert isinstance(layers, list)
        configured = self._file(config)
        diff_ids = self._diff_ids(configured, config)
        if len(diff_ids) != len(layers):
            raise ArchiveInvalid(f"{shown(config)} has {len(diff_ids)} layers, and {DOCKER} {len(layers)}")
        described = [self._layer(*each) for each in zip(layers, diff_ids, strict=True)]
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": _descriptor(_DOCKER_CONFIG, configured),
            "layers": described,
        }
        body = json.dumps(manifest, separators=(",", ":")).encode()
        return Root(Descriptor(DOCKER_MANIFEST, self._intake.add(body), len(body)), list(tags))

    def _file(self, name: str) -> Kept:
        kept = self._intake.file(inner(name, name))
        if kept is None:
            raise ArchiveInvalid(f"{shown(name)}: is missing in the archive")
        return kept

    def _diff_ids(self, config: Kept, name: str) -> Sequence[str]:
        """https://github.com/opencontainers/image-spec/blob/main/config.md, C{rootfs.diff_ids}."""
        body = self._intake.manifest(config.digest)
        if body is None:
            raise ArchiveInvalid(f"{shown(name)} is larger than {LIMIT} bytes")
        rootfs = read_object(body, shown(name)).get("rootfs")
        found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        if not _texts(found):
            raise ArchiveInvalid(f"{shown(name)} does not say what its layers are")
        assert isinstance(found, list)
        return found

    def _layer(self, name: str, diff_id: str) -> dict[str, object]:
        kept = self._file(name)
        media_type, unpacked = self._unpacked.get(kept.digest) or self._look(kept, name)
        self._unpacked[kept.digest] = media_type, unpacked
        if unpacked != diff_id:
            raise ArchiveInvalid(f"{shown(name)} holds other bytes than its image says ({unpacked})")
        return _descriptor(media_type, kept)

    def _look(self, kept: Kept, name: str) -> tuple[str, str]:
        """A layer's media type, and the digest of what it is unpacked."""
        try:
            with (kept.path or self._contents.layout.content(kept.digest)).open("rb") as file:
                start = file.read(2)
                if start != _GZIP:
                    return _DOCKER_LAYER, str(kept.digest)
                hasher, inflater, total = hashlib.sha256(), zlib.decompressobj(31), 0
                data = start + file.read(_PIECE)
                while data or not inflater.eof:
                    out = inflater.decompress(data, _PIECE)
                    hasher.update(out)
                    total += len(out)
                    if total > _LARGEST_LAYER:
                        raise ArchiveInvalid(f"{shown(name)} is larger than {_LARGEST_LAYER} bytes when it is unpacked")
                    if inflater.eof:
                        break
                    data = inflater.unconsumed_tail or (b"" if out else file.read(_PIECE))
                    if not data and not out:
                        raise ArchiveInvalid(f"{shown(name)} cannot be unpacked: it is cut short")
        except zlib.error as error:
            raise ArchiveInvalid(f"{shown(name)} cannot be unpacked: {error}") from None
        except OSError as error:
            raise StoreError(f"{kept.path}: {error.strerror}") from error
        return f"{_DOCKER_LAYER}.gzip", f"sha256:{hasher.hexdigest()}"


def _descriptor(media_type: str, kept: Kept) -> dict[str, object]:
    return {"mediaType": media_type, "size": kept.size, "digest": str(kept.digest)}


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
