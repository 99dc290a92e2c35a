"""The API server's clock: the one by which every time stamp of the cluster is written.

Deadlines and pauses compare such stamps with now. The clock of the operator's node may stand elsewhere, and
may be moved while it runs; so now is what the API server last said, and the time that has passed since.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

ASK_EVERY = 30.0
"""Seconds between two looks at what the API server says; its answers come far more often."""
TOLERANCE = timedelta(seconds=2)
"""The API server tells whole seconds: what differs by less is no difference."""
HALF = timedelta(seconds=0.5)
"""What a time in whole seconds is short of, on average."""


class ServerClock:
    """Tells the API server's time.

    Parameters
    ----------
    now:
        Aware UTC time of this machine, which counts until the API server has said something.
    monotonic:
        Seconds that nobody moves.
    """

    def __init__(
        self,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._anchor: tuple[datetime, float] | None = None
        self._due = float("-inf")

    def now(self) -> datetime:
        """Aware UTC time."""
        if self._anchor is None:
            return self._now()
        said, at = self._anchor
        return said + timedelta(seconds=self._monotonic() - at)

    def hear(self, date: str) -> None:
        """Take the ``Date`` header of an answer that has just come; empty or odd ones tell nothing."""
        at = self._monotonic()
        if at < self._due or not date:
            return
        try:
            said = parsedate_to_datetime(date).astimezone(UTC) + HALF
        except ValueError:
            return
        self._due = at + ASK_EVERY
        if self._anchor is None or abs(said - self.now()) > TOLERANCE:
            self._anchor = (said, at)
