"""Requests of one plan, sent side by side: one that fails keeps no other away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from serval_operator.api.conditions import Blocked
from serval_operator.errors import Fenced, KubeError


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that failed in a way that may pass.

    Parameters
    ----------
    slot:
        Kind and name of the object, for the message.
    """

    slot: str
    error: KubeError


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent about one object.

    Parameters
    ----------
    slot:
        Kind and name of the object.
    work:
        Gives what blocks, or None; raises `KubeError` for a failure that may pass.
    """

    slot: str
    work: Coroutine[Any, Any, Blocked | None]


async def together(requests: Sequence[Request]) -> tuple[Blocked | None, Failed | None]:
    """Do things side by side; gives the first thing that blocks and the first that failed, in their order.

    All of them are waited for: the next run must not meet a request of this one.

    Raises
    ------
    Fenced
        This process may not write any more, so there is nothing to tell either.
    """
    if not requests:
        return None, None
    results = await asyncio.gather(*(one.work for one in requests), return_exceptions=True)
    blocked: list[Blocked] = []
    failed: list[Failed] = []
    for one, result in zip(requests, results, strict=True):
        if isinstance(result, KubeError) and not isinstance(result, Fenced):
            failed.append(Failed(one.slot, result))
        elif isinstance(result, BaseException):
            raise result
        elif result:
            blocked.append(result)
    return next(iter(blocked), None), next(iter(failed), None)
