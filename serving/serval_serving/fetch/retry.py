"""Tries once more where that may help."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeVar

from serval_serving.fetch.errors import Failure
from serval_serving.fetch.progress import Deadline

BACKOFF_SECONDS: Final = (1.0, 2.0, 4.0)
"""Pauses between tries; one try more than there are pauses."""
_LOG: Final = logging.getLogger("serval.fetch")

_T = TypeVar("_T")


def retrying(action: Callable[[], _T], deadline: Deadline, sleep: Callable[[float], None]) -> _T:
    """Do `action`, again after a pause where it failed with what may pass, and return what it returns.

    Parameters
    ----------
    action:
        What to do.
    deadline:
        No pause reaches beyond it.
    sleep:
        Waits for a number of seconds.

    Raises
    ------
    Failure
        What the last try raised.
    """
    for pause in BACKOFF_SECONDS:
        try:
            return action()
        except Failure as error:
            if not error.again or deadline.remaining() <= pause:
                raise
            _LOG.warning("%s; trying again in %g s", error.message, pause)
            sleep(pause)
    return action()
