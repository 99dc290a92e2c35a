"""A TLS server on loopback with an authority of its own."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "models.test"


@dataclass(frozen=True)
class Pki:
    """Files of an authority and of a server certificate for `HOST` and 127.0.0.1."""

    ca: Path
    certificate: Path
    key: Path


def make_pki(folder: Path, authority: str = "test authority") -> Pki:
    ca_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, authority)])
    start = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)

    def builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + dt.timedelta(days=1))
        )

    ca = (
        builder(ca_name, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName(
        [x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    server_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    server = (
        builder(server_name, server_key).add_extension(names, critical=False).sign(ca_key, hashes.SHA256())
    )
    pki = Pki(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    pki.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    pki.certificate.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    pki.key.write_bytes(
        server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return pki


Answer = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """What the server answers, by path, and what it was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.answers: dict[str, list[Answer]] = {}
        self.requests: list[tuple[str, str]] = []

    def uri(self, path: str, host: str = HOST) -> str:
        return f"https://{host}:{self.port}{path}"

    def serve(self, path: str, *answers: Answer) -> str:
        """Give the answers one after the other, the last one for ever; return the URI."""
        self.answers[path] = list(answers)
        return self.uri(path)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        self.requests.append((handler.path, handler.headers.get("Host", "")))
        answers = self.answers.get(path, [status(404)])
        (answers.pop(0) if len(answers) > 1 else answers[0])(handler)


def content(data: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def chunked(data: bytes, times: int) -> Answer:
    """`data` so many times, without a Content-Length."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            for _ in range(times):
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            handler.wfile.write(b"0\r\n\r\n")
        except OSError:
            return  # the client has seen enough

    return answer


def cut_short(data: bytes, claimed: int) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(claimed))
        handler.end_headers()
        handler.wfile.write(data)
        handler.close_connection = True

    return answer


def status(code: int, location: str | None = None) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        if location is not None:
            handler.send_header("Location", location)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@contextmanager
def serving(site: Site, pki: Pki) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.handle(self)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.certificate, pki.key)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def finish_request(self, request: object, address: object) -> None:
            # The handshake belongs into the connection's own thread.
            try:
                with context.wrap_socket(request, server_side=True) as tls:  # type: ignore[arg-type]
                    super().finish_request(tls, address)  # type: ignore[arg-type]
            except OSError:
                return  # a client that does not trust us hangs up

    with Server(("127.0.0.1", 0), Handler) as server:
        site.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join(timeout=10)
