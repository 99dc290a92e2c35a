"""Asks the node's cache for an archive before its source, and gives it the archive that came from the source.

The fetch does not depend on the cache: any fault of it costs a line in the log, at most `ANSWER_SECONDS`,
and a download.
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
ANSWER_SECONDS: Final = 60.0
"""Longest silence of the cache. It answers a client that waits after 20 s."""
GIVE_SECONDS: Final = 60.0
"""How long giving an archive to the cache may take, and no longer than half of the time that is left."""
LEAST_BYTES_PER_SECOND: Final = 1 << 20
"""A cache that sends less, after a start of `ANSWER_SECONDS`, is slower than most sources."""
PATIENCE_SECONDS: Final = 300.0
"""How long another pod of the node may take, and no longer than half of the time that is left."""
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
    with closing(connection):
        if _taken(context, connection, settings.sha256, to):
            return settings.sha256
        sha256 = download()
        if sha256 == settings.sha256:
            _give(context, connection, sha256, to)
        return sha256


def _taken(context: FetchContext, connection: http.client.HTTPConnection, sha256: str, to: Path) -> bool:
    """Take the archive from the cache; return whether the cache had it and it is the expected one."""
    left = context.deadline.remaining()
    given_up = left - min(PATIENCE_SECONDS, left / 2)
    try:
        connection.connect()
        connection.sock.settimeout(ANSWER_SECONDS)
        while True:
            connection.request("GET", f"/sha256/{sha256}")
            reply = connection.getresponse()
            if reply.status == http.client.OK:
                return _saved(context, reply, sha256, to)
            _discard(reply)
            if reply.status != http.client.SERVICE_UNAVAILABLE or context.deadline.remaining() < given_up:
                return False
            _LOG.info("another pod of this node is downloading the archive")
    except (OSError, http.client.HTTPException) as error:
        _LOG.warning("the cache cannot be used: %s", error or type(error).__name__)
        # A new request on a connection with a half-read reply would get the rest of that reply.
        connection.close()
        return False


def _saved(context: FetchContext, reply: http.client.HTTPResponse, sha256: str, to: Path) -> bool:
    """Write the archive to `to`; return whether it is the expected one.

    Raises
    ------
    HTTPException, OSError
        The reply has no length or one over the limit, breaks off, or is too slow.
    """
    if reply.length is None or reply.length > context.settings.max_bytes:
        raise http.client.HTTPException(f"it offers {reply.length or 'an unknown number of'} bytes")
    digest, clock = hashlib.sha256(), context.environment.clock
    slow_from, received = clock() + ANSWER_SECONDS, 0
    context.progress.start("from the node's cache", reply.length)
    with to.open("wb") as file:
        # Not `read`: that waits for all bytes of a piece, so a slow sender would not be noticed.
        while reply.length and (piece := reply.read1(_PIECE_BYTES)):
            context.deadline.check()
            digest.update(piece)
            file.write(piece)
            context.progress.add(len(piece))
            received += len(piece)
            if received < (clock() - slow_from) * LEAST_BYTES_PER_SECOND:
                raise TimeoutError("it sends too slowly")
    # `read1` does not note the end of the reply, without which the connection takes no further request.
    reply.close()
    if digest.hexdigest() == sha256:
        _LOG.info("took %s from the node's cache", human(to.stat().st_size))
        return True
    _LOG.warning("the archive in the cache does not have the sha256 %s", sha256)
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


def _give(context: FetchContext, connection: http.client.HTTPConnection, sha256: str, file: Path) -> None:
    """Give the archive to the cache, on the connection for which other clients wait.

    The model is complete by now, so time for this must not decide about the fetch.
    """
    seconds = min(GIVE_SECONDS, context.deadline.remaining() / 2)
    end, clock = context.environment.clock() + seconds, context.environment.clock

    def limit() -> None:
        left = end - clock()
        if left <= 0:
            raise TimeoutError(f"it did not take the archive in {seconds:.0f} s")
        if connection.sock is not None:
            connection.sock.settimeout(left)

    def pieces() -> Iterator[bytes]:
        while piece := body.read(_PIECE_BYTES):
            limit()
            yield piece

    try:
        with file.open("rb") as body:
            headers = {"Content-Length": str(file.stat().st_size)}
            connection.request("PUT", f"/sha256/{sha256}", body=pieces(), headers=headers)
            limit()
            reply = connection.getresponse()
        if reply.status != http.client.CREATED:
            _LOG.warning("the cache does not keep the archive: %d %s", reply.status, reply.reason)
    except (OSError, http.client.HTTPException) as error:
        _LOG.warning("the cache does not take the archive: %s", error or type(error).__name__)
