"""A context manager for what every request does: cheaper than a generator of `contextlib`."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Held(Generic[_T]):
    """Holds something for as long as a `with` statement lasts.

    A generator with `contextlib.contextmanager` does the same and takes about 1 us more.

    Parameters
    ----------
    take:
        Takes it, when the statement begins. What it raises, the statement raises.
    give:
        Gives back what was taken, however the statement ends.
    """

    __slots__ = ("_give", "_take", "_taken")

    _taken: _T

    def __init__(self, take: Callable[[], _T], give: Callable[[_T], None]) -> None:
        self._take = take
        self._give = give

    def __enter__(self) -> _T:
        self._taken = taken = self._take()
        return taken

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give(self._taken)
