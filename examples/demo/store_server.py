"""The model store's server: the files of one folder over HTTPS. Runs in the cluster, from a ConfigMap.

python3 store_server.py FOLDER CERTIFICATES PORT
"""

from __future__ import annotations

import ssl
import sys
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from signal import SIGTERM, signal
from typing import Any

REQUEST_LIMIT_S = 60.0


class FileHandler(SimpleHTTPRequestHandler):
    """Serves files, lists no folders."""

    protocol_version = "HTTP/1.1"
    timeout = REQUEST_LIMIT_S

    def do_GET(self) -> None:
        """Answer the root, which probes ask for, and files."""
        if self.path != "/":
            super().do_GET()
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def list_directory(self, path: Any) -> None:  # noqa: ARG002 the signature is the base class's
        """Answer 404 where there is no file."""
        self.send_error(HTTPStatus.NOT_FOUND)


def serve(folder: Path, certificates: Path, port: int) -> ThreadingHTTPServer:
    """Return a server that listens; its TLS handshakes run in the threads of its connections.

    Parameters
    ----------
    folder:
        Whose files are served.
    certificates:
        Folder with ``tls.crt`` and ``tls.key``.
    port:
        0 for any.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
    server = ThreadingHTTPServer(("", port), partial(FileHandler, directory=str(folder)))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


def main() -> None:
    """Serve until told to stop."""
    signal(SIGTERM, lambda *_: sys.exit(0))
    folder, certificates, port = sys.argv[1:]
    serve(Path(folder), Path(certificates), int(port)).serve_forever()


if __name__ == "__main__":
    main()
