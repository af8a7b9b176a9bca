"""Twisted's endpoint strings, tried before anything listens."""

from __future__ import annotations

import re

from crcache.grammar.excerpt import excerpt

_TCP = re.compile(r"(?:tcp6?|ssl|tls):(?P<port>-?[0-9]+)(?::.*)?", re.DOTALL)
_SERVER_PORT = re.compile(r"(?P<host>[0-9.]*):(?P<port>[0-9]+)|(?P<alone>[0-9]+)")

_EXAMPLE = "tcp:3000 or tcp:3000:interface=127.0.0.1"


def check_endpoint(description: str, reactor: object, *, inherited: bool = True) -> None:
    """Make the server endpoint that C{description} means, and forget it: nothing listens.

    @param reactor: handed to the endpoint, which does not use it yet.
    @param inherited: whether this process is the one to which systemd hands its sockets. Elsewhere a C{systemd:}
        endpoint may name a socket that is not there.
    @raise ValueError: with what is wrong and what would be right.
    """
    # Not at the top: this import takes LISTEN_FDS and LISTEN_PID out of os.environ, and no module that merely
    # imports this one should find them gone.
    from twisted.internet.endpoints import serverFromString

    shown = excerpt(description)
    alike = _SERVER_PORT.fullmatch(description)
    if alike is not None:
        better = f"tcp:{alike['port'] or alike['alone']}" + (f":interface={alike['host']}" if alike["host"] else "")
        raise ValueError(f"{shown} is not an endpoint; {better} is")
    tcp = _TCP.fullmatch(description)
    if tcp is not None and not 0 <= int(tcp["port"][:9]) <= 65535:
        raise ValueError(f"{shown} has a port beyond 65535")
    kind = description.partition(":")[0]
    try:
        serverFromString(reactor, description)
    except (IndexError, KeyError):
        if kind != "systemd":
            raise ValueError(f"{shown} is not an endpoint such as {_EXAMPLE}") from None
        if inherited:
            raise ValueError(f"{shown} is not a socket that systemd handed over; start the .socket unit") from None
    except OSError as error:
        raise ValueError(f"{shown} needs {error.filename}: {error.strerror}") from None
    except Exception as error:
        # Types of endpoints are plugins, and each fails in its own way.
        unknown = isinstance(error, ValueError) and "Unknown endpoint type" in str(error)
        what = f"there is no type {excerpt(kind)}" if unknown else f"its arguments are not those of {excerpt(kind)}"
        raise ValueError(f"{shown} is not an endpoint such as {_EXAMPLE}: {what}") from None
