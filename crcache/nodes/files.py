"""Files below a root directory: read, and replaced whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from crcache.errors import ConfigError

#: No engine's configuration is larger.
_LARGEST = 1 << 20
_MOST_LINKS = 40


class Files:
    """The files of a host, whose root directory may be mounted elsewhere. All paths are the host's own, absolute.

    Symbolic links are followed inside that root, so a file that is one stays one: its target is written.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.abspath(root))

    def shown(self, path: str) -> str:
        """The path as the person at the keyboard would type it."""
        return str(self._root / path.lstrip("/"))

    def real(self, path: str) -> Path:
        """Where that is, every link followed; what is not there yet is taken as written.

        @raise ConfigError: for links that go in circles.
        """
        left = [part for part in reversed(PurePosixPath(path).parts) if part != "/"]
        found, links = self._root, 0
        while left:
            part = left.pop()
            if part == "..":
                found = self._root if found == self._root else found.parent
                continue
            here = found / part
            try:
                target = os.readlink(here)
            except OSError:
                found = here
                continue
            links += 1
            if links > _MOST_LINKS:
                raise ConfigError(f"{self.shown(path)}: too many symbolic links")
            if target.startswith("/"):
                found = self._root
            left.extend(part for part in reversed(PurePosixPath(target).parts) if part != "/")
        return found

    def read(self, path: str) -> str | None:
        """The text of a file; C{None} if there is none.

        @raise ConfigError: if it cannot be read, or is no text, or too large to be a configuration.
        """
        try:
            with self.real(path).open("rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise ConfigError(f"{self.shown(path)}: is not a file")
                data = file.read(_LARGEST + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._failure(path, error) from error
        if len(data) > _LARGEST:
            raise ConfigError(f"{self.shown(path)}: is larger than 1 MiB")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self.shown(path)}: is not UTF-8 text") from error

    def names(self, path: str) -> list[str]:
        """The names of all that is in a directory, sorted; none if it is not there."""
        try:
            return sorted(os.listdir(self.real(path)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self._failure(path, error) from error

    def is_file(self, path: str) -> bool:
        """Whether there is a regular file: a link to C{/dev/null}, by which systemd masks, leads to none."""
        return self.real(path).is_file()

    def is_directory(self, path: str) -> bool:
        """Whether there is a directory."""
        return self.real(path).is_dir()

    def write(self, path: str, text: str, *, like: str, mode: int) -> None:
        """Put C{text} there, on disk, at once and whole; the directories are made if need be.

        @param like: the file whose mode, owner and extended attributes it gets, if that is there.
        @param mode: its mode otherwise.
        @raise ConfigError: if that fails; what was there before is there still.
        """
        target, model = self.real(path), self.real(like)
        try:
            _make(target.parent)
            descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".crcache")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    _dress(file.fileno(), model, mode)
                    file.write(text.encode())
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, target)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
                raise
            _sync(target.parent)
        except OSError as error:
            raise self._failure(path, error) from error

    def remove(self, path: str) -> None:
        """Remove a file, if it is there.

        @raise ConfigError: if that fails.
        """
        target = self.real(path)
        try:
            target.unlink(missing_ok=True)
            _sync(target.parent)
        except OSError as error:
            raise self._failure(path, error) from error

    def remove_directory(self, path: str) -> None:
        """Remove a directory if it is there and empty."""
        with contextlib.suppress(OSError):
            self.real(path).rmdir()

    def _failure(self, path: str, error: OSError) -> ConfigError:
        remedy = "; run this as root" if isinstance(error, PermissionError) and os.geteuid() != 0 else ""
        return ConfigError(f"{self.shown(path)}: {error.strerror or error}{remedy}")


@dataclass(frozen=True)
class Step:
    """One file to write or to remove.

    @ivar text: what to put there; C{None} to remove it.
    @ivar like: the file whose mode and owner it gets, if not its own.
    @ivar mode: of a new file.
    @ivar quiet: whether it is a copy or a record, which is of no interest.
    @ivar told: what in it is crcache's own, for all to see. The rest may have passwords in it.
    """

    path: str
    text: str | None
    like: str | None = None
    mode: int = 0o644
    quiet: bool = False
    told: str | None = None


def take(files: Files, steps: list[Step]) -> None:
    """Do them, in order: one that fails leaves those before it done, and the rest for another run.

    @raise ConfigError: if one fails.
    """
    for step in steps:
        if step.text is None:
            files.remove(step.path)
        else:
            files.write(step.path, step.text, like=step.like or step.path, mode=step.mode)


def _dress(descriptor: int, model: Path, mode: int) -> None:
    try:
        found = model.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, mode)
        return
    mine = os.fstat(descriptor)
    if (mine.st_uid, mine.st_gid) != (found.st_uid, found.st_gid):
        os.fchown(descriptor, found.st_uid, found.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
    # Among these are the label of SELinux and who else may read it. Not every file system has them; not all can be set.
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = os.listxattr(model)
    for name in names:
        with contextlib.suppress(OSError):
            os.setxattr(descriptor, name, os.getxattr(model, name))


def _make(directory: Path) -> None:
    """For all to enter, whatever the umask: engines that are not root's read there, too."""
    if not directory.is_dir():
        _make(directory.parent)
        directory.mkdir()
        directory.chmod(0o755)
        _sync(directory.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
