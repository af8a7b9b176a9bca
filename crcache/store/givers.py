"""Which repositories have given everyone which content: an empty file for each, beside each other. All of it blocks.

No lock is needed, whoever does what at the same time, or dies. A giver's file begins as a draft, and gets its name only
if its repository is not noted as private after that. Who notes it as private takes back afterwards, drafts first: what
has not got its name by then gets none, and what is begun later sees the note.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from crcache.errors import StoreError
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository
from crcache.store.files import into_place, open_new, touch
from crcache.store.layout import Layout

#: Givers of one content that are noted. Once all of them are private, others have to show it again.
MOST = 8
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME = re.compile("[0-9a-f]{32}")
#: So often a directory may be removed just before something is put there.
_TRIES = 8


class Givers:
    """The directories in C{openly/}, which anybody may remove at any time: what is not there has not been given."""

    def __init__(self, layout: Layout, clock: Callable[[], float]) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        """
        self._layout = layout
        self._clock = clock

    def any(self, digest: Digest) -> bool:
        """Whether some repository gives everyone this content. Its use is noted, hourly at most."""
        return bool(self._names(self._layout.given(digest)))

    def _names(self, directory: Path) -> set[str]:
        try:
            fd = os.open(directory, _DIRECTORY)
        except OSError:
            return set()
        try:
            with os.scandir(fd) as found:
                names = {
                    each.name for each in found if _NAME.fullmatch(each.name) and each.is_file(follow_symlinks=False)
                }
            if names:
                touch(fd, self._clock())
            return names
        except OSError:
            return set()
        finally:
            os.close(fd)

    def add(self, registry: Registry, repository: Repository, digest: Digest) -> None:
        """The repository has given everyone this content. That of a private one is taken back instead.

        @raise StoreError: if that cannot be noted.
        """
        own = self._layout.giver(registry, repository, digest)
        if self._private(registry, repository):
            self.take_back(registry, repository, digest)
            return
        names = self._names(own.parent)
        if own.name in names or len(names) >= MOST:
            return
        draft = own.parent / f".{own.name}.{secrets.token_hex(8)}"
        try:
            _create(draft)
            if self._private(registry, repository):
                self.take_back(registry, repository, digest)
            else:
                into_place(draft, own)
        except FileNotFoundError:
            # It was taken back meanwhile, or somebody has cleaned.
            pass
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise StoreError(f"{own}: {error.strerror}") from error

    def take_back(self, registry: Registry, repository: Repository, digest: Digest, *, tidy: bool = True) -> None:
        """The repository gives nobody this content any more. Idempotent.

        @param tidy: remove the directory as well, if it is empty now: that takes most of the time.
        @raise StoreError: if it stays given.
        """
        own = self._layout.giver(registry, repository, digest)
        try:
            names = os.listdir(own.parent)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise StoreError(f"{own.parent}: {error.strerror}") from error
        # The name itself comes last, whether it was seen or not: a draft may just have got it.
        drafts = [name for name in names if name.startswith(f".{own.name}.")]
        for name in (*drafts, own.name):
            try:
                os.unlink(own.parent / name)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                pass
            except OSError as error:
                raise StoreError(f"{own}: {error.strerror}") from error
        if tidy:
            with contextlib.suppress(OSError):
                os.rmdir(own.parent)

    def _private(self, registry: Registry, repository: Repository) -> bool:
        return os.path.lexists(self._layout.privacy(registry, repository))


def _create(draft: Path) -> None:
    """An empty file. What is no directory in its directory's place, as of a release that knew no givers, makes way.

    @raise OSError: as open(2).
    """
    for _ in range(_TRIES):
        try:
            os.close(open_new(draft, 0o640))
            return
        except FileNotFoundError:
            pass
        except (NotADirectoryError, FileExistsError):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(draft.parent)
    os.close(open_new(draft, 0o640))
