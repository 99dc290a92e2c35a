"""A version in memory, as those hold it who use it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from serval_serving.engines.base import DeviceReport, LoadedModel


class RefCount:
    """Counts the users of a version, which is freed only at zero."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def __enter__(self) -> None:
        with self._lock:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1

    @property
    def zero(self) -> bool:
        """Whether there are no users."""
        return self._count == 0


@dataclass(frozen=True, slots=True)
class ServableHandle:
    """A version that stays in memory while a request uses it.

    Attributes
    ----------
    name, version, model:
        Identify and hold the loaded version.
    path:
        The version's folder.
    digest:
        Digest of its files, if the fetcher recorded it; else empty.
    references:
        The holder of a handle may enter this again, for work that may last longer than the handle.
    engine:
        What programs the device of a model that needs one for itself, for people; else empty.
    """

    name: str
    version: int
    model: LoadedModel
    path: Path = field(default_factory=Path)
    digest: str = ""
    references: RefCount = field(default_factory=RefCount)
    engine: str = ""

    def device_report(self) -> DeviceReport | None:
        """How the device is that this version has for itself; None for one that needs none."""
        exclusive = self.model.exclusive
        return None if exclusive is None else exclusive.report()

    @property
    def obstacle(self) -> str:
        """Why its device cannot run it now; empty if nothing is in the way."""
        report = self.device_report()
        return "" if report is None else report.obstacle
