"""A model store for tests: HTTPS on the lab's bridge, whose answers a test chooses and counts."""

from __future__ import annotations

import ssl
import tempfile
import threading
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from examples.demo.certificates import ServerCertificate, issue

NAME = "store"
PORT = 443
REQUEST_LIMIT = 60.0


class ModelStore:
    """Serves bytes, or a status code, by path.

    Parameters
    ----------
    host:
        Address of this machine as the pods see it.
    namespace:
        Namespace of the Service that stands for it: its DNS name is in the certificate.
    """

    def __init__(self, host: str, namespace: str) -> None:
        self.host = host
        self.namespace = namespace
        self.answers: dict[str, bytes | int] = {}
        self.requests: Counter[str] = Counter()
        self.certificate: ServerCertificate = issue([self.hostname], datetime.now(UTC))
        self._server = ThreadingHTTPServer((host, 0), self._handler())
        self._server.daemon_threads = True
        self._server.socket = self._context().wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def hostname(self) -> str:
        """DNS name in the cluster."""
        return f"{NAME}.{self.namespace}.svc"

    def uri(self, path: str, port: int = PORT) -> str:
        """Address of a path, for a ModelDeployment."""
        return f"https://{self.hostname}{'' if port == PORT else f':{port}'}/{path}"

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    def manifests(self) -> list[dict[str, Any]]:
        """A Service without pods, and where it leads: to this process."""
        metadata = {"name": NAME, "namespace": self.namespace}
        ports = [{"name": "https", "port": PORT, "protocol": "TCP"}]
        slice_labels = {
            "kubernetes.io/service-name": NAME,
            "endpointslice.kubernetes.io/managed-by": "serval-tests",
        }
        return [
            {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}},
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**metadata, "labels": slice_labels},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [self.host], "conditions": {"ready": True}}],
                "ports": [{"name": "https", "port": self._server.server_address[1], "protocol": "TCP"}],
            },
        ]

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            chain, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
            chain.write_text(self.certificate.certificate)
            key.write_text(self.certificate.key)
            context.load_cert_chain(chain, key)
        return context

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = REQUEST_LIMIT

            def do_GET(self) -> None:
                path = self.path.lstrip("/")
                store.requests[path] += 1
                answer = store.answers.get(path, 404)
                body = answer if isinstance(answer, bytes) else b""
                self.send_response(200 if isinstance(answer, bytes) else answer)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing; the requests are counted."""

        return Handler
