"""What can be wrong with any pod, whatever its containers do: node, sandbox, volumes, images, memory.

Pure tables over what the scheduler and the kubelet write.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from serval_operator.api.containers import ContainerView, Termination
from serval_operator.api.snapshots import PodView, PodWarning
from serval_operator.api.text import last_line, scrub
from serval_operator.reasons import (
    CRASH_LOOP,
    CREATE_CONTAINER_ERROR,
    DEVICE_ALLOCATION_FAILED,
    IMAGE_PULL_FAILED,
    OUT_OF_MEMORY,
    POD_REFUSED,
    SANDBOX_FAILED,
    UNSCHEDULABLE,
    VOLUME_FAILED,
)

WAIT_SCHEDULER = "waiting for the scheduler"
WAIT_GATE = "the pod's scheduling gates are not open yet, such as those of a queue"
WAIT_START = "the node sets up the pod and its images"
WAS_STOPPED = "the node stopped the pod in order and does not start it again"

_IMAGE = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_CREATE = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "PreStartHookError",
        "PostStartHookError",
    }
)
_SANDBOX_EVENTS = frozenset({"FailedCreatePodSandBox", "FailedPodSandBoxStatus", "NetworkNotReady"})
_VOLUME_EVENTS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
_VOLUME_SUMMARY = "Unable to attach or mount volumes"
_NOT_STARTED = frozenset({"StartError", "ContainerCannotRun"})
_OOM_KILLED = "OOMKilled"
_BACK_OFF_PREFIX = "Back-off pulling image"
_DEVICE_REFUSED = re.compile(r"UnexpectedAdmissionError|OutOf[^/]+/.+")
"""What the kubelet says when it cannot hand out an extended resource, whose name holds a slash."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with a pod.

    Parameters
    ----------
    exit_code, when:
        Of the container that ended, where one did.
    """

    reason: str
    message: str
    exit_code: int | None = None
    when: datetime | None = None


def unschedulable(pod: PodView) -> Fault | None:
    """No node takes the pod, in the scheduler's words."""
    return Fault(UNSCHEDULABLE, scrub(pod.unschedulable)) if pod.unschedulable and not pod.node else None


def refused(pod: PodView) -> Fault:
    """The pod ended as a whole: its node refused, evicted or stopped it."""
    reason = DEVICE_ALLOCATION_FAILED if _DEVICE_REFUSED.fullmatch(pod.reason) else POD_REFUSED
    words = pod.message or (WAS_STOPPED if pod.phase == "Succeeded" else "the pod failed")
    message = scrub(f"{pod.reason}: {words}" if pod.reason else words)
    return Fault(reason, message, when=pod.changed or pod.created)


def not_set_up(pod: PodView, warnings: Sequence[PodWarning]) -> Fault | None:
    """The newest event that explains why nothing of a placed pod runs yet."""
    relevant = [one for one in warnings if one.reason in _SANDBOX_EVENTS | _VOLUME_EVENTS]
    if not relevant or pod.sandbox_ready:
        return None
    newest = max(relevant, key=_weight)
    reason = VOLUME_FAILED if newest.reason in _VOLUME_EVENTS else SANDBOX_FAILED
    return Fault(reason, scrub(newest.message), when=newest.last_seen)


def not_created(container: ContainerView) -> Fault | None:
    """A container that never ran. Where the runtime told why, its words win: they do not vary."""
    ended = container.terminated or container.last
    if container.waiting_reason in _IMAGE:
        message = _image_words(container.waiting_message) or container.waiting_reason
        return Fault(IMAGE_PULL_FAILED, scrub(message))
    if ended is not None and ended.reason in _NOT_STARTED:
        return Fault(CREATE_CONTAINER_ERROR, scrub(ended.message), ended.exit_code, ended.finished)
    if container.waiting_reason in _CREATE:
        message = f"{container.waiting_reason}: {container.waiting_message}"
        return Fault(CREATE_CONTAINER_ERROR, scrub(message))
    return None


def crashed(who: str, ended: Termination, reason: str = CRASH_LOOP) -> Fault:
    """A container that ran and ended with an error.

    Parameters
    ----------
    who:
        The container, as the message calls it.
    reason:
        Where no more is known than the exit code and the last line.
    """
    if ended.reason == _OOM_KILLED:
        message = f"{who} was killed for using more memory than its limit"
        return Fault(OUT_OF_MEMORY, message, ended.exit_code, ended.finished)
    words = last_line(ended.message) or "it said nothing"
    message = scrub(f"{who} ended with exit code {ended.exit_code}: {words}")
    return Fault(reason, message, ended.exit_code, ended.finished)


def _weight(event: PodWarning) -> tuple[bool, bool, float, str]:
    """Newer events weigh more; the summary that the kubelet adds to each volume's own words weighs least."""
    seen = event.last_seen
    own_words = not event.message.startswith(_VOLUME_SUMMARY)
    return (own_words, seen is not None, seen.timestamp() if seen else 0.0, event.message)


def _image_words(message: str) -> str:
    """The cause out of an image message.

    The kubelet alternates between the error and a back-off that quotes it; the cause alone is stable.
    """
    if message.startswith(_BACK_OFF_PREFIX):
        _, separator, quoted = message.partition(": ")
        kind, _, cause = quoted.partition(": ")
        return (cause if kind in _IMAGE else quoted) if separator else message
    return message
