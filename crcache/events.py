"""What is logged: a name and a message id for every kind of event, and the fields that lines carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """A kind of event. Log calls carry it as C{event}.

    @ivar name: for people and for JSON.
    @ivar id: the journal's C{MESSAGE_ID}, 32 hexadecimal digits. Once released it never changes: filters rely on it,
        and so does C{systemd/crcache.catalog}.
    """

    name: str
    id: str


#: What a line may say in fields of their own. Nothing else of a log call leaves the process, but in its sentence.
FIELDS = (
    "registry",
    "repository",
    "reference",
    "digest",
    "status",
    "cache",
    "bytes",
    "seconds",
    "request_id",
    "client",
    "method",
    "kind",
    "origin",
    "url",
    "path",
    "problem",
    "user",
    "version",
    "addresses",
    "repeated",
    "count",
)

# A client's requests -----------------------------------------------------------------------

REQUEST = Event("request", "a078e7a64d4d4d8081b4c74f6b7c25ea")
NOT_HTTP = Event("not-http", "b58522584a5048848673d37a985ca482")
RELAY_BROKEN = Event("relay-broken", "783f460d80a342c6a50a86ac81d9949d")
CLIENT_LET_GO = Event("client-let-go", "820cc7db550a4251976fe17f3d342143")
CONNECTIONS_REFUSED = Event("connections-refused", "16bf13feb70540238824c9dd15fd45a3")
CLIENT_SLOW = Event("client-slow", "37dbf5d21f6c4b7d8d980247942518c8")
STALE_SERVED = Event("stale-served", "09b1f7f0afbf4ab480d57375e9c9452f")

# Registries --------------------------------------------------------------------------------

FETCHED = Event("fetched", "c1e13bb8dd904cc29124c1f95791dbe9")
FETCH_RESUMED = Event("fetch-resumed", "a33a1eaa2dc0476a8cc5ee25e9bad5a5")
FETCH_FAILED = Event("fetch-failed", "1be0d177174141a4b188b913c5cb5927")
ORIGIN_FAILING = Event("origin-failing", "01c2bd4a6fb24f0f89db76ba0ed4a3a7")
ORIGIN_ANSWERS = Event("origin-answers", "13af5469a641432e91bc1dc352b5ff8a")
PARENT_FAILING = Event("parent-failing", "12d6717372b7430181c132230aab964c")
PARENT_ANSWERS = Event("parent-answers", "6a5672be7c214f79812c0fedf8e89ec7")
PARENTS_LOOP = Event("parents-loop", "c1c56a60b77c4915bf4ddbc2d98fa1fc")
NOT_ALLOWED = Event("not-allowed", "6f8dd8d499cd4d8ab7f76670a85a4d43")
LED_ASTRAY = Event("led-astray", "fa7cd899452b46daabbf3792466ae4fa")
CONTENT_WRONG = Event("content-wrong", "cc5463860d1a4a21b9d948cc906bdab2")
ACCESS_UNKNOWN = Event("access-unknown", "9627716f9b134d15844fdf3565cf1e56")
CREDENTIALS_REFUSED = Event("credentials-refused", "d7cb9474c8494ba7871bfb8623da98ac")
CREDENTIALS_WITHHELD = Event("credentials-withheld", "0802ac382ea348a785314c99d60e8a31")
HELPER_FAILED = Event("helper-failed", "6e5f441cff1a4e4aad83eb52c722c5ed")

# The cache directory -----------------------------------------------------------------------

CACHE_WAITING = Event("cache-waiting", "3e1bdfb2123c4311a9470b933bb2ce12")
CACHE_THERE = Event("cache-there", "e27493bb99214238a45d40767f24eb3c")
CACHE_FAILED = Event("cache-failed", "2f0127682ea543cb89cb0860886ba351")
NOT_KEPT = Event("not-kept", "4755771d59d44999af0a647a378ff8f2")
CARRIED_ON = Event("carried-on", "da50101c787a4f9e8b9d377aedb81e26")
CONTENT_DAMAGED = Event("content-damaged", "036ce26692a94e88b0cf86c3de29152d")
CONTENT_CHECKED = Event("content-checked", "fe8330f1a0bd4d299f4f2e8839586e13")
EVICTED = Event("evicted", "4b1c1fa853af4d43926e636db72cf28a")

# The bucket --------------------------------------------------------------------------------

BUCKET_FAILING = Event("bucket-failing", "e3698bade8e641c5a90921b4dd00b9a7")
BUCKET_ANSWERS = Event("bucket-answers", "82c4724fd380461a9d2dfa6d35cb7faf")
BUCKET_REFUSED = Event("bucket-refused", "2b0985c9f88442d1a5c8300c5d22acbf")
BUCKET_WRONG = Event("bucket-wrong", "889e92ec51ec477496308e7329301423")
UPLOAD_DROPPED = Event("upload-dropped", "e65554f03b404cd890c9c4acd9902a69")

# The daemon --------------------------------------------------------------------------------

READY = Event("ready", "87584ac5e7cb41439dbd7dc653be2708")
CANNOT_START = Event("cannot-start", "55b59e200aa849cebd7be62784511845")
DRAINING = Event("draining", "e158bc062cf340b0875d29e2715cca5d")
HURRIED = Event("hurried", "97cfa1eac4d74eaa88f7901c45205c65")
BROKEN_OFF = Event("broken-off", "7f8ff8a4764d4de291404c6d233d0aeb")
LEFT_BEHIND = Event("left-behind", "cffcb17c021d44aabb6e6da91df747de")
STOPPED = Event("stopped", "3ab8be76d96e4e43bd4c34e7eba0b7bd")
RELOADED = Event("reloaded", "f1de4a6b19c84815bb62bfebd82cc3a8")
RELOAD_REFUSED = Event("reload-refused", "3d0d5d753c7b410fa37a2a7b789971b9")
CERTIFICATE_RENEWED = Event("certificate-renewed", "73b6f2de2c4348d5a9f44985a97c2a34")
CERTIFICATE_KEPT = Event("certificate-kept", "43145cbde2294cea867d7f8d3f893517")
RESTART_NEEDED = Event("restart-needed", "3358396b54d74df98431eda77f73e1d1")
WARNING = Event("warning", "e47e08a38ce04cbc83d88215f7595894")
GRANTS_ALONE = Event("grants-alone", "05513a528fe24c06a0ed5af9051fbd06")
INTERNAL_ERROR = Event("internal-error", "dbcc8691cf4b424ca68c749bb073ffad")

# The log itself ----------------------------------------------------------------------------

REPEATED = Event("repeated", "473b546961ba40fda3370d38aa4f5844")
LINES_LOST = Event("lines-lost", "b55444d72714405d852c30d2637d3bf7")

#: All of them.
EVENTS = tuple(value for value in tuple(globals().values()) if isinstance(value, Event))


def about(thing: object) -> dict[str, Any]:
    """The fields that say what an ask, or a question to an origin, is about."""
    found: dict[str, Any] = {}
    for name in ("registry", "repository", "reference", "digest"):
        value = getattr(thing, name, None)
        if value is not None:
            found[name] = str(value)
    reference = found.setdefault("reference", found.get("digest", "-"))
    if ":" in reference:
        # A tag has no colon.
        found["digest"] = reference
    found["request_id"] = str(getattr(getattr(thing, "client", thing), "request_id", "-"))
    return found
