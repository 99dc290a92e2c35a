"""What one pod's state means: how far it is, and what, if anything, keeps it there.

Pure tables over what the kubelet, the scheduler and our fetch container write. The first thing that is wrong
on the pod's way decides: place on a node, fetch, load, answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from serval_contract.report import FetchFailure, FetchReport, parse_report
from serval_contract.startup import LOAD_FAILED
from serval_operator.api.containers import ContainerView, Termination
from serval_operator.api.snapshots import PodView, PodWarning
from serval_operator.api.text import last_line, scrub
from serval_operator.reasons import (
    CRASH_LOOP,
    CREATE_CONTAINER_ERROR,
    DEVICE_ALLOCATION_FAILED,
    DONE,
    IMAGE_PULL_FAILED,
    MODEL_LOAD_FAILED,
    NODE_NOT_READY,
    OUT_OF_MEMORY,
    POD_REFUSED,
    PROGRESSING,
    SANDBOX_FAILED,
    UNSCHEDULABLE,
    VOLUME_FAILED,
)


class Stage(IntEnum):
    """How far a pod is: the step that is not complete yet. Its values are in order of time."""

    SCHEDULE = 0
    FETCH = 1
    LOAD = 2
    SERVE = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """Judgement of one pod.

    Parameters
    ----------
    stage:
        The step that the pod is at; `Stage.SERVE` means that the model answers.
    failed:
        Whether something is wrong, in contrast to merely not done yet.
    exit_code, when:
        Of the container that ended, where one did.
    """

    pod: str
    stage: Stage
    reason: str
    message: str
    failed: bool = False
    exit_code: int | None = None
    when: datetime | None = None


WAIT_SCHEDULER = "waiting for the scheduler"
WAIT_START = "the node sets up the pod and its images"
WAIT_FETCH = "fetching the model"
WAIT_SERVER = "starting the model server"
WAIT_LOAD = "loading the model"
WAIT_FRONT = "starting the front before the model server"
WAIT_ANSWER = "the model server runs, but the model does not answer now"
WAIT_POD = "the model answers, but the pod is not ready"

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


def judge(pod: PodView, warnings: Sequence[PodWarning] = ()) -> Verdict:
    """Judge a pod that is not being deleted.

    Parameters
    ----------
    warnings:
        Warning events about this pod; read only while nothing of it runs.
    """
    if pod.phase == "Failed":
        return _refused(pod)
    if not pod.node:
        if pod.unschedulable:
            return Verdict(pod.name, Stage.SCHEDULE, UNSCHEDULABLE, scrub(pod.unschedulable), failed=True)
        return Verdict(pod.name, Stage.SCHEDULE, PROGRESSING, WAIT_SCHEDULER)
    if pod.ready:
        return Verdict(pod.name, Stage.SERVE, DONE, "")
    return _fetching(pod, warnings) or _loading(pod)


def is_accepted(pod: PodView) -> bool:
    """Whether a node has taken the pod: before it speaks of containers it may still refuse it."""
    return pod.phase != "Failed" and pod.fetch is not None


def is_silent(pod: PodView) -> bool:
    """Whether a placed pod's status tells nothing, so that only events can say what holds it up."""
    if not pod.node or pod.phase != "Pending" or pod.sandbox_ready:
        return False
    containers = [one for one in (pod.fetch, pod.server) if one is not None]
    return all(
        one.waiting_reason in ("", "ContainerCreating", "PodInitializing")
        and not one.running
        and not one.last
        for one in containers
    ) and not (pod.fetch and pod.fetch.terminated)


def fetch_result(pod: PodView) -> FetchReport | None:
    """The report of the fetch container of a pod; None while it did not succeed or wrote no report."""
    ended = pod.fetch.terminated if pod.fetch else None
    report = parse_report(ended.message) if ended is not None and ended.exit_code == 0 else None
    return report if isinstance(report, FetchReport) else None


def is_permanent(pod: PodView) -> bool:
    """Whether the fetch container of a pod failed and reported that no retry can help."""
    ended = (pod.fetch.terminated or pod.fetch.last) if pod.fetch else None
    report = parse_report(ended.message) if ended is not None and ended.exit_code != 0 else None
    return isinstance(report, FetchFailure) and report.permanent


def _refused(pod: PodView) -> Verdict:
    reason = DEVICE_ALLOCATION_FAILED if _DEVICE_REFUSED.fullmatch(pod.reason) else POD_REFUSED
    message = scrub(f"{pod.reason}: {pod.message}" if pod.reason else pod.message or "the pod failed")
    return Verdict(pod.name, Stage.SCHEDULE, reason, message, failed=True, when=pod.changed or pod.created)


def _fetching(pod: PodView, warnings: Sequence[PodWarning]) -> Verdict | None:
    """Verdict at the fetch step; None once the model is there."""
    fetch = pod.fetch
    if fetch is None:
        return _starting(pod, warnings)
    if fetch.terminated is not None and fetch.terminated.exit_code == 0:
        return None
    stuck = _not_created(pod, fetch, Stage.FETCH)
    if stuck:
        return stuck
    ended = fetch.terminated or fetch.last
    if ended is not None and ended.exit_code != 0:
        return _fetch_failed(pod, ended)
    if fetch.running:
        return Verdict(pod.name, Stage.FETCH, PROGRESSING, WAIT_FETCH)
    return _starting(pod, warnings)


