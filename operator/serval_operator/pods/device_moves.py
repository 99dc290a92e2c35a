"""Pods whose device stays of no use: when one is deleted, so that its successor gets another device.

A device plugin that works reports such a device, and then no pod gets it. Where it does not, the next pod may
get the same device again. So moves are rare: one pod at a time, only while another device is free, and after
pauses that double. The status records the moves, so that a restart of the operator forgets nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from serval_operator.api.snapshots import PodView
from serval_operator.api.unstructured import mapping, parse_time, whole
from serval_operator.pods.device_faults import FaultyDevice

STAYS_FOR: Final = timedelta(seconds=30)
"""How long a device must have been of no use. A card that is reset takes a few seconds."""
SHORTEST_PAUSE: Final = timedelta(minutes=1)
LONGEST_PAUSE: Final = timedelta(minutes=30)
COUNTS_FOR: Final = 2 * LONGEST_PAUSE
"""How long a move counts. Moves that do not help are never further apart than the longest pause and the time
that a pod takes to start."""
LOOK_AGAIN: Final = 30.0
"""Seconds until free devices are looked for again: those of strangers send no event."""
MOVES: Final = "deviceMoves"
"""Field of the status."""

PATIENCE: Final = (
    f"if that lasts {STAYS_FOR.seconds} s and another device is free, another pod takes the place of this one"
)
ONE_AT_A_TIME: Final = "one pod at a time is replaced, and another one stops or starts now"
NOTHING_FREE: Final = "no other device is free, so the pod stays"
FREE_UNKNOWN: Final = "whether another device is free is not known, so the pod stays"
REPLACED: Final = "another pod takes its place, with another device"


@dataclass(frozen=True, slots=True)
class Record:
    """The moves so far that still count.

    Parameters
    ----------
    count:
        How many; at least 1.
    last:
        When the last one was.
    pod, node:
        The pod that was deleted last, and where it was.
    """

    count: int
    last: datetime
    pod: str
    node: str

    @property
    def pause(self) -> timedelta:
        """How long after the last move there is no other."""
        doubled = 1 << min(self.count - 1, 10)
        return min(doubled * SHORTEST_PAUSE, LONGEST_PAUSE)

    def as_json(self) -> dict[str, Any]:
        """The field of the status."""
        return {"count": self.count, "lastTime": _stamp(self.last), "pod": self.pod, "node": self.node}


@dataclass(frozen=True, slots=True)
class Move:
    """What is to be done about pods with faulty devices.

    Parameters
    ----------
    outlook:
        What to say of them.
    pod:
        The pod to delete, if one is.
    again:
        Seconds until this is to be decided again, or None.
    record:
        The moves that count, this one included; None if there are none.
    """

    outlook: str = ""
    pod: PodView | None = None
    again: float | None = None
    record: Record | None = None


def read_record(status: Mapping[str, Any], now: datetime) -> Record | None:
    """The moves of a status that still count; None if none do. Total, as all parsing is."""
    kept = mapping(status, MOVES)
    count, last = whole(kept.get("count")), parse_time(kept.get("lastTime"))
    if count < 1 or last is None or now - last > COUNTS_FOR:
        return None
    # A time to come, as of another clock, would keep pods for any length of time.
    return Record(count, min(last, now), str(kept.get("pod", "")), str(kept.get("node", "")))


def plan_move(faulty: Sequence[FaultyDevice], *, busy: bool, record: Record | None, now: datetime) -> Move:
    """Decide whether a pod is to be moved, if another device is free.

    Parameters
    ----------
    busy:
        Whether another pod of the same object stops, or starts.
    record:
        Of the moves so far.

    Returns
    -------
    Move
        Where it has a pod, `where_free` must decide.
    """
    if not faulty:
        return Move(record=record)
    oldest = min(faulty, key=lambda one: (one.since or now, one.pod.name))
    lasts = STAYS_FOR - (now - (oldest.since or now))
    if lasts > timedelta():
        return Move(PATIENCE, again=min(lasts, STAYS_FOR).total_seconds(), record=record)
    if busy:
        return Move(ONE_AT_A_TIME, record=record)
    if record is not None and (left := record.last + record.pause - now) > timedelta():
        return Move(_pausing(record), again=left.total_seconds(), record=record)
    return Move(REPLACED, oldest.pod, record=record)


def where_free(move: Move, free: int | None, now: datetime) -> Move:
    """The move, if another device is free.

    Parameters
    ----------
    move:
        One with a pod.
    free:
        How many more pods would find a device that nobody else waits for; None where that is not known.
    """
    pod = move.pod
    if pod is None:
        return move
    if not free:
        text = FREE_UNKNOWN if free is None else NOTHING_FREE
        return Move(text, again=LOOK_AGAIN, record=move.record)
    count = move.record.count + 1 if move.record else 1
    return Move(move.outlook, pod, record=Record(count, now.replace(microsecond=0), pod.name, pod.node))


def _pausing(record: Record) -> str:
    times = "1 pod was" if record.count == 1 else f"{record.count} pods were"
    return f"{times} replaced for a device already, and the next is at {_stamp(record.last + record.pause)}"


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
