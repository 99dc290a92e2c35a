"""Answers the progress page of a stage.

Anybody who reaches the pod can connect. So a request has little time and few bytes, and few are answered at
once.
"""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from typing import Any, Final, Self

from serval_contract.progress import PROGRESS_PATH, Progress

MAX_CONNECTIONS: Final = 4
"""At once; others are closed without an answer."""
REQUEST_SECONDS: Final = 2.0
MAX_REQUEST_BYTES: Final = 4096


class ProgressPage(socketserver.ThreadingTCPServer):
    """A server of one page; ends with its ``with`` statement.

    Parameters
    ----------
    port:
        TCP port; 0 for any that is free.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int) -> None:
        # One socket for IPv6 and IPv4: a pod may have an address of either kind only.
        self.address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        super().__init__(("", port), _Request)
        self.progress = Progress()
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def server_bind(self) -> None:
        """Bind the socket."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, if there is a place."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that went away is none of the stage's errors."""


class _Request(socketserver.BaseRequestHandler):
    """One connection, which is closed after one answer."""

    request: socket.socket
    server: ProgressPage

    def handle(self) -> None:
        line = self._head().split(b"\r\n", 1)[0]
        if line.split(b" ")[:2] == [b"GET", PROGRESS_PATH.encode("ascii")]:
            status, body = "200 OK", self.server.progress.dump().encode("ascii")
        else:
            status, body = "404 Not Found", b""
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.request.settimeout(REQUEST_SECONDS)
        self.request.sendall(f"{head}Connection: close\r\n\r\n".encode("ascii") + body)

    def _head(self) -> bytes:
        """Read up to the empty line; raises OSError where that takes too long."""
        deadline = time.monotonic() + REQUEST_SECONDS
        head = b""
        while b"\r\n\r\n" not in head and len(head) < MAX_REQUEST_BYTES:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the request is slow")
            self.request.settimeout(left)
            piece = self.request.recv(MAX_REQUEST_BYTES)
            if not piece:
                raise ConnectionError("the request is cut")
            head += piece
        return head
