"""Messages that are arriving: how many at once, for how long, and what happens when memory runs out.

A request whose message is not complete costs a place and memory. So the number of these is limited, and the
sender who was silent for longest is cut off when another request needs the place. Calls that need no key have
half of the places, so that they cannot shut out those who have one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

import grpc

from serval_serving.server.memory import MemoryGuard
from serval_serving.wire.held import Held
from serval_serving.wire.status import StatusError

TOO_MANY: Final = "Too many requests are being received: the limit is %d."
NO_MEMORY: Final = "The server has too little free memory to receive this request."
LATE: Final = "The message of the request did not arrive in time."

ROOMS: Final = 256
"""Messages that arrive at once. Each gRPC call among them has a thread, which costs about 100 KB."""
PATIENCE_SECONDS: Final = 2.0
"""A sender who is silent for longer loses his place to another who needs it. Clients send a message with its
call, so only one that is large or comes over a slow network takes as long."""
LONGEST_SECONDS: Final = 60.0
"""A gRPC message must be complete after this time: 128 MiB at 18 Mbit/s."""
DRAIN_PARTS: Final = 3
"""Messages must be complete after this part of the time that a draining server has. The rest is for answers,
and silent senders do not hold up the end."""
STEP_SECONDS: Final = 0.1
_BUSY_STEP_SECONDS: Final = 0.02

_SMALL_BYTES: Final = 1 << 20
_NOTHING: Final = nullcontext()
_PARTS: Final = 4
_LEFT_OVER: Final = 3
"""Long messages that may go on arriving while memory is short: a server whose model needs nearly all of its
memory must still answer."""


@dataclass(slots=True, eq=False)
class Receipt:
    """A message that is arriving.

    Attributes
    ----------
    began:
        When it began, in the clock's seconds.
    heard:
        When its sender was last heard.
    end:
        Cuts it off. It is called in any thread, and returns at once.
    keyless:
        Whether its call needs no key.
    parts:
        Whether its sender is heard with each part of it, not only when it begins.
    """

    began: float
    heard: float
    end: Callable[[], None]
    keyless: bool = False
    parts: bool = False


class Receipts:
    """The messages that are arriving at a server, over all protocols.

    Parameters
    ----------
    memory:
        Knows whether memory is short.
    rooms:
        Messages at once.
    clock:
        Monotonic seconds.
    """

    def __init__(
        self,
        memory: MemoryGuard | None = None,
        rooms: int = ROOMS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._memory = memory or MemoryGuard(0)
        self._rooms = rooms
        self._clock = clock
        self._lock = threading.Lock()
        self._ends: float | None = None
        self._held = 0
        self._stopped = threading.Event()
        # The one who was silent for longest comes first.
        self._arriving: dict[Receipt, None] = {}

    def start(self) -> None:
        """Look after the messages in a thread, until `stop`."""
        threading.Thread(target=self._watch, name="receipts", daemon=True).start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def drain(self, seconds: float) -> None:
        """Wait no longer for silent senders, and for no one longer than a part of the seconds until the end.

        A message that is not heard in parts may be on its way, so its sender has that part of the time too.
        """
        self._ends = self._clock() + max(PATIENCE_SECONDS, seconds / DRAIN_PARTS)

    def receiving(
        self, end: Callable[[], None], *, keyless: bool = False, parts: bool = False
    ) -> Held[Receipt]:
        """Count a message as arriving.

        Parameters
        ----------
        end:
            Cuts it off, see `Receipt.end`.
        keyless, parts:
            See `Receipt`.

        Raises
        ------
        StatusError
            RESOURCE_EXHAUSTED: too many are arriving; raised where the `with` statement begins.
        """
        return Held(lambda: self._begin(end, keyless, parts), self._done)

    def _begin(self, end: Callable[[], None], keyless: bool, parts: bool) -> Receipt:
        """Count a message as arriving, see `receiving`."""
        now = self._clock()
        receipt = Receipt(now, now, end, keyless, parts)
        with self._lock:
            keyless_full = keyless and sum(one.keyless for one in self._arriving) >= self._rooms // 2
            full = keyless_full or len(self._arriving) >= self._rooms
            if not full:
                self._arriving[receipt] = None
        if full:
            self.make_room(keyless=keyless_full)
            most = self._rooms // 2 if keyless_full else self._rooms
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_MANY % most)
        return receipt

    def _done(self, receipt: Receipt) -> None:
        """Count a message as arriving no more."""
        with self._lock:
            self._arriving.pop(receipt, None)

    @property
    def most_held(self) -> int | None:
        """Bytes that complete messages may have together, if one is not larger alone; None for any number."""
        return self._memory.limit // _PARTS if self._memory.limit else None

    def holding(self, size: int) -> AbstractContextManager[object]:
        """Count the bytes of a message that is complete, while its request is in progress.

        Raises
        ------
        StatusError
            RESOURCE_EXHAUSTED: together they would take more than a quarter of the memory; raised where the
            `with` statement begins.
        """
        if size < _SMALL_BYTES or not self._memory.limit:
            return _NOTHING
        return Held(lambda: self._hold(size), self._release)

    def _hold(self, size: int) -> int:
        """Count the bytes of a message, see `holding`."""
        with self._lock:
            if self._held and (self._held + size) * _PARTS > self._memory.limit:
                raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, NO_MEMORY)
            self._held += size
        return size

    def _release(self, size: int) -> None:
        """Count the bytes of a message no more."""
        with self._lock:
            self._held -= size

    def heard(self, receipt: Receipt) -> None:
        """Note that a part of a message came."""
        receipt.heard = self._clock()
        with self._lock:
            if receipt in self._arriving:
                del self._arriving[receipt]
                self._arriving[receipt] = None

    def make_room(self, *, keyless: bool = False) -> bool:
        """Cut off the sender who was silent for longest, if that is long; whether there was one.

        `keyless`: one whose call needs no key.
        """
        now = self._clock()
        with self._lock:
            receipt = next((one for one in self._arriving if one.keyless or not keyless), None)
            if receipt is None or now - receipt.heard < PATIENCE_SECONDS:
                return False
            del self._arriving[receipt]
        receipt.end()
        return True

    def look(self) -> None:
        """Cut off messages that take too long, and the newest ones while memory is short."""
        now = self._clock()
        short = self._memory.short()
        with self._lock:
            late = [one for one in self._arriving if self._is_late(one, now)]
            cut = dict.fromkeys((*late, *(self._long(now)[_LEFT_OVER:] if short else ())))
            for one in cut:
                del self._arriving[one]
        for one in cut:
            one.end()

    def _is_late(self, one: Receipt, now: float) -> bool:
        """Whether a message takes too long."""
        if now - one.began > LONGEST_SECONDS:
            return True
        if self._ends is None:
            return False
        return now >= self._ends or (one.parts and now - one.heard > PATIENCE_SECONDS)

    def _long(self, now: float) -> list[Receipt]:
        """List the messages that are not small, since they take a while, the oldest first."""
        return sorted(
            (one for one in self._arriving if now - one.began > STEP_SECONDS), key=lambda one: one.began
        )

    def _watch(self) -> None:
        """Look until stopped, more often while many messages are arriving."""
        while not self._stopped.wait(
            _BUSY_STEP_SECONDS if len(self._arriving) > _LEFT_OVER else STEP_SECONDS
        ):
            self.look()
