"""``python -m serval_serving.fetch.cache``: keeps archives on a node, for all its pods.

It downloads nothing and has no credentials. The first pod that asks for a digest is told to download, and
gives the bytes to the cache; others that ask meanwhile wait for them. What is stored under a digest has it,
so nobody can plant another model, and whoever fetches checks again.

- ``GET /sha256/HEX``: 200 with the bytes; 404 to the one who shall bring them, for whom others wait
  as long as his connection is open; 503 after a while of waiting, so that the asker may lose patience.
- ``PUT /sha256/HEX``: 201 once stored, 413 over the size of the cache, 422 if the bytes have another digest.
- ``GET /healthz``: 200.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Final
from uuid import uuid4

from serval_contract.quantity import parse_whole

WAIT_SECONDS: Final = 20.0
"""How long an asker waits for another one's bytes before he is told to ask again."""
IDLE_SECONDS: Final = 1800.0
"""After this a silent connection ends: no fetch takes longer."""
_PIECE_BYTES: Final = 1 << 20
_PART: Final = ".part-"
_PATH: Final = re.compile(r"/sha256/([0-9a-f]{64})")
_NAME: Final = re.compile(r"[0-9a-f]{64}")
_LOG: Final = logging.getLogger("serval.cache")


class Refused(Exception):
    """The bytes are not stored; holds the HTTP status that says why."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class Store:
    """Files by their digest, at most so many bytes of them: the longest unused goes first.

    Parameters
    ----------
    folder:
        Where they are; what is in it already counts.
    max_bytes:
        Most bytes of all of them.
    wait_seconds:
        How long `open_or_lead` waits for another one's bytes.
    """

    def __init__(self, folder: Path, max_bytes: int, wait_seconds: float = WAIT_SECONDS) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._wait_seconds = wait_seconds
        self._leaders: dict[str, object] = {}
        self._reserved = 0
        self._changed = threading.Condition()
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"{_PART}*"):
            path.unlink()
        self._make_room()

    def open_or_lead(self, digest: str, asker: object) -> IO[bytes] | None:
        """Open the file of this digest; None where `asker` shall bring it, and is waited for until `leave`.

        Raises
        ------
        TimeoutError
            If another asker is still at it.
        """
        with self._changed:
            free = self._changed.wait_for(lambda: self._is_free(digest), self._wait_seconds)
            with contextlib.suppress(FileNotFoundError):
                path = self._folder / digest
                file = path.open("rb")
                os.utime(path)
                return file
            if not free:
                raise TimeoutError
            self._leaders[digest] = asker
            return None

    def leave(self, asker: object) -> None:
        """Wait for nothing more from `asker`."""
        with self._changed:
            self._leaders = {digest: one for digest, one in self._leaders.items() if one is not asker}
            self._changed.notify_all()

    def keep(self, digest: str, source: BufferedIOBase, size: int) -> None:
        """Read `size` bytes and keep them under `digest`.

        Raises
        ------
        Refused
            If they are too many, too few, or have another digest.
        OSError
            If the disk is full.
        """
        if size > self._max_bytes:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        part, found = self._folder / f"{_PART}{uuid4().hex}", ""
        with self._changed:
            self._reserved += size
            self._make_room()
        try:
            found = _copied(source, part, size)
        finally:
            with self._changed:
                self._reserved -= size
                if found == digest:
                    part.replace(self._folder / digest)
                    self._changed.notify_all()
                part.unlink(missing_ok=True)
        if found != digest:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY)

    def _is_free(self, digest: str) -> bool:
        return digest not in self._leaders or (self._folder / digest).exists()

    def _make_room(self) -> None:
        """Remove the longest unused files until the others fit, with what is on its way."""
        kept = [(path, path.stat()) for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        total = sum(status.st_size for _, status in kept) + self._reserved
        for path, status in sorted(kept, key=lambda one: one[1].st_mtime_ns):
            if total <= self._max_bytes:
                return
            path.unlink()
            total -= status.st_size
            _LOG.info("removed %s, %d bytes", path.name, status.st_size)


def _copied(source: BufferedIOBase, to: Path, size: int) -> str:
    """Copy `size` bytes and return their digest."""
    digest = hashlib.sha256()
    with to.open("xb") as file:
        while size > 0 and (piece := source.read(min(size, _PIECE_BYTES))):
            digest.update(piece)
            file.write(piece)
            size -= len(piece)
    return digest.hexdigest()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    server: Server

    def do_GET(self) -> None:
        """Send a file, or say who shall bring it."""
        match = _PATH.fullmatch(self.path)
        if match is None:
            self._say(HTTPStatus.OK if self.path == "/healthz" else HTTPStatus.BAD_REQUEST)
            return
        try:
            file = self.server.store.open_or_lead(match[1], self)
        except TimeoutError:
            self._say(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        if file is None:
            self._say(HTTPStatus.NOT_FOUND)
            return
        with file:
            self._say(HTTPStatus.OK, os.fstat(file.fileno()).st_size)
            self.connection.sendfile(file)

    def do_PUT(self) -> None:
        """Store a file."""
        match, length = _PATH.fullmatch(self.path), self.headers.get("Content-Length", "")
        # What is not read would be taken for the next request.
        self.close_connection = True
        if match is None or not (length.isascii() and length.isdigit()):
            self._say(HTTPStatus.BAD_REQUEST)
            return
        try:
            self.server.store.keep(match[1], self.rfile, int(length))
            self._say(HTTPStatus.CREATED)
        except Refused as refusal:
            self._say(refusal.status)
        except OSError as error:
            _LOG.warning("%s is not stored: %s", match[1], error.strerror)
            self._say(HTTPStatus.INSUFFICIENT_STORAGE)

    def finish(self) -> None:
        """Let the next one bring what this connection was to bring."""
        self.server.store.leave(self)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Log a request, but not the probes."""
        if self.path != "/healthz":
            _LOG.info(format, *args)

    def _say(self, status: HTTPStatus, size: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        self.end_headers()


class Server(ThreadingHTTPServer):
    """The cache on one port.

    Parameters
    ----------
    address:
        Host and port.
    store:
        What it serves.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], store: Store) -> None:
        super().__init__(address, Handler)
        self.store = store

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Say in one line that a connection broke off."""
        _LOG.info("%s: %s", client_address, sys.exc_info()[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop."""
    parsed = command_line().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    with Server((parsed.host, parsed.port), Store(parsed.dir, parsed.max_bytes)) as server:
        stop = threading.Thread(target=server.shutdown)
        signal.signal(signal.SIGTERM, lambda *_: stop.start())
        _LOG.info("listening on port %d", server.server_address[1])
        server.serve_forever()
    return 0


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the program's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m serval_serving.fetch.cache", description="Keep archives of models on a node."
    )
    parser.add_argument("--dir", required=True, type=Path, help="folder for the archives")
    parser.add_argument("--max-bytes", required=True, type=_quantity, help="most bytes of all archives")
    parser.add_argument("--host", default="", help="address to listen on (default: all)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on")
    return parser


def _quantity(text: str) -> int:
    """Read a number of bytes as Kubernetes writes them: 1500, 2.5Gi or 10G."""
    size = parse_whole(text)
    if size < 1:
        raise argparse.ArgumentTypeError("a number of bytes is wanted, such as 50Gi")
    return size


if __name__ == "__main__":
    sys.exit(main())
