"""Token server of the push registry: it lets each account into the repositories that are its own.

Run as ``python -m serval_lab.registry_tokens CONFIG.json``, see `Config`. A registry sends a client here. The
client shows its name and password by HTTP Basic and gets a signed token that lists what it may do. The
registry knows no accounts: it trusts the certificate that signed.

Protocol: https://distribution.github.io/distribution/spec/auth/token/ and .../spec/auth/jwt/. Clients that
try OAuth 2 first (POST) get 405 and then ask by GET.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import ssl
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ISSUER = "serval-lab"
SERVICE = "serval-lab-push-registry"
REQUEST_LIMIT = 30.0
P256_BYTES = 32
LEEWAY = 60
"""Seconds for which distribution accepts a token that has ended."""
LEAST_PROMISE = 60
"""A client takes a token to be good for a minute, whatever it is told: so says the protocol."""
_REPOSITORY = "repository"
_WRITES = frozenset({"push", "delete"})
_READS = frozenset({"pull"})


@dataclass(frozen=True)
class Config:
    """What the token server needs, as JSON in one file.

    Attributes
    ----------
    host, port
        Address to listen on.
    certificate, key
        Files of the pair that signs: the registry trusts the certificate. It also serves TLS.
    accounts
        File with the accounts, read for each request: `{"lifetime": SECONDS, "accounts": {NAME: {"sha256":
        HEX, "push": [PREFIX], "pull": [PREFIX]}}}`. A prefix ends with "/" or is a whole name.
    tls
        Whether it listens with TLS.
    """

    host: str
    port: int
    certificate: str
    key: str
    accounts: str
    tls: bool


def granted(account: Mapping[str, Any], scopes: Iterable[str]) -> list[dict[str, Any]]:
    """Return what an account gets of the scopes that a client asks for.

    Parameters
    ----------
    account
        As `Config.accounts` describes it.
    scopes
        ``repository:NAME:ACTION,...``; several may be in one text, separated by spaces. Others get nothing.
    """
    found = []
    for scope in " ".join(scopes).split():
        kind, _, rest = scope.partition(":")
        name, _, asked = rest.rpartition(":")
        allowed = set[str]()
        if kind == _REPOSITORY:
            allowed |= _READS if _lies_in(name, account["pull"]) else set()
            allowed |= _WRITES if _lies_in(name, account["push"]) else set()
        actions = sorted(allowed & set(asked.split(",")))
        if actions:
            found.append({"type": kind, "name": name, "actions": actions})
    return found


def _lies_in(name: str, prefixes: Iterable[str]) -> bool:
    return any(name == one or (one.endswith("/") and name.startswith(one)) for one in prefixes)


class Signer:
    """Signs tokens that the registry accepts.

    Parameters
    ----------
    certificate, key
        PEM files of an EC pair on the curve P-256.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{key} is no EC key")
        self._key = private
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        self._chain = [base64.b64encode(loaded.public_bytes(serialization.Encoding.DER)).decode()]

    def token(self, subject: str, access: list[dict[str, Any]], lifetime: float) -> str:
        """Return a token for `subject`, which the registry refuses `lifetime` seconds from now."""
        now = int(time.time())
        header = {"typ": "JWT", "alg": "ES256", "x5c": self._chain}
        claims = {
            "iss": ISSUER,
            "sub": subject,
            "aud": SERVICE,
            "iat": now,
            "nbf": now,
            "exp": now + int(lifetime) - LEEWAY,
            "jti": secrets.token_hex(16),
            "access": access,
        }
        signed = ".".join(_encode(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_encode(r.to_bytes(P256_BYTES, 'big') + s.to_bytes(P256_BYTES, 'big'))}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hashed(password: str) -> str:
    """Return how the file of accounts keeps a password; passwords of the lab are random."""
    return hashlib.sha256(password.encode()).hexdigest()


def known(accounts: Mapping[str, Any], authorization: str) -> str | None:
    """Return the account that a Basic ``Authorization`` header proves; None if it proves none."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    account = accounts.get(name)
    return name if account and hmac.compare_digest(account["sha256"], hashed(password)) else None


def server(config: Config) -> ThreadingHTTPServer:
    """Return the server of a configuration, bound to its address."""
    signer = Signer(Path(config.certificate), Path(config.key))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = REQUEST_LIMIT

        def do_GET(self) -> None:
            said: dict[str, Any] = json.loads(Path(config.accounts).read_text())
            name = known(said["accounts"], self.headers.get("Authorization", ""))
            if name is None:
                self._answer(401, {"errors": [{"code": "UNAUTHORIZED"}]})
                return
            scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
            access = granted(said["accounts"][name], scopes)
            token = signer.token(name, access, said["lifetime"])
            self._answer(200, {"token": token, "expires_in": max(LEAST_PROMISE, int(said["lifetime"]))})

        def do_POST(self) -> None:
            self.close_connection = True  # the body is left unread
            self._answer(405, {"errors": [{"code": "UNSUPPORTED"}]})

        def _answer(self, status: int, document: Mapping[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    listening = ThreadingHTTPServer((config.host, config.port), Handler)
    listening.daemon_threads = True
    if config.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(config.certificate, config.key)
        # The handshake is left to each connection's thread, so that a silent client holds up no other.
        listening.socket = context.wrap_socket(
            listening.socket, server_side=True, do_handshake_on_connect=False
        )
    return listening


def main(path: str) -> None:
    """Serve until killed."""
    server(Config(**json.loads(Path(path).read_text()))).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
