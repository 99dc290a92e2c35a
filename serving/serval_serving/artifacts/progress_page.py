"""Serves the progress page of a stage (`serval_contract.progress`) while the stage works."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from serval_contract.progress import PROGRESS_PATH, Progress

_SECONDS: Final = 10.0
"""How long a request may take."""


class SentBytes:
    """Counts the bytes that a stage sent; threads may read it.

    Parameters
    ----------
    stage:
        Name of the stage.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._sent = 0
        self.total: int | None = None
        self.message = ""

    def add(self, count: int) -> None:
        """Count bytes; one thread may."""
        self._sent += count

    def page(self) -> str:
        """Return the page."""
        return Progress(self._sent, self.total, "bytes", self.message, self._stage).dump()


@contextmanager
def served(port: int, sent: SentBytes) -> Iterator[int]:
    """Answer ``GET /progress`` on a port of all addresses; yield the port. A negative one opens none."""
    if port < 0:
        yield port
        return

    class Handler(BaseHTTPRequestHandler):
        timeout = _SECONDS

        def do_GET(self) -> None:
            data = sent.page().encode()
            found = self.path == PROGRESS_PATH
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data) if found else 0))
            self.end_headers()
            self.wfile.write(data if found else b"")

        def log_message(self, *_: object) -> None:
            """Keep the log for the stage."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
