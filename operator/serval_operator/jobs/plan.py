"""What to do about the Jobs of a custom resource, and what to record of them. Pure.

The stored record decides: inputs that succeeded, or failed for good, never run again, whether their Job still
exists or not. A new attempt follows, and a finished Job is deleted, only after the end is stored. So an
operator that is killed between any two of its requests continues from what the API server holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from serval_contract.progress import Progress
from serval_operator.api.actions import Creation, Deletion, Patch
from serval_operator.api.conditions import Blocked
from serval_operator.api.job_snapshots import COMPLETE, FAILED, FAILURE_TARGET, JobView
from serval_operator.api.resources import JOBS
from serval_operator.api.snapshots import PodView
from serval_operator.api.text import scrub
from serval_operator.jobs.job_plan import JobPlan
from serval_operator.jobs.manifest import job_manifest
from serval_operator.jobs.record import JobRecord, parse_records
from serval_operator.jobs.stage import judge_stages, stage_results
from serval_operator.pods.observation import Observed
from serval_operator.reasons import (
    JOB_DEADLINE_EXCEEDED,
    JOB_FAILED,
    JOB_RESULT_LOST,
    PROGRESSING,
    REASONS,
    SUSPENDED,
)

FIRST_PAUSE = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(minutes=5)
"""Bounds of the time between a failure and the next attempt. It doubles with each attempt."""
PODS_FOLLOW_WITHIN = timedelta(seconds=10)
"""How long after a Job's end its pod may still be seen as it was before: the two are watched separately."""
SOON = 0.1
"""Seconds after which to look again, once the status holds what was decided now."""
_ENDED = frozenset({"Succeeded", "Failed"})
_DEADLINE_EXCEEDED = "DeadlineExceeded"
"""Reason of the condition Failed of a Job that ran longer than its `activeDeadlineSeconds`."""


@dataclass(frozen=True, slots=True)
class ToPoll:
    """A running pod whose stage answers with its progress page."""

    pod: PodView
    port: int


@dataclass(frozen=True, slots=True)
class JobsDecision:
    """What to do about the Jobs of a custom resource, and how they are.

    Parameters
    ----------
    records:
        The whole of `status.jobs`, one record for each plan.
    complete:
        Whether the stored status says that all Jobs succeeded: the custom resource may go on.
    verdict:
        What keeps them from being complete; None if they are.
    failed:
        Whether one of them failed for good: only other inputs help.
    again:
        Seconds after which to look again; None if only a change makes that necessary.
    """

    creations: tuple[Creation, ...]
    patches: tuple[Patch, ...]
    deletions: tuple[Deletion, ...]
    records: tuple[JobRecord, ...]
    complete: bool
    verdict: Blocked | None
    failed: bool
    again: float | None
    to_poll: tuple[ToPoll, ...]


@dataclass(frozen=True, slots=True)
class _Case:
    """One plan and what was seen of it.

    Parameters
    ----------
    stored:
        The stored record of these very inputs; None if there is none.
    jobs:
        Jobs with these inputs.
    others:
        Jobs of this plan with other inputs.
    pages:
        Progress pages by uid of the pod.
    """

    observed: Observed
    plan: JobPlan
    stored: JobRecord | None
    jobs: Sequence[JobView]
    others: Sequence[JobView]
    pages: Mapping[str, Progress]

    @property
    def settled(self) -> int:
        """Number of the last attempt whose end is stored."""
        return self.stored.settled if self.stored else 0

    def pods(self, job: JobView) -> list[PodView]:
        """Pods of a Job, the newest last; not those of a deleted Job of the same name."""
        found = [
            pod
            for pod in self.observed.job_pods
            if pod.job == job.name and (not pod.created or not job.created or pod.created >= job.created)
        ]
        return sorted(found, key=lambda pod: (pod.created is not None, pod.created or 0, pod.name))

    def record(self, attempt: int) -> JobRecord:
        """An empty record of an attempt."""
        return JobRecord(self.plan.name, self.plan.inputs_digest, attempt, reason=PROGRESSING)


@dataclass(frozen=True, slots=True)
class _Step:
    """Decision about one plan."""

    record: JobRecord
    creation: Creation | None = None
    patch: Patch | None = None
    poll: ToPoll | None = None
    again: float | None = None


