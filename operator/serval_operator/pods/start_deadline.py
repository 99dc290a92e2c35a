"""The progress deadline: a new pod's time from its scheduling to the model's first answer."""

from __future__ import annotations

from datetime import datetime

from serval_operator.api.snapshots import PodView
from serval_operator.pods.observation import Observed


def overdue(observed: Observed, revision: str, seconds: int) -> tuple[bool, float | None]:
    """Whether a pod is past its deadline, and the seconds until the next one may be (None: none may).

    Each pod has its own deadline. Waiting for a node does not count: a device may take hours to come free,
    and that says nothing about the model.

    Parameters
    ----------
    revision:
        Whose pods are judged.
    seconds:
        `spec.rollout.startDeadlineSeconds`.
    """
    waits = [time_left(pod, seconds, observed.now) for pod in observed.newest(revision)]
    left = [one for one in waits if one is not None]
    return any(one <= 0 for one in left), min((one for one in left if one > 0), default=None)


def time_left(pod: PodView, seconds: int, now: datetime) -> float | None:
    """Seconds until a pod's deadline, zero or less when it has passed; None for a pod that has none.

    A model that answered once kept the deadline: a probe that fails hours later is no late start. The time
    left is never more than the whole deadline, even where the clock was moved back.
    """
    answered = pod.facing is not None and pod.facing.answered
    if not pod.node or pod.scheduled is None or pod.ready or answered:
        return None
    return min(seconds - (now - pod.scheduled).total_seconds(), float(seconds))
