"""Contests: another writer changes what the operator applies, again and again.

Every change of a child is put back at once, so two writers that disagree would write without end. After a few
rounds the operator looks who the other one is, says so, and puts the child back after pauses that double.
Nothing of this has to survive a restart: after one, there are a few quick rounds more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serval_operator.api.conditions import Blocked
from serval_operator.api.naming import Key
from serval_operator.reasons import RESOURCE_CONTESTED
from serval_operator.runtime.field_owners import Taken

ROUNDS = 3
"""Times that the same manifest is applied anew at once."""
SHORTEST_PAUSE = 10.0
LONGEST_PAUSE = 60.0
"""Bounds, in seconds, of the pause until the same manifest is applied once more."""
CALM = 600.0
"""Seconds without a change by others after which a child counts as uncontested."""
MOST_FIELDS = 3
"""Fields that a message names."""


@dataclass(slots=True)
class _Contest:
    digest: str
    last: float
    rounds: int = 0
    pause: float = 0.0
    told: Blocked | None = None


class Contests:
    """Remembers how often each child was put back.

    Parameters
    ----------
    clock:
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._contests: dict[Key, dict[str, _Contest]] = {}

    def applied(self, key: Key, slot: str, digest: str, *, created: bool) -> None:
        """Note that a manifest was applied.

        Parameters
        ----------
        digest:
            Hash of the manifest. Another manifest begins a new count.
        created:
            Whether there was no such child. That begins a new count too.
        """
        now, slots = self._clock(), self._contests.setdefault(key, {})
        known = slots.get(slot)
        if known is None or known.digest != digest or created:
            slots[slot] = _Contest(digest, now)
        elif now - known.last > CALM:
            slots[slot] = _Contest(digest, now, rounds=1)
        else:
            known.last, known.rounds = now, known.rounds + 1
            known.pause = min(2 * known.pause, LONGEST_PAUSE)

    def is_suspected(self, key: Key, slot: str, digest: str) -> bool:
        """Whether a child that has to be put back was put back too often, and by whom is not known yet."""
        known = self._contests.get(key, {}).get(slot)
        return known is not None and known.digest == digest and known.rounds >= ROUNDS and not known.pause

    def begin(self, key: Key, slot: str, taken: Taken | None) -> None:
        """Take what was found out about the other writer; None where no field of ours was taken."""
        known = self._contests[key][slot]
        if taken is None:
            known.rounds = 0
            return
        fields, more = taken.fields[:MOST_FIELDS], len(taken.fields) - MOST_FIELDS
        what = ", ".join(fields) + (f" and {more} more" if more > 0 else "")
        who = " and ".join(f"`{one}`" for one in taken.managers)
        text = f"{slot}: {who} changes {what} again and again; the operator puts it back after pauses"
        known.pause, known.told = SHORTEST_PAUSE, Blocked(RESOURCE_CONTESTED, text)

    def wait(self, key: Key, slot: str, digest: str) -> Blocked | None:
        """What to say instead of putting a child back now; None where that is due."""
        known = self._contests.get(key, {}).get(slot)
        if known is None or known.digest != digest or not known.pause:
            return None
        return known.told if self._clock() < known.last + known.pause else None

    def told(self, key: Key, slot: str) -> Blocked | None:
        """What to say of a child that was just put back, or found as it should be; None for no contest.

        A contest counts as ended when nothing was changed for twice the last pause.
        """
        known = self._contests.get(key, {}).get(slot)
        if known is None or not known.pause:
            return None
        if self._clock() < known.last + 2 * known.pause:
            return known.told
        known.pause, known.told = 0.0, None
        return None

    def forget(self, key: Key) -> None:
        """Forget an object that is gone."""
        self._contests.pop(key, None)