def plan_jobs(
    observed: Observed, plans: Sequence[JobPlan], pages: Mapping[str, Progress] | None = None
) -> JobsDecision:
    """Decide about all Jobs of a custom resource.

    Parameters
    ----------
    plans:
        The Jobs that it needs. All others of it are deleted, and their records dropped.
    pages:
        Progress pages by uid of the pod, as far as they are known.
    """
    stored = {one.name: one for one in parse_records(observed.model.status)}
    cases = [_case(observed, plan, stored.get(plan.name), pages or {}) for plan in plans]
    steps = [_step(case) for case in cases]
    names = {plan.name for plan in plans}
    unwanted = [job for job in observed.jobs if job.job not in names]
    unwanted += [job for case in cases for job in _unwanted(case)]
    unfinished = [
        step.record
        for case, step in zip(cases, steps, strict=True)
        if case.stored is None or case.stored.phase != "Succeeded"
    ]
    pauses = [step.again for step in steps if step.again is not None]
    return JobsDecision(
        creations=tuple(step.creation for step in steps if step.creation),
        patches=tuple(step.patch for step in steps if step.patch),
        deletions=tuple(Deletion(JOBS, job) for job in unwanted if not job.deleting),
        records=tuple(step.record for step in steps),
        complete=not unfinished,
        verdict=_verdict(unfinished),
        failed=any(record.phase == "Failed" for record in unfinished),
        again=min(pauses, default=None),
        to_poll=tuple(step.poll for step in steps if step.poll),
    )


def _case(
    observed: Observed, plan: JobPlan, stored: JobRecord | None, pages: Mapping[str, Progress]
) -> _Case:
    inputs = plan.inputs_digest
    own = [job for job in observed.jobs if job.job == plan.name]
    return _Case(
        observed,
        plan,
        stored if stored and stored.inputs == inputs else None,
        [job for job in own if job.inputs == inputs],
        [job for job in own if job.inputs != inputs],
        pages,
    )


def _verdict(unfinished: Sequence[JobRecord]) -> Blocked | None:
    """What to say of Jobs that are not complete: a failure first."""
    found = next((one for one in unfinished if one.phase == "Failed"), next(iter(unfinished), None))
    if found is None:
        return None
    if found.phase == "Succeeded":
        return Blocked(PROGRESSING, f"Job {found.name}: its result is being recorded")
    known = found.reason in REASONS
    words = found.message if known else f"{found.reason}: {found.message}"
    return Blocked(found.reason if known else JOB_FAILED, scrub(f"Job {found.name}: {words}"))


def _unwanted(case: _Case) -> list[JobView]:
    """Jobs of the plan that are to be deleted. The newest one stays, for its logs."""
    final = case.stored is not None and case.stored.final
    newest = case.settled if final else max((job.attempt for job in case.jobs), default=0)
    return [
        *case.others,
        *(job for job in case.jobs if job.attempt > newest),
        # The end of a Job that is older is stored before it goes. One that runs after its end was stored is a
        # Job that another client made.
        *(
            job
            for job in case.jobs
            if job.attempt < newest and (not job.finished or job.attempt <= case.settled)
        ),
        *(job for job in case.jobs if newest == job.attempt <= case.settled and not job.finished),
    ]


def _step(case: _Case) -> _Step:
    if case.stored is not None and case.stored.final:
        return _Step(case.stored)
    job = max(
        (one for one in case.jobs if one.attempt > case.settled), key=lambda one: one.attempt, default=None
    )
    if job is None:
        return _next_attempt(case)
    if job.finished:
        return _finished(case, job)
    if job.deleting:
        return _Step(replace(case.record(job.attempt), message=f"{job.name} is being deleted"))
    return _unfinished(case, job)


def _next_attempt(case: _Case) -> _Step:
    """No Job of the attempt whose turn it is: it waits, or is created."""
    stored, plan, attempt = case.stored, case.plan, case.settled + 1
    if stored is not None and stored.completed is not None:
        if stored.attempt >= plan.attempts:
            return _Step(replace(stored, phase="Failed"))
        left = stored.completed + _pause(stored.attempt) - case.observed.now
        if left > timedelta():
            return _Step(stored, again=left.total_seconds())
    in_the_way = _in_the_way(case)
    if in_the_way:
        return _Step(replace(case.record(attempt), message=f"waiting for the end of {in_the_way}"))
    manifest = job_manifest(case.observed.model, plan, attempt)
    record = replace(case.record(attempt), message=f"{manifest['metadata']['name']} is created")
    if plan.suspend:
        record = replace(record, phase="Suspended", reason=SUSPENDED)
    return _Step(record, creation=Creation(JOBS, manifest))


def _in_the_way(case: _Case) -> str:
    """A Job of the plan, or a pod of it or of a deleted Job, that has not ended; empty if there is none."""
    running = next((job.name for job in (*case.jobs, *case.others) if not job.finished), "")
    elsewhere = {job.name for job in case.observed.jobs if job.job != case.plan.name}
    left = (one for one in case.observed.job_pods if one.job not in elsewhere and one.phase not in _ENDED)
    return running or next((f"pod {one.name}" for one in left), "")


