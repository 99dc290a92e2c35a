"""The fence of writes: none outlives the time for which this process certainly holds the Lease."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from serval_operator.errors import Fenced


@asynccontextmanager
async def fenced(seconds: Callable[[], float], write: str) -> AsyncIterator[None]:
    """Send one write within the block.

    A limit that is fixed when the write begins would end a slow write, such as one that waits for an
    admission webhook, although the Lease is renewed meanwhile. So the time is asked again when it is over.

    Parameters
    ----------
    seconds:
        How long a write may be under way from now on; infinite without a Lease, 0 if none may begin.
    write:
        Method and target, for the error.

    Raises
    ------
    Fenced
        The write may not begin, or it was cut off. After the latter, it may have taken place.
    """
    left = seconds()
    if left <= 0:
        raise Fenced(f"{write}: not sent, because this process does not hold the Lease")
    if left == math.inf:
        yield
        return
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(None)
    timer: asyncio.TimerHandle

    def check() -> None:
        nonlocal timer
        left = seconds()
        if left > 0:
            timer = loop.call_later(left, check)
        else:
            limit.reschedule(loop.time())

    timer = loop.call_later(left, check)
    try:
        async with limit:
            yield
    except TimeoutError:
        raise Fenced(f"{write}: cut off, because the Lease was not renewed in time") from None
    finally:
        timer.cancel()
