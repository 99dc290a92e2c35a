"""Archives in a folder, by digest, and who downloads which of them.

All of it runs in one event loop; only the writing of bytes is done in threads.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from io import BufferedWriter
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import uuid4

WAIT_SECONDS: Final = 20.0
"""How long a client waits for the bytes of another one before it is told to ask again."""
LEAD_SECONDS: Final = 60.0
"""How long a client may keep others waiting. Fetchers do not wait longer (`client.HOLD_UP_SECONDS`)."""
SHARE: Final = 0.5
"""Part of the cache up to which the files of one client may displace those of others."""
_PART: Final = ".part-"
_NAME: Final = re.compile(r"[0-9a-f]{64}")
_LOG: Final = logging.getLogger("serval.cache")


class Refused(Exception):
    """The bytes are not stored.

    Parameters
    ----------
    status:
        The HTTP status that says why.
    """

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


@dataclass(frozen=True, slots=True, eq=False)
class _Leader:
    """The client that downloads an archive, and an event for its end in this role."""

    client: object
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class ArchiveStore:
    """Archives by their digest, with a limit for the bytes of all of them. The least recently used go first.

    A client whose files have more than `SHARE` of that limit makes room among its own files only, so that no
    client can empty the cache. Files of an earlier process have no owner.

    Parameters
    ----------
    folder:
        Where they are. Archives that are already in it count.
    max_bytes:
        Most bytes of all archives, including those that are arriving.
    wait_seconds:
        How long `find_or_lead` waits for the bytes of another client.
    lead_seconds:
        How long a client may be the leader for a digest.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        wait_seconds: float = WAIT_SECONDS,
        lead_seconds: float = LEAD_SECONDS,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._wait_seconds = wait_seconds
        self._lead_seconds = lead_seconds
        self._leaders: dict[str, _Leader] = {}
        self._arriving: Counter[str] = Counter()
        self._owners: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"{_PART}*"):
            path.unlink()
        self._make_room()

    async def find_or_lead(self, digest: str, client: object) -> BinaryIO | None:
        """Open the file with this digest, or make `client` the leader, who brings it.

        Others that ask for the same digest wait until the leader gave it, left, or led for too long. A client
        leads one download at a time: its next request ends the former one.

        Returns
        -------
        BinaryIO or None
            None if `client` is now the leader.

        Raises
        ------
        TimeoutError
            Another client is still the leader.
        """
        self.leave(client)
        path = self._folder / digest
        async with asyncio.timeout(self._wait_seconds):
            while digest in self._leaders and not path.exists():
                await self._leaders[digest].ended.wait()
        if (file := _opened(path)) is not None:
            return file
        leader = self._leaders[digest] = _Leader(client)
        asyncio.get_running_loop().call_later(self._lead_seconds, self._end, digest, leader)
        return None

    def leave(self, client: object) -> None:
        """Expect nothing more from `client`."""
        for digest, leader in list(self._leaders.items()):
            if leader.client is client:
                self._end(digest, leader)

    def _end(self, digest: str, leader: _Leader) -> None:
        """End the role of a leader and wake those that wait for it."""
        if self._leaders.get(digest) is leader:
            del self._leaders[digest]
            leader.ended.set()

    async def keep(self, digest: str, pieces: AsyncIterator[bytes], size: int, owner: str) -> None:
        """Store bytes under their digest.

        Room is made for bytes that have arrived, so a client cannot displace archives by announcing a size.

        Parameters
        ----------
        pieces:
            The bytes.
        size:
            Their announced number, which the transport enforces.
        owner:
            Network address of the client.

        Raises
        ------
        Refused
            They are too many, or have another digest.
        OSError
            The disk is full.
        """
        if size > self._max_bytes:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        part, arrived = self._folder / f"{_PART}{uuid4().hex}", 0
        received = _Received(part)
        try:
            async for piece in pieces:
                arrived += len(piece)
                self._arriving[owner] += len(piece)
                self._make_room(owner)
                await asyncio.to_thread(received.add, piece)
            if received.close() != digest:
                raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY)
            part.replace(self._folder / digest)
            # Who gives the same bytes again does not take them over.
            self._owners.setdefault(digest, owner)
        finally:
            self._arriving[owner] -= arrived
            if not self._arriving[owner]:
                del self._arriving[owner]
            part.unlink(missing_ok=True)
            received.close()
        if leader := self._leaders.get(digest):
            self._end(digest, leader)

    def _make_room(self, owner: str = "") -> None:
        """Remove the least recently used files until the others and the arriving bytes fit.

        Parameters
        ----------
        owner:
            Who needs the room; empty for the cache itself.

        Raises
        ------
        Refused
            The arriving bytes alone are too many, or no file may be removed for this client.
        """
        kept = [(path, path.stat()) for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        total = sum(status.st_size for _, status in kept) + self._arriving.total()
        own = self._arriving[owner] + sum(s.st_size for p, s in kept if self._owners.get(p.name) == owner)
        for path, status in sorted(kept, key=lambda one: one[1].st_mtime_ns):
            if total <= self._max_bytes:
                return
            is_own = self._owners.get(path.name, "") == owner
            if own > SHARE * self._max_bytes and not is_own:
                continue
            path.unlink()
            self._owners.pop(path.name, None)
            total -= status.st_size
            own -= status.st_size if is_own else 0
            _LOG.info("removed %s, %d bytes", path.name, status.st_size)
        if total > self._max_bytes:
            raise Refused(HTTPStatus.INSUFFICIENT_STORAGE)


class _Received:
    """A file that is being written, and the digest of its bytes."""

    def __init__(self, path: Path) -> None:
        self._file: BufferedWriter = path.open("xb")
        self._digest: Any = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._file.write(piece)

    def close(self) -> str:
        """Write what is buffered and return the digest, hexadecimal."""
        self._file.close()
        return str(self._digest.hexdigest())


def _opened(path: Path) -> BinaryIO | None:
    """Open a file and note its use; None if there is none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    os.utime(path)
    return file