def _unfinished(case: _Case, job: JobView) -> _Step:
    """A Job that may still run. All that is ever changed of it is `spec.suspend`."""
    plan, stored = case.plan, case.stored
    if job.condition(FAILURE_TARGET) and stored is not None and stored.attempt == job.attempt:
        # Its pods are being stopped. What the record says of the time before may be the cause.
        return _Step(stored)
    record = replace(case.record(job.attempt), started=job.started)
    change = Patch(JOBS, job, {"spec": {"suspend": plan.suspend}}) if job.suspended != plan.suspend else None
    if plan.suspend:
        return _Step(
            replace(record, phase="Suspended", reason=SUSPENDED, message=f"{job.name} is suspended"),
            patch=change,
        )
    living = [pod for pod in case.pods(job) if not pod.deleting and pod.phase not in _ENDED]
    if not living:
        return _Step(replace(record, message=f"{job.name} has no pod yet"), patch=change)
    pod = living[-1]
    verdict = judge_stages(pod, plan.stages, case.observed.warnings.get(pod.uid, ()))
    page = case.pages.get(pod.uid)
    # The page of the stage before stays until the next stage has one.
    current = page is not None and page.stage in {"", verdict.stage} and not verdict.failed
    told = page.words() if page is not None and current and verdict.running else ""
    words = f"stage {verdict.stage}: {told}" if told else verdict.message
    port = plan.progress_port if verdict.running and pod.ip else None
    return _Step(
        replace(
            record,
            phase="Running" if verdict.running else "Pending",
            reason=verdict.reason,
            message=scrub(words),
        ),
        patch=change,
        poll=ToPoll(pod, port) if port else None,
    )


def _finished(case: _Case, job: JobView) -> _Step:
    """A Job that ended and whose end is not stored yet."""
    complete, failed = job.condition(COMPLETE), job.condition(FAILED)
    ended = complete or failed
    when = (ended.time if ended else None) or case.observed.now.replace(microsecond=0)
    record = replace(case.record(job.attempt), started=job.started, completed=when)
    pods = case.pods(job)
    follows = when + PODS_FOLLOW_WITHIN - case.observed.now
    if follows > timedelta() and _pods_are_behind(case, job, pods):
        waits = replace(record, completed=None, phase="Running", message="waiting for the result of the pod")
        return _Step(waits, again=follows.total_seconds())
    if complete is None:
        return _failed(case, job, record, pods)
    results = next((found for pod in reversed(pods) if (found := stage_results(pod, case.plan.stages))), None)
    if results is None and case.plan.expects_result:
        cause = "its last stage reported no result" if pods else "its pod was deleted before it was read"
        message = f"{job.name} is complete, but {cause}"
        return _failure(case, replace(record, reason=JOB_RESULT_LOST, message=message))
    if results is not None:
        record = replace(record, result=results.result, files=results.files)
    return _Step(replace(record, phase="Succeeded", reason="", message=""), again=SOON)


def _pods_are_behind(case: _Case, job: JobView, pods: Sequence[PodView]) -> bool:
    """Whether the pods of a Job that ended are seen as they were before its end."""
    failed = job.condition(FAILED)
    if failed is not None and failed.reason == _DEADLINE_EXCEEDED:
        # Its pods are deleted, and have nothing to say.
        return False
    needed = failed is not None or case.plan.expects_result
    return needed and (not pods or pods[-1].phase not in _ENDED)


def _failed(case: _Case, job: JobView, record: JobRecord, pods: Sequence[PodView]) -> _Step:
    """A Job that failed: its stage says why, or what held it up until its deadline."""
    condition = job.condition(FAILED)
    if condition is not None and condition.reason == _DEADLINE_EXCEEDED:
        message = f"{job.name} ran longer than its deadline{_last_words(case, job)}"
        return _failure(case, replace(record, reason=JOB_DEADLINE_EXCEEDED, message=message))
    verdict = judge_stages(pods[-1], case.plan.stages) if pods else None
    if verdict is not None and verdict.failed:
        told = replace(record, reason=verdict.reason, message=verdict.message)
        return _failure(case, told, permanent=verdict.permanent)
    message = condition.message if condition else ""
    return _failure(case, replace(record, reason=JOB_FAILED, message=message or f"{job.name} failed"))


def _last_words(case: _Case, job: JobView) -> str:
    """What the stored record says of an attempt that had not ended then."""
    stored = case.stored
    tells = stored is not None and stored.attempt == job.attempt > case.settled
    return f": {stored.message}" if stored is not None and tells and stored.message else ""


def _failure(case: _Case, record: JobRecord, *, permanent: bool = False) -> _Step:
    """The record of a failed attempt: final, or followed by another attempt after a pause."""
    message = scrub(f"attempt {record.attempt} of {case.plan.attempts}: {record.message}")
    record = replace(record, message=message)
    if permanent or record.attempt >= case.plan.attempts:
        return _Step(replace(record, phase="Failed"), again=SOON)
    due = (record.completed or case.observed.now) + _pause(record.attempt)
    return _Step(record, again=max((due - case.observed.now).total_seconds(), SOON))


def _pause(attempt: int) -> timedelta:
    """Time between the failure of an attempt and the next attempt."""
    return min(FIRST_PAUSE * (1 << min(attempt - 1, 10)), LONGEST_PAUSE)
