"""A proxy on loopback through which a library connects that resolves names by itself.

`obstore` is native code: what it connects to cannot be judged from outside. So it is given this proxy, which
resolves each name once, judges the addresses, and connects to one that passed. TLS goes through unread. What
went wrong is kept in our own words, since the library's are few.
"""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from serval_serving.fetch.errors import FetchError, unavailable
from serval_serving.fetch.safety.address_policy import AddressPolicy, Resolve
from serval_serving.fetch.safety.transport import CONNECT_SECONDS, allowed_addresses, no_connection
from serval_serving.fetch.sources import HTTP_PORT

MAX_HEAD_BYTES: Final = 1 << 16
IDLE_SECONDS: Final = 120.0
"""After this a connection on which nothing moves is closed."""
_PIECE_BYTES: Final = 1 << 18
_END_OF_HEAD: Final = b"\r\n\r\n"
_CONNECTED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_REFUSED: Final = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_FAILED: Final = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_HOP_BY_HOP: Final = (b"connection:", b"proxy-connection:", b"proxy-authorization:")


class Guard:
    """Connects to addresses that the policy allows.

    Parameters
    ----------
    resolve:
        Name resolution.
    policy:
        Addresses that may be connected to.
    exempt:
        Hosts that may be connected to whatever their address is: the endpoint of the pod's own identity.
    """

    def __init__(self, resolve: Resolve, policy: AddressPolicy, exempt: frozenset[str] = frozenset()) -> None:
        self._resolve = resolve
        self._policy = policy
        self._exempt = exempt
        self._failure: FetchError | None = None
        self._lock = threading.Lock()

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect to one of the addresses of `host`.

        Raises
        ------
        FetchError
            If none is allowed or none answers. It is kept for `take_failure` too.
        """
        try:
            return self._connect(host, port)
        except FetchError as error:
            with self._lock:
                self._failure = error
            raise

    def take_failure(self) -> FetchError | None:
        """Return, once, the last connection that failed."""
        with self._lock:
            failure, self._failure = self._failure, None
        return failure

    def _connect(self, host: str, port: int) -> socket.socket:
        policy = AddressPolicy(()) if host in self._exempt else self._policy
        last: FetchError | None = None
        for address in allowed_addresses(host, port, self._resolve, policy):
            try:
                return socket.create_connection((address, port), timeout=CONNECT_SECONDS)
            except OSError as error:
                last = no_connection(error, f"{host}:{port}")
        raise last or unavailable(f"{host} has no address")


@contextmanager
def proxying(guard: Guard) -> Iterator[str]:
    """Run the proxy in threads of its own, and yield its address as ``http://HOST:PORT``."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                _serve(self.request, guard)
            except OSError:
                return  # one side hung up; the other is told so by the end of its connection

    with _Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


def _serve(client: socket.socket, guard: Guard) -> None:
    """Answer one connection: a tunnel, or one request without TLS."""
    client.settimeout(IDLE_SECONDS)
    head, rest = _read_head(client)
    try:
        method, target = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")[:2]
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host, port = parts.hostname or "", parts.port or HTTP_PORT
    except ValueError:
        client.sendall(_FAILED)
        return
    try:
        upstream = guard.connect(host, port)
    except FetchError as error:
        client.sendall(_REFUSED if error.permanent else _FAILED)
        return
    with upstream:
        if method == "CONNECT":
            client.sendall(_CONNECTED)
            upstream.sendall(rest)
            _relay(client, upstream, opening=None)
        else:
            path = parts.path or "/"
            upstream.sendall(_request_head(head, f"{path}?{parts.query}" if parts.query else path) + rest)
            _relay(client, upstream, opening=b"")


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    """Return the head of a request without the empty line, and what came behind it."""
    data = b""
    while _END_OF_HEAD not in data:
        piece = client.recv(_PIECE_BYTES)
        if not piece or len(data) > MAX_HEAD_BYTES:
            raise ConnectionAbortedError
        data += piece
    head, _, rest = data.partition(_END_OF_HEAD)
    return head, rest


def _request_head(head: bytes, target: str) -> bytes:
    """Return a request's head as a server wants it: with a path for an address."""
    first, _, headers = head.partition(b"\r\n")
    method, _, version = first.split(b" ")
    return _closing(b" ".join((method, target.encode("ascii"), version)) + b"\r\n" + headers)


def _closing(head: bytes) -> bytes:
    """Return the head of a message after which the connection ends, so that nobody waits for another one."""
    first, *headers = head.split(b"\r\n")
    kept = [one for one in headers if not one.lower().startswith(_HOP_BY_HOP)]
    return b"\r\n".join((first, *kept, b"Connection: close")) + _END_OF_HEAD


def _relay(client: socket.socket, upstream: socket.socket, opening: bytes | None) -> None:
    """Carry bytes both ways until one side ends or nothing moves.

    Parameters
    ----------
    opening:
        What has come of the reply's head, which is held back until it is whole; None to carry all as it is.
    """
    peers = {client: upstream, upstream: client}
    while ready := select.select(list(peers), [], [], IDLE_SECONDS)[0]:
        for side in ready:
            piece = side.recv(_PIECE_BYTES)
            if not piece:
                return
            if side is upstream and opening is not None:
                opening += piece
                head, end, rest = opening.partition(_END_OF_HEAD)
                if not end and len(opening) <= MAX_HEAD_BYTES:
                    continue
                piece, opening = (_closing(head) + rest if end else opening), None
            peers[side].sendall(piece)
