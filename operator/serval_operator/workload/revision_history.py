"""The history of revisions: which number comes next, which may be dropped, which one to go back to."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from serval_operator.api.snapshots import RevisionView

HISTORY = 3
"""Revisions that are kept beside those in use, as many as a Deployment of ours keeps ReplicaSets."""


def next_number(records: Sequence[RevisionView]) -> int:
    """Number of a revision that is recorded now; the first is 1."""
    return max((one.number for one in records), default=0) + 1


def surplus(
    records: Sequence[RevisionView], *, in_use: AbstractSet[str], limit: int = HISTORY
) -> list[RevisionView]:
    """Revisions that may be dropped, the oldest first.

    Parameters
    ----------
    in_use:
        Keys that are never dropped: of the wanted revision, of the one that the Deployment carries, of the
        one that served last, and of every pod.
    limit:
        Revisions kept beside those in use.
    """
    idle = sorted((one for one in records if one.key not in in_use), key=_age)
    return idle[: max(len(idle) - limit, 0)]


def last_served(records: Sequence[RevisionView], *, besides: str, serving: str) -> RevisionView | None:
    """The revision to go back to; None where none ever served.

    Parameters
    ----------
    besides:
        Key of the revision to get away from.
    serving:
        `status.servingRevision`: it comes first, since a revision's own mark is made only when the next one
        begins.
    """
    sound = [one for one in records if one.key != besides and not one.failed_reason]
    current = next((one for one in sound if one.key == serving), None)
    return current or max((one for one in sound if one.served), key=_age, default=None)


def _age(record: RevisionView) -> tuple[int, str]:
    return (record.number, record.key)
