"""A token server as the distribution project describes it (its "Token Authentication Specification").

Whoever shows the right name and password may pull everything; whoever shows none may pull C{public/...}.
"""

from __future__ import annotations

import base64
import datetime
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

_ISSUER = "crcache test issuer"
_SERVICE = "registry.test"
_DAY = datetime.timedelta(days=1)


class TokenServer:
    """Listens from when it is made until L{stop}.

    @ivar granted: for every token given, the user's name (empty: anonymous) and the scopes asked for.
    @ivar refused: how often a name and password were wrong.
    """

    def __init__(self, username: str, password: str) -> None:
        self.granted: list[tuple[str, str]] = []
        self.refused = 0
        self._key = rsa.generate_private_key(65537, 2048)
        self._certificate = _self_signed(self._key)
        login = base64.b64encode(f"{username}:{password}".encode()).decode()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, {f"Basic {login}": username}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def realm(self) -> str:
        """The URL to which a registry sends for tokens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/token"

    def registry_settings(self, directory: Path) -> dict[str, str]:
        """What docker-registry needs under C{auth.token}; puts the certificate it is to trust into C{directory}."""
        bundle = directory / "tokens.pem"
        bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        return {"realm": self.realm, "service": _SERVICE, "issuer": _ISSUER, "rootcertbundle": str(bundle)}

    def stop(self) -> None:
        """Listen no more. Idempotent."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def answer(self, user: str, query: dict[str, list[str]]) -> dict[str, object]:
        """The token, as JSON carries it, for a user (empty: anonymous) and a request's query."""
        scopes = " ".join(query.get("scope", []))
        self.granted.append((user, scopes))
        now = int(time.time())
        claims = {
            "iss": _ISSUER,
            "sub": user,
            "aud": query.get("service", [""])[0],
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": secrets.token_hex(8),
            "access": [access for access in map(_parse, scopes.split()) if _permitted(user, access)],
        }
        der = self._certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        signed = _b64(json.dumps(header).encode()) + b"." + _b64(json.dumps(claims).encode())
        signature = self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        return {"token": (signed + b"." + _b64(signature)).decode(), "expires_in": 300}


def _handler(server: TokenServer, logins: dict[str, str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            # containerd tries OAuth 2 first; a server without it answers 405, and containerd goes on with GET.
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._respond(405, {})

        def do_GET(self) -> None:
            login = self.headers.get("Authorization")
            if login is not None and login not in logins:
                server.refused += 1
                return self._respond(401, {})
            user = logins[login] if login is not None else ""
            return self._respond(200, server.answer(user, parse_qs(urlsplit(self.path).query)))

        def _respond(self, status: int, value: dict[str, object]) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test's output is not the place."""

    return Handler


def _parse(scope: str) -> dict[str, Any]:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return {"type": kind, "name": name, "actions": actions.split(",")}


def _permitted(user: str, access: dict[str, Any]) -> bool:
    return bool(user) or (access["name"].startswith("public/") and access["actions"] == ["pull"])


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _self_signed(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _ISSUER)])
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _DAY).not_valid_after(now + 30 * _DAY).sign(key, hashes.SHA256())
