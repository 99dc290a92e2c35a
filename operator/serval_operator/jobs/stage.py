"""Which stage the pod of a Job is in, what holds it up, and what its stages reported. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serval_contract.report import FetchFailure, FetchReport, parse_report
from serval_contract.stage_report import MAX_FILES, StageFile, StageReport, parse_stage_report
from serval_operator.api.containers import ContainerView, Termination
from serval_operator.api.snapshots import PodView, PodWarning
from serval_operator.api.text import scrub
from serval_operator.constants import CONTAINER_FETCH
from serval_operator.pods.pod_faults import (
    WAIT_SCHEDULER,
    WAIT_START,
    Fault,
    crashed,
    not_created,
    not_set_up,
    refused,
    unschedulable,
)
from serval_operator.reasons import JOB_FAILED, PROGRESSING

SOURCE_DIGEST = "sourceDigest"
"""Key in the results of a Job for the digest of the model that its fetcher brought."""


@dataclass(frozen=True, slots=True)
class StageVerdict:
    """Judgement of a Job's pod.

    Parameters
    ----------
    stage:
        Name of the stage that it is in; empty before the first one and after the last one.
    running:
        Whether a stage of it runs or ran.
    failed:
        Whether something is wrong, in contrast to merely not done yet.
    permanent:
        Whether its stage reported that another attempt would fail in the same way.
    when:
        When the stage ended, where it did.
    """

    stage: str
    reason: str
    message: str
    running: bool = False
    failed: bool = False
    permanent: bool = False
    when: datetime | None = None


@dataclass(frozen=True, slots=True)
class StageResults:
    """What the stages of a pod that succeeded reported.

    Parameters
    ----------
    result:
        Results of all stages; of the same key, that of the later stage.
    files:
        Files of all stages, at most `MAX_FILES`.
    """

    result: dict[str, Any]
    files: tuple[StageFile, ...]


def judge_stages(pod: PodView, stages: Sequence[str], warnings: Sequence[PodWarning] = ()) -> StageVerdict:
    """Judge a Job's pod by the first stage that is not complete.

    Parameters
    ----------
    stages:
        Names of its containers that are stages, in order.
    warnings:
        Warning events about this pod, for the time in which nothing of it runs.
    """
    containers = {one.name: one for one in pod.stages}
    begun = any(one.running or one.terminated for one in pod.stages if one.name in stages)
    for name in stages:
        container = containers.get(name)
        if container is None or not _succeeded(container):
            return _incomplete(pod, name, container, warnings, begun=begun)
    return StageVerdict("", PROGRESSING, "all stages are complete", running=True)


def stage_results(pod: PodView, stages: Sequence[str]) -> StageResults | None:
    """What the stages of a pod reported; None if the last one did not succeed or wrote no report."""
    containers = {one.name: one for one in pod.stages}
    reports = [_report(name, containers.get(name)) for name in stages]
    if not reports or reports[-1] is None:
        return None
    known = [one for one in reports if one is not None]
    files = tuple(file for one in known for file in one.files)
    return StageResults({key: value for one in known for key, value in one.result.items()}, files[:MAX_FILES])


def _incomplete(
    pod: PodView, name: str, container: ContainerView | None, warnings: Sequence[PodWarning], *, begun: bool
) -> StageVerdict:
    """Verdict of a pod whose stage `name` is not complete."""
    if pod.phase == "Failed" and pod.reason:
        # Evicted or refused: the exit code of a container that was killed for it says nothing.
        return _faulty(name, refused(pod), begun=begun)
    fault = unschedulable(pod) or (not_created(container) if container else None)
    if fault is None and container is not None and container.terminated is not None:
        return _ended(name, container.terminated)
    if fault is None and pod.phase == "Failed":
        fault = refused(pod)
    if fault is None and not begun:
        fault = not_set_up(pod, warnings)
    if fault:
        return _faulty(name, fault, begun=begun)
    if container is not None and container.running:
        return StageVerdict(name, PROGRESSING, f"stage {name} runs", running=True)
    waits = f"stage {name} starts" if begun else WAIT_START if pod.node else WAIT_SCHEDULER
    return StageVerdict(name if begun else "", PROGRESSING, waits, running=begun)


def _ended(name: str, ended: Termination) -> StageVerdict:
    """Verdict of a stage that ended with an error, in its own words where it reported."""
    report = _read(name, ended.message)
    if report is None or not (report.reason or report.message):
        fault = crashed(f"stage {name}", ended, JOB_FAILED)
    else:
        message = scrub(f"stage {name}: {report.message}")
        fault = Fault(report.reason or JOB_FAILED, message, ended.exit_code, ended.finished)
    return _faulty(name, fault, begun=True, permanent=report is not None and report.permanent)


def _faulty(name: str, fault: Fault, *, begun: bool, permanent: bool = False) -> StageVerdict:
    return StageVerdict(
        name,
        fault.reason,
        fault.message,
        running=begun,
        failed=True,
        permanent=permanent,
        when=fault.when,
    )


def _succeeded(container: ContainerView) -> bool:
    return container.terminated is not None and container.terminated.exit_code == 0


def _report(name: str, container: ContainerView | None) -> StageReport | None:
    """Report of a stage that succeeded."""
    ended = container.terminated if container else None
    return _read(name, ended.message) if ended is not None and ended.exit_code == 0 else None


def _read(name: str, message: str) -> StageReport | None:
    """Report of a stage; the fetcher, which model pods have too, has its own form."""
    if name != CONTAINER_FETCH:
        return parse_stage_report(message)
    fetched = parse_report(message)
    if isinstance(fetched, FetchFailure):
        return StageReport(
            CONTAINER_FETCH, reason=fetched.reason, message=fetched.message, permanent=fetched.permanent
        )
    if isinstance(fetched, FetchReport):
        return StageReport(CONTAINER_FETCH, {SOURCE_DIGEST: fetched.digest} if fetched.digest else {})
    return None
