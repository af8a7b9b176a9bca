"""Everything that an archive holds, hashed as it comes, and kept where nobody sees it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from crcache.errors import ArchiveInvalid, CrcacheError, StoreError
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import LIMIT
from crcache.images.tar import Kind, Member, Tar, shown
from crcache.store.contents import Contents
from crcache.store.staging import Staging

_BLOB = re.compile(r"blobs/([^/]+)/([^/]+)")
#: What is read into memory, at most so large.
LAYOUT, INDEX, DOCKER = "oci-layout", "index.json", "manifest.json"
_DOCUMENTS = (LAYOUT, INDEX, DOCKER)
#: Of what older releases of docker put into archives for still older ones, and nobody reads here.
_LEGACY = re.compile(r"repositories|[0-9a-f]{64}/(?:VERSION|json)")
_LONGEST_LEGACY = 1 << 20
_LONGEST_CHAIN = 8


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of the archive.

    @ivar digest: of its bytes.
    @ivar path: where they wait; C{None} if they are content of the cache already.
    """

    digest: Digest
    size: int
    path: Path | None


class Intake:
    """Takes in an archive. What its members hold is verified wherever their names say what it is.

    @ivar documents: the few members that say what is in the archive, by name.
    @ivar files: the other files, by name.
    @ivar made: manifests that have been made for what has none.
    """

    def __init__(self, contents: Contents, staging: Staging) -> None:
        self.documents: dict[str, bytes] = {}
        self.files: dict[str, Kept] = {}
        self.made: dict[Digest, bytes] = {}
        self._held: dict[Digest, Kept] = {}
        self._links: dict[str, str] = {}
        self._legacy: set[str] = set()
        self._contents = contents
        self._staging = staging

    def take(self, tar: Tar) -> None:
        """Read all of it.

        @raise ArchiveInvalid: if something in it is not what archives of images have, or lies.
        @raise StoreError: if the disk fails, or has no room for it.
        """
        for member in tar:
            if member.kind is Kind.FILE:
                self._file(member, tar)
            elif member.kind is not Kind.DIRECTORY:
                self._once(member.name, self._links.get(member.name) == member.target)
                self._links[member.name] = member.target

    def _file(self, member: Member, tar: Tar) -> None:
        name = member.name
        if _LEGACY.fullmatch(name):
            if member.size > _LONGEST_LEGACY:
                raise ArchiveInvalid(f"{name} has {member.size} bytes")
            self._legacy.add(name)
        elif name in _DOCUMENTS:
            if member.size > LIMIT:
                raise ArchiveInvalid(f"{name} is larger than {LIMIT} bytes")
            body = b"".join(tar.pieces())
            self._once(name, self.documents.get(name) == body)
            self.documents[name] = body
        else:
            kept = self._keep(member, tar)
            before = self.files.get(name)
            self._once(name, before is not None and before.digest == kept.digest)
            self.files[name] = kept

    def _once(self, name: str, same: bool) -> None:
        """A name may come twice, if it is the same both times."""
        known = name in self.files or name in self.documents or name in self._links or name in self._legacy
        if not name or (known and not same):
            raise ArchiveInvalid(f"{shown(name)}: is there twice, and not the same both times")

    def _keep(self, member: Member, tar: Tar) -> Kept:
        claimed = _claimed(member.name)
        if claimed is not None and self._there(claimed, member.size):
            path, fd = None, -1
        else:
            try:
                path, fd = self._staging.new(member.size)
            except StoreError as problem:
                raise StoreError(f"{member.name} has {member.size} bytes: {problem.message}") from None
            except OSError as error:
                raise StoreError(f"{self._staging.directory}: {error.strerror}") from error
        hasher, written = Digest.of(b"").hasher() if claimed is None else claimed.hasher(), 0
        try:
            for piece in tar.pieces():
                hasher.update(piece)
                if path is not None:
                    self._write(fd, path, piece, written, member.size)
                    written += len(piece)
        finally:
            if fd >= 0:
                os.close(fd)
        digest = Digest("sha256" if claimed is None else claimed.algorithm, hasher.hexdigest())
        if claimed is not None and digest != claimed:
            raise ArchiveInvalid(f"{member.name} holds other bytes than its name says ({digest})")
        return self._held.setdefault(digest, Kept(digest, member.size, path))

    def _write(self, fd: int, path: Path, piece: bytes, written: int, size: int) -> None:
        try:
            self._staging.write(fd, path, piece, written, size)
        except OSError as error:
            raise StoreError(f"{self._staging.directory}: {error.strerror}") from error

    def _there(self, digest: Digest, size: int) -> bool:
        """Whether it is content already, and right as far as its seal tells; its use is noted."""
        found = self._contents.find(digest)
        if found is not None and not found.sealed:
            self._contents.check(digest)
            found = self._contents.find(digest)
        there = found is not None and found.sealed and found.size == size
        if there:
            # Not within the hour: the rest of the archive may need the room of what goes next.
            self._contents.touch(digest)
        return there

    def file(self, name: str) -> Kept | None:
        """A file by its name, or by that of a link which leads to it.

        @raise ArchiveInvalid: if links lead nowhere.
        """
        path = name
        for _ in range(_LONGEST_CHAIN):
            if path in self.files or path not in self._links:
                break
            path = self._links[path]
        if path in self._links and path not in self.files:
            raise ArchiveInvalid(f"{shown(name)}: is a link that leads to no file")
        return self.files.get(path)

    def links(self) -> None:
        """See that each link leads to something.

        @raise ArchiveInvalid: naming one that does not.
        """
        for name in self._links:
            if self.file(name) is None and not self._beneath(self._links[name]):
                raise ArchiveInvalid(f"{shown(name)}: is a link to {shown(self._links[name])}, which is not there")

    def _beneath(self, name: str) -> bool:
        return name in self.documents or name in self._legacy

    def kept(self, digest: Digest) -> Kept | None:
        """Where content of this digest is."""
        return self._held.get(digest)

    def add(self, body: bytes) -> Digest:
        """Have a manifest that has been made for what is in the archive."""
        digest = Digest.of(body)
        self.made[digest] = body
        return digest

    # As a holder of images

    def size(self, digest: Digest) -> int | None:
        """As L{Holder.size<crcache.images.closure.Holder>}."""
        kept = self._held.get(digest)
        return None if kept is None else kept.size

    def manifest(self, digest: Digest) -> bytes | None:
        """As L{Holder.manifest<crcache.images.closure.Holder>}."""
        if digest in self.made:
            return self.made[digest]
        kept = self._held.get(digest)
        if kept is None or kept.size > LIMIT:
            return None
        if kept.path is None:
            body = self._contents.read(digest, LIMIT)
            if body is None:
                raise vanished(self._contents, digest)
            return body
        try:
            return kept.path.read_bytes()
        except OSError as error:
            raise StoreError(f"{kept.path}: {error.strerror}") from error


def vanished(contents: Contents, digest: Digest) -> StoreError:
    """Content was there, and others have removed it since."""
    return StoreError(f"{contents.layout.content(digest)} has vanished meanwhile: import it again")


def _claimed(name: str) -> Digest | None:
    """What the name of a file in an OCI layout says that it holds."""
    matched = _BLOB.fullmatch(name)
    if matched is None:
        return None
    try:
        return Digest(*matched.groups())
    except CrcacheError as problem:
        raise ArchiveInvalid(f"{shown(name)}: {problem.message}") from None
