"""Asks the node's cache for an archive before its source, and gives it the archive that came from the source.

The fetch does not depend on the cache: any fault of it, or of its other clients, costs a line in the log, at
most `HOLD_UP_SECONDS`, and a download.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from serval_serving.fetch.progress import human
from serval_serving.fetch.settings import FetchContext

CONNECT_SECONDS: Final = 5.0
HOLD_UP_SECONDS: Final = 60.0
"""How long a fetch waits for the cache in all, and at most half of the time that is left.

It waits while another pod of the node downloads, for bytes that come slower than `LEAST_BYTES_PER_SECOND`,
and until the cache took what the source gave.
"""
LEAST_BYTES_PER_SECOND: Final = 1 << 20
"""A cache that sends less is slower than most sources."""
_SHORTEST_SECONDS: Final = 0.001
"""A timeout of zero would make a socket non-blocking."""
_PIECE_BYTES: Final = 1 << 20
_REPLY_BYTES: Final = 1 << 16
_LOG: Final = logging.getLogger("serval.fetch")


def through_cache(context: FetchContext, to: Path, download: Callable[[], str]) -> str:
    """Bring the archive with the expected digest to `to`: by the cache if there is one, else by `download`.

    Parameters
    ----------
    download:
        Writes the archive to `to` and returns the SHA-256 of what it wrote, hexadecimal.

    Returns
    -------
    str
        SHA-256 of what lies at `to`.

    Raises
    ------
    FetchError
        What `download` raises.
    """
    settings = context.settings
    if not settings.cache or not settings.sha256:
        return download()
    parts = urlsplit(settings.cache)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=CONNECT_SECONDS)
    patience = _Patience(context)
    with closing(connection):
        if _taken(context, connection, patience, to):
            return settings.sha256
        patience.pause()
        sha256 = download()
        patience.go_on()
        if sha256 == settings.sha256:
            _give(connection, patience, sha256, to)
        return sha256


class _Patience:
    """The time that a fetch may wait for the cache.

    Parameters
    ----------
    context:
        The fetch under way.
    """

    def __init__(self, context: FetchContext) -> None:
        self._clock = context.environment.clock
        self._remaining = context.deadline.remaining
        self._left = HOLD_UP_SECONDS
        self.go_on()

    def pause(self) -> None:
        """Do not count the time until `go_on`."""
        self._left = self.left()

    def go_on(self) -> None:
        """Count the time from here on."""
        self._left = min(self._left, self._remaining() / 2)
        self._since = self._clock()

    def left(self, received: int = 0) -> float:
        """Return the seconds that are left.

        Parameters
        ----------
        received:
            Bytes that came meanwhile; the time that they may take does not count.
        """
        return self._left + received / LEAST_BYTES_PER_SECOND - (self._clock() - self._since)

    def limit(self, connection: http.client.HTTPConnection, received: int = 0) -> None:
        """Let no operation on `connection` take longer than the time that is left.

        However much came, one operation takes at most `HOLD_UP_SECONDS` and half of the fetch's own time:
        credit for bytes is no time for a sender that falls silent.

        Raises
        ------
        TimeoutError
            None is left.
        """
        left = self.left(received)
        if left <= 0:
            raise TimeoutError("it takes too long")
        if connection.sock is not None:
            half = max(self._remaining() / 2, _SHORTEST_SECONDS)
            connection.sock.settimeout(min(left, HOLD_UP_SECONDS, half))


def _taken(
    context: FetchContext, connection: http.client.HTTPConnection, patience: _Patience, to: Path
) -> bool:
    """Take the archive from the cache; return whether the cache had it and it is the expected one."""
    sha256 = str(context.settings.sha256)
    try:
        connection.connect()
        while True:
            patience.limit(connection)
            connection.request("GET", f"/sha256/{sha256}")
            reply = connection.getresponse()
            if reply.status == http.client.OK:
                return _saved(context, connection, reply, patience, to)
            _discard(reply)
            if reply.status != http.client.SERVICE_UNAVAILABLE:
                return False
            _LOG.info("another pod of this node is downloading the archive")
    except (OSError, http.client.HTTPException) as error:
        _LOG.warning("the cache cannot be used: %s", error or type(error).__name__)
        # A new request on a connection with a half-read reply would get the rest of that reply.
        connection.close()
        return False


def _saved(
    context: FetchContext,
    connection: http.client.HTTPConnection,
    reply: http.client.HTTPResponse,
    patience: _Patience,
    to: Path,
) -> bool:
    """Write the archive to `to`; return whether it is the expected one.

    Raises
    ------
    HTTPException, OSError
        The reply has no length or one over the limit, breaks off, or is too slow.
    """
    if reply.length is None or reply.length > context.settings.max_bytes:
        raise http.client.HTTPException(f"it offers {reply.length or 'an unknown number of'} bytes")
    digest, received = hashlib.sha256(), 0
    given_up = context.deadline.remaining() / 2
    context.progress.start("from the node's cache", reply.length)
    with to.open("wb") as file:
        # Not `read`: that waits for all bytes of a piece, so a slow sender would not be noticed.
        while reply.length and (piece := reply.read1(_PIECE_BYTES)):
            context.deadline.check()
            digest.update(piece)
            file.write(piece)
            context.progress.add(len(piece))
            received += len(piece)
            patience.limit(connection, received)
            if context.deadline.remaining() < given_up:
                raise TimeoutError("it sends too slowly")
    # `read1` does not note the end of the reply, without which the connection takes no further request.
    reply.close()
    if digest.hexdigest() == context.settings.sha256:
        _LOG.info("took %s from the node's cache", human(to.stat().st_size))
        return True
    _LOG.warning("the archive in the cache does not have the sha256 %s", context.settings.sha256)
    return False


def _discard(reply: http.client.HTTPResponse) -> None:
    """Read the body of a reply that carries no archive, up to a limit.

    Raises
    ------
    HTTPException
        It is longer.
    """
    if len(reply.read(_REPLY_BYTES)) == _REPLY_BYTES:
        raise http.client.HTTPException(f"its reply {reply.status} has a large body")


def _give(connection: http.client.HTTPConnection, patience: _Patience, sha256: str, file: Path) -> None:
    """Give the archive to the cache, on the connection for which other clients wait.

    The model is complete by now, so time for this must not decide about the fetch.
    """

    def pieces() -> Iterator[bytes]:
        while piece := body.read(_PIECE_BYTES):
            patience.limit(connection)
            yield piece

    try:
        with file.open("rb") as body:
            headers = {"Content-Length": str(file.stat().st_size)}
            connection.request("PUT", f"/sha256/{sha256}", body=pieces(), headers=headers)
            patience.limit(connection)
            reply = connection.getresponse()
        if reply.status != http.client.CREATED:
            _LOG.warning("the cache does not keep the archive: %d %s", reply.status, reply.reason)
    except (OSError, http.client.HTTPException) as error:
        _LOG.warning("the cache does not take the archive: %s", error or type(error).__name__)
