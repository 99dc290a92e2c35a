"""Asks the node's cache for an archive before its source, and gives it what came from the source.

Nothing depends on the cache: whatever is wrong with it costs a line in the log, and a download.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from serval_serving.fetch.progress import human
from serval_serving.fetch.settings import Work

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 60.0
"""Longest silence of the cache; it answers whoever waits after 20 s."""
PATIENCE_SECONDS: Final = 300.0
"""How long another pod of the node may take, and no longer than half of the time that is left."""
_PIECE_BYTES: Final = 1 << 20
_LOG: Final = logging.getLogger("serval.fetch")


def through_cache(work: Work, to: Path, download: Callable[[], str]) -> str:
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
    settings = work.settings
    if not settings.cache or not settings.sha256:
        return download()
    parts = urlsplit(settings.cache)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=CONNECT_SECONDS)
    with closing(connection):
        if _taken(work, connection, settings.sha256, to):
            return settings.sha256
        sha256 = download()
        if sha256 == settings.sha256:
            _give(connection, sha256, to)
        return sha256


def _taken(work: Work, connection: http.client.HTTPConnection, sha256: str, to: Path) -> bool:
    """Take the archive from the cache; return whether it is there and is the expected one."""
    left = work.deadline.remaining()
    given_up = left - min(PATIENCE_SECONDS, left / 2)
    try:
        connection.connect()
        connection.sock.settimeout(ANSWER_SECONDS)
        while True:
            connection.request("GET", f"/sha256/{sha256}")
            reply = connection.getresponse()
            if reply.status == http.client.OK:
                return _saved(work, reply, sha256, to)
            reply.read()
            if reply.status != http.client.SERVICE_UNAVAILABLE or work.deadline.remaining() < given_up:
                return False
            _LOG.info("another pod of this node is downloading the archive")
    except (OSError, http.client.HTTPException) as error:
        _LOG.warning("the cache is of no use: %s", error or type(error).__name__)
        return False


def _saved(work: Work, reply: http.client.HTTPResponse, sha256: str, to: Path) -> bool:
    digest = hashlib.sha256()
    left = reply.length or 0
    if left > work.settings.max_bytes:
        return False
    work.progress.start("from the node's cache", left)
    with to.open("wb") as file:
        while piece := reply.read(_PIECE_BYTES):
            work.deadline.check()
            digest.update(piece)
            file.write(piece)
            work.progress.add(len(piece))
    if digest.hexdigest() == sha256:
        _LOG.info("took %s from the node's cache", human(to.stat().st_size))
        return True
    _LOG.warning("what the cache has is not the archive with the sha256 %s", sha256)
    return False


def _give(connection: http.client.HTTPConnection, sha256: str, file: Path) -> None:
    """Give the archive to the cache, on the connection on which it waits for it."""
    try:
        with file.open("rb") as body:
            headers = {"Content-Length": str(file.stat().st_size)}
            connection.request("PUT", f"/sha256/{sha256}", body=body, headers=headers)
            reply = connection.getresponse()
        if reply.status != http.client.CREATED:
            _LOG.warning("the cache does not keep the archive: %d %s", reply.status, reply.reason)
    except (OSError, http.client.HTTPException) as error:
        _LOG.warning("the cache takes nothing: %s", error or type(error).__name__)