def _starting(pod: PodView, warnings: Sequence[PodWarning]) -> Verdict:
    """Nothing runs yet: the newest event that explains it, else progress."""
    relevant = [one for one in warnings if one.reason in _SANDBOX_EVENTS | _VOLUME_EVENTS]
    if relevant and not pod.sandbox_ready:
        newest = max(relevant, key=_weight)
        reason = VOLUME_FAILED if newest.reason in _VOLUME_EVENTS else SANDBOX_FAILED
        return Verdict(
            pod.name, Stage.FETCH, reason, scrub(newest.message), failed=True, when=newest.last_seen
        )
    return Verdict(pod.name, Stage.FETCH, PROGRESSING, WAIT_START)


def _weight(event: PodWarning) -> tuple[bool, bool, float, str]:
    """Newer events weigh more; the summary that the kubelet adds to each volume's own words weighs least."""
    seen = event.last_seen
    own_words = not event.message.startswith(_VOLUME_SUMMARY)
    return (own_words, seen is not None, seen.timestamp() if seen else 0.0, event.message)


def _loading(pod: PodView) -> Verdict:
    """Verdict once the model's files are there."""
    server, front = pod.server, pod.front
    if server is None:
        return Verdict(pod.name, Stage.LOAD, PROGRESSING, WAIT_SERVER)
    if server.ready and front is not None:
        return _running(pod, front)
    return _running(pod, server)


def _running(pod: PodView, container: ContainerView) -> Verdict:
    """Verdict of the container on which it depends now: the server, or the front before one that is well."""
    stuck = _not_created(pod, container, Stage.LOAD)
    if stuck:
        return stuck
    if container.ready:
        return _not_counted(pod)
    if container.answered:
        return Verdict(pod.name, Stage.LOAD, PROGRESSING, WAIT_ANSWER)
    ended = container.terminated or container.last
    if container is pod.front:
        if ended is not None:
            return _crashed(pod, Stage.LOAD, "the front container", ended)
        return Verdict(pod.name, Stage.LOAD, PROGRESSING, WAIT_FRONT)
    if ended is not None:
        return _server_ended(pod, ended)
    return Verdict(pod.name, Stage.LOAD, PROGRESSING, WAIT_LOAD if container.running else WAIT_SERVER)


def _not_counted(pod: PodView) -> Verdict:
    """Verdict of a pod whose server is ready, while the pod as a whole is not."""
    if pod.unready_reason:
        return Verdict(pod.name, Stage.LOAD, PROGRESSING, f"{WAIT_POD}: {pod.unready_reason}")
    message = f"node {pod.node} stopped reporting; the pod is not counted as ready"
    return Verdict(pod.name, Stage.LOAD, NODE_NOT_READY, message, failed=True)


def _not_created(pod: PodView, container: ContainerView, stage: Stage) -> Verdict | None:
    """Verdict of a container that never ran. Where the runtime told why, its words win: they do not vary."""
    ended = container.terminated or container.last
    if container.waiting_reason in _IMAGE:
        message = _image_words(container.waiting_message) or container.waiting_reason
        return Verdict(pod.name, stage, IMAGE_PULL_FAILED, scrub(message), failed=True)
    if ended is not None and ended.reason in _NOT_STARTED:
        return _ended(pod, stage, CREATE_CONTAINER_ERROR, scrub(ended.message), ended)
    if container.waiting_reason in _CREATE:
        message = f"{container.waiting_reason}: {container.waiting_message}"
        return Verdict(pod.name, stage, CREATE_CONTAINER_ERROR, scrub(message), failed=True)
    return None


def _image_words(message: str) -> str:
    """The cause out of an image message.

    The kubelet alternates between the error and a back-off that quotes it; the cause alone is stable.
    """
    if message.startswith(_BACK_OFF_PREFIX):
        _, separator, quoted = message.partition(": ")
        kind, _, cause = quoted.partition(": ")
        return (cause if kind in _IMAGE else quoted) if separator else message
    return message


def _fetch_failed(pod: PodView, ended: Termination) -> Verdict:
    report = parse_report(ended.message)
    if isinstance(report, FetchFailure) and report.reason:
        return _ended(pod, Stage.FETCH, report.reason, scrub(report.message), ended)
    return _crashed(pod, Stage.FETCH, "the fetch container", ended)


def _server_ended(pod: PodView, ended: Termination) -> Verdict:
    words = last_line(ended.message)
    if any(mark in words for mark in LOAD_FAILED):
        return _ended(pod, Stage.LOAD, MODEL_LOAD_FAILED, words, ended)
    return _crashed(pod, Stage.LOAD, "the model server", ended)


def _crashed(pod: PodView, stage: Stage, who: str, ended: Termination) -> Verdict:
    if ended.reason == _OOM_KILLED:
        message = f"{who} was killed for using more memory than its limit"
        return _ended(pod, stage, OUT_OF_MEMORY, message, ended)
    words = last_line(ended.message) or "it said nothing"
    message = scrub(f"{who} ended with exit code {ended.exit_code}: {words}")
    return _ended(pod, stage, CRASH_LOOP, message, ended)


def _ended(pod: PodView, stage: Stage, reason: str, message: str, ended: Termination) -> Verdict:
    """Verdict of a pod one of whose containers ended."""
    code, when = ended.exit_code, ended.finished
    return Verdict(pod.name, stage, reason, message, failed=True, exit_code=code, when=when)
