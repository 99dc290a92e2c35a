"""An HTTP server that notes requests and answers as it is told, byte by byte."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Told:
    """How to answer."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    missing: int = 0
    """Bytes of the body that are announced and never come."""
    hangs_up: bool = False
    """Whether a connection answers one request, and is closed when the next one comes."""


@dataclass
class Seen:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class _Quiet(ThreadingHTTPServer):
    """Says nothing of connections that their clients reset."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing."""


class PagesServer:
    """The server; it runs in this process."""

    def __init__(self) -> None:
        self.told = Told()
        self.seen: list[Seen] = []
        self._server = _Quiet(("127.0.0.1", 0), self._handler())
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _handler(self) -> Any:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            answered = 0

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.seen.append(Seen(self.command, self.path, dict(self.headers), body))
                told = outer.told
                self.answered += 1
                if told.hangs_up and self.answered > 1:
                    self.close_connection = True
                    return
                self.send_response(told.status)
                for name, value in told.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(told.body) + told.missing))
                self.end_headers()
                self.wfile.write(told.body)
                self.close_connection = told.missing > 0

            do_GET = do_POST = do_PUT = do_OPTIONS = answer  # noqa: N815  the library's names

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler
