"""What one pod's state means: how far it is, and what, if anything, keeps it there.

Pure tables over what the kubelet, the scheduler and our fetch container write. The first thing that is wrong
on the pod's way decides: place on a node, fetch, load, answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from functools import lru_cache

from serval_contract.report import FetchFailure, FetchReport, parse_report
from serval_contract.startup import LOAD_FAILED
from serval_operator.api.containers import ContainerView, Termination
from serval_operator.api.snapshots import PodView, PodWarning
from serval_operator.api.text import last_line, scrub
from serval_operator.conversion_reasons import DEVICE_HELD
from serval_operator.pods.pod_faults import (
    WAIT_GATE,
    WAIT_SCHEDULER,
    WAIT_START,
    Fault,
    crashed,
    not_created,
    not_set_up,
    refused,
    unschedulable,
)
from serval_operator.reasons import DONE, MODEL_LOAD_FAILED, NODE_NOT_READY, PROGRESSING

_SIGNALS = range(129, 193)
"""Exit codes of programs that a signal ended. TensorFlow Serving ends with 255 if it cannot load a model."""
_HELD = f"{DEVICE_HELD}: "
"""Begins what a server says of a device that another process holds, which is no fault of the model."""


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


WAIT_FETCH = "fetching the model"
WAIT_SERVER = "starting the model server"
WAIT_LOAD = "loading the model"
WAIT_FRONT = "starting the front before the model server"
WAIT_ANSWER = "the model server runs, but the model does not answer now"
WAIT_POD = "the model answers, but the pod is not ready"


def judge(pod: PodView, warnings: Sequence[PodWarning] = ()) -> Verdict:
    """Judge a pod that is not being deleted.

    Parameters
    ----------
    warnings:
        Warning events about this pod; read only while nothing of it runs.
    """
    if pod.ended:
        return _faulty(pod, Stage.SCHEDULE, refused(pod))
    if not pod.node:
        nowhere = unschedulable(pod)
        if nowhere:
            return _faulty(pod, Stage.SCHEDULE, nowhere)
        return Verdict(pod.name, Stage.SCHEDULE, PROGRESSING, WAIT_GATE if pod.gated else WAIT_SCHEDULER)
    if pod.ready:
        return Verdict(pod.name, Stage.SERVE, DONE, "")
    return _fetching(pod, warnings) or _loading(pod)


def is_accepted(pod: PodView) -> bool:
    """Whether a node has taken the pod: before it speaks of containers it may still refuse it."""
    return not pod.ended and pod.fetch is not None


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
    report = _report(ended.message) if ended is not None and ended.exit_code == 0 else None
    return report if isinstance(report, FetchReport) else None


@lru_cache(maxsize=256)
def _report(text: str) -> FetchReport | FetchFailure | None:
    """The report in a termination message. One reconcile asks for that of each pod several times."""
    return parse_report(text)


def is_permanent(pod: PodView) -> bool:
    """Whether the fetch container of a pod failed and reported that no retry can help."""
    ended = (pod.fetch.terminated or pod.fetch.last) if pod.fetch else None
    report = parse_report(ended.message) if ended is not None and ended.exit_code != 0 else None
    return isinstance(report, FetchFailure) and report.permanent


def _fetching(pod: PodView, warnings: Sequence[PodWarning]) -> Verdict | None:
    """Verdict at the fetch step; None once the model is there."""
    fetch = pod.fetch
    if fetch is None:
        return _starting(pod, warnings)
    if fetch.terminated is not None and fetch.terminated.exit_code == 0:
        return None
    stuck = not_created(fetch)
    if stuck:
        return _faulty(pod, Stage.FETCH, stuck)
    ended = fetch.terminated or fetch.last
    if ended is not None and ended.exit_code != 0:
        return _fetch_failed(pod, ended)
    if fetch.running:
        return Verdict(pod.name, Stage.FETCH, PROGRESSING, WAIT_FETCH)
    return _starting(pod, warnings)


def _starting(pod: PodView, warnings: Sequence[PodWarning]) -> Verdict:
    """Nothing runs yet: the newest event that explains it, else progress."""
    fault = not_set_up(pod, warnings)
    if fault:
        return _faulty(pod, Stage.FETCH, fault)
    return Verdict(pod.name, Stage.FETCH, PROGRESSING, WAIT_START)


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
    stuck = not_created(container)
    if stuck:
        return _faulty(pod, Stage.LOAD, stuck)
    if container.ready:
        return _not_counted(pod)
    if container.answered:
        return Verdict(pod.name, Stage.LOAD, PROGRESSING, WAIT_ANSWER)
    ended = container.terminated or container.last
    if container is pod.front:
        if ended is not None:
            return _faulty(pod, Stage.LOAD, crashed("the front container", ended))
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


def _fetch_failed(pod: PodView, ended: Termination) -> Verdict:
    report = parse_report(ended.message)
    if isinstance(report, FetchFailure) and report.reason:
        return _ended(pod, Stage.FETCH, report.reason, scrub(report.message), ended)
    return _faulty(pod, Stage.FETCH, crashed("the fetch container", ended))


def _server_ended(pod: PodView, ended: Termination) -> Verdict:
    # The log of a server that a signal ended may have such words, but they are not why it ended.
    if ended.exit_code in _SIGNALS:
        return _faulty(pod, Stage.LOAD, crashed("the model server", ended))
    words = _load_failure(ended.message)
    _, held, holder = (words or last_line(ended.message)).partition(_HELD)
    if held:
        return _ended(pod, Stage.LOAD, DEVICE_HELD, f"{held}{holder}", ended)
    if words:
        return _ended(pod, Stage.LOAD, MODEL_LOAD_FAILED, words, ended)
    return _faulty(pod, Stage.LOAD, crashed("the model server", ended))


def _load_failure(message: str) -> str:
    """What a server says of a model that it cannot load, scrubbed; empty if it says no such thing.

    Engines use several lines for it, some of which are but a bracket.
    """
    lines = message.splitlines()
    for start in reversed(range(len(lines))):
        if any(mark in lines[start] for mark in LOAD_FAILED):
            return scrub(" ".join(lines[start:]))
    return ""


def _faulty(pod: PodView, stage: Stage, fault: Fault) -> Verdict:
    """Verdict of a pod with which something is wrong."""
    return Verdict(
        pod.name,
        stage,
        fault.reason,
        fault.message,
        failed=True,
        exit_code=fault.exit_code,
        when=fault.when,
    )


def _ended(pod: PodView, stage: Stage, reason: str, message: str, ended: Termination) -> Verdict:
    """Verdict of a pod one of whose containers ended."""
    return _faulty(pod, stage, Fault(reason, message, ended.exit_code, ended.finished))
