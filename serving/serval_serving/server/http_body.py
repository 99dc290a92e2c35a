"""Bodies of HTTP requests: read in pieces within limits, and unpacked in a thread of the pool."""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Final

import grpc
from aiohttp import hdrs, web

from serval_serving.engines.base import TIMED_OUT
from serval_serving.server.http_errors import BodyTooLargeError
from serval_serving.server.receipts import LATE, Receipts
from serval_serving.wire.heavy_work import heavy_work
from serval_serving.wire.status import StatusError, invalid

UNKNOWN_CODING: Final = "Content-Encoding %s is not supported; gzip is."
NOT_GZIP: Final = "The body is not what its Content-Encoding says: one complete gzip member."
TOO_MUCH: Final = "The bodies of the requests in progress are larger than %d bytes together."

_GZIP: Final = frozenset({"gzip", "x-gzip"})
_PLAIN: Final = frozenset({"", "identity"})
_MAGIC: Final = b"\x1f\x8b"
_SHORTEST_GZIP: Final = 18
_LARGEST_RATIO: Final = 1032
"""Bytes that one byte of deflate may become."""
_SIZE_BYTES: Final = 4
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_STEP_BYTES: Final = 1 << 18
"""Bytes that the library is given or gives at a time. No other thread runs while it copies them."""


class BodyBudget:
    """Limits the bytes that all bodies hold together.

    Parameters
    ----------
    most:
        Bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes that are held."""
        return self._held

    def take(self, size: int) -> None:
        """Hold some bytes more.

        Raises
        ------
        StatusError
            RESOURCE_EXHAUSTED: they would be too many.
        """
        with self._lock:
            if self._held + size > self._most:
                raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_MUCH % self._most)
            self._held += size

    def give(self, size: int) -> None:
        """Hold some bytes less."""
        with self._lock:
            self._held -= size


class Body:
    """The body of one request, which holds bytes of the budget.

    Parameters
    ----------
    request:
        The request.
    budget:
        The budget of all.
    limit:
        Largest body, in bytes, both packed and unpacked.
    """

    def __init__(self, request: web.Request, budget: BodyBudget, limit: int) -> None:
        self._request = request
        self._budget = budget
        self._limit = limit
        self._taken = 0
        self._freed = False
        self._lock = threading.Lock()
        self._pieces: list[bytes] = []
        self._packed = False

    @property
    def size(self) -> int:
        """Bytes as they were sent, once the body was read."""
        return sum(map(len, self._pieces))

    async def read(self, receipts: Receipts) -> None:
        """Read it.

        Parameters
        ----------
        receipts:
            The messages that are arriving, of which this becomes one.

        Raises
        ------
        StatusError
            INVALID_ARGUMENT: it is too large, or cannot be read; RESOURCE_EXHAUSTED: there is no room for it;
            DEADLINE_EXCEEDED: its sender was silent, and the room was needed.
        """
        coding = self._request.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
        self._packed = coding in _GZIP
        if not self._packed and coding not in _PLAIN:
            raise invalid(UNKNOWN_CODING % coding[:40])
        if (self._request.content_length or 0) > self._limit:
            raise BodyTooLargeError(self._limit)
        cut_off = asyncio.timeout(None)
        loop = asyncio.get_running_loop()

        def end() -> None:
            # The loop may be closed by now.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_expire, cut_off)

        with receipts.receiving(end, parts=True) as receipt:
            try:
                async with cut_off:
                    while piece := await self._request.content.readany():
                        self._add(piece)
                        receipts.heard(receipt)
            except TimeoutError as error:
                if not cut_off.expired():
                    raise
                raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, LATE) from error

    def content(self, seconds: float | None = None) -> bytes:
        """Return it, unpacked, within some seconds; None for any time. It blocks.

        Raises
        ------
        StatusError
            INVALID_ARGUMENT: it cannot be unpacked, or is too large then; RESOURCE_EXHAUSTED: there is no
            room for it; DEADLINE_EXCEEDED.
        """
        data = self._pieces[0] if len(self._pieces) == 1 else _joined(self._pieces, self.size)
        self._pieces = [data]
        if not self._packed:
            return data
        with heavy_work(self._limit, seconds):
            return self._unpacked(data)

    def free(self) -> None:
        """Hold no bytes of the budget any more."""
        with self._lock:
            self._freed = True
            self._budget.give(self._taken)

    def _add(self, piece: bytes) -> None:
        """Take a piece that came."""
        if self._taken + len(piece) > self._limit:
            raise BodyTooLargeError(self._limit)
        self._take(len(piece))
        self._pieces.append(piece)

    def _take(self, size: int) -> None:
        """Hold bytes of the budget, unless the caller no longer waits."""
        with self._lock:
            if self._freed:
                raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, TIMED_OUT)
            self._budget.take(size)
            self._taken += size

    def _unpacked(self, data: bytes) -> bytes:
        """Unpack gzip. Its last bytes say how many it has, so that those alone are made room for.

        Reference: RFC 1952, section 2.3.1, ISIZE.
        """
        if len(data) < _SHORTEST_GZIP or not data.startswith(_MAGIC):
            raise invalid(NOT_GZIP)
        size = int.from_bytes(data[-_SIZE_BYTES:], "little")
        if size > len(data) * _LARGEST_RATIO:
            raise invalid(NOT_GZIP)
        if size > self._limit:
            raise BodyTooLargeError(self._limit)
        self._take(size)
        try:
            # A buffer of the size that the body says would be freed at once if that is a lie, and so large a
            # piece of memory goes back to the system while all threads wait.
            return _joined(list(_steps(data, size)), size)
        except zlib.error as error:
            raise invalid(NOT_GZIP) from error


def _steps(data: bytes, size: int) -> Iterator[bytes]:
    """Unpack gzip in steps, to at most `size` bytes."""
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    position, left = 0, size
    rest = b""
    while not unpacker.eof:
        if not rest:
            # Of all that is given, what is not used yet is copied in each step.
            rest = data[position : position + _STEP_BYTES]
            position += len(rest)
        step = unpacker.decompress(rest, min(_STEP_BYTES, left + 1))
        left -= len(step)
        ended = not step and not rest and not unpacker.eof
        rest = unpacker.unconsumed_tail
        if left < 0 or ended:
            raise invalid(NOT_GZIP)
        yield step
    if unpacker.unused_data or position < len(data):
        raise invalid(NOT_GZIP)


def _joined(pieces: Iterable[bytes], size: int) -> bytes:
    """Join pieces of `size` bytes in all. Other threads run between them, as they do not in `bytes.join`."""
    # The buffer is given its size at once and handed out as it is: nothing is copied a second time.
    room = BytesIO(bytes(size))
    for piece in pieces:
        room.write(piece)
    room.truncate()
    return room.getvalue()


def _expire(scope: asyncio.Timeout) -> None:
    """End what runs in a scope, unless it ended by itself."""
    with suppress(RuntimeError):
        scope.reschedule(asyncio.get_running_loop().time())


@contextmanager
def body_of(request: web.Request, budget: BodyBudget, limit: int) -> Iterator[Body]:
    """Hold the body of a request; see `Body`."""
    body = Body(request, budget, limit)
    try:
        yield body
    finally:
        body.free()
