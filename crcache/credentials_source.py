"""Where the file of default credentials is: a flag, the environment, systemd; and how it is read once more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crcache.credentials_file import Scope, load_credentials, parse_credentials
from crcache.errors import ConfigError
from crcache.settings import Credential, Credentials

#: What the credentials file is called among systemd's credentials.
CREDENTIAL = "crcache-credentials"

#: The variables of the environment: a path, and the text itself.
FILE_VARIABLE = "CRCACHE_CREDENTIALS_FILE"
TEXT_VARIABLE = "CRCACHE_CREDENTIALS"


@dataclass(frozen=True)
class Origin:
    """The one place that credentials are read from, besides the configuration itself.

    @ivar path: of the file; C{None} if it is the text of a variable.
    """

    path: Path | None
    text: str = ""

    def __repr__(self) -> str:
        return f"Origin({self.path})"


@dataclass(frozen=True)
class Reading:
    """How the credentials in force came about.

    @ivar path: the file that they are in.
    @ivar own: what the configuration says itself, which wins.
    """

    path: Path
    own: Mapping[Scope, Credential]

    def again(self) -> tuple[Credentials, tuple[str, ...]]:
        """As the file is now, and warnings of one line each. Blocks.

        @raise ConfigError: with one line that names the file and the key.
        """
        found, warnings = load_credentials(self.path)
        return together(found, self.own), warnings


def choose(flag: Path | None, environ: Mapping[str, str]) -> Origin | None:
    """The first that there is of: a flag's file, the environment's file or text, the file that systemd hands over.

    @raise ConfigError: if the environment has both, or a relative path.
    """
    if flag is not None:
        return Origin(flag)
    file, text = environ.get(FILE_VARIABLE, ""), environ.get(TEXT_VARIABLE, "")
    if file and text:
        raise ConfigError(f"{TEXT_VARIABLE}: is set, and {FILE_VARIABLE} is too; keep one of them")
    if file:
        if not Path(file).is_absolute():
            raise ConfigError(f"{FILE_VARIABLE}: must be an absolute path")
        return Origin(Path(file))
    if text:
        return Origin(None, text)
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    handed = Path(directory, CREDENTIAL)
    return Origin(handed) if directory and is_there(handed) else None


def read(origin: Origin | None, own: Mapping[Scope, Credential]) -> tuple[Credentials, tuple[str, ...], Reading | None]:
    """All credentials, warnings of one line each, and how to read them again, if they are in a file.

    @raise ConfigError: as L{Reading.again}.
    """
    if origin is None:
        return Credentials(own), (), None
    if origin.path is None:
        return together(parse_credentials(TEXT_VARIABLE, origin.text), own), (), None
    reading = Reading(origin.path, own)
    return *reading.again(), reading


def together(found: Credentials, own: Mapping[Scope, Credential]) -> Credentials:
    """What was found in the file, and over it what the configuration says itself."""
    without = {registry: "" for registry, _ in own if found.helpers.get(registry, found.store)}
    return Credentials({**found.entries, **own}, {**found.helpers, **without}, found.store)


def is_there(path: Path) -> bool:
    """Whether there is a file, or something that reading will complain of."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # It may well be there: reading it tells the administrator why it can't be.
        return True
    return True
