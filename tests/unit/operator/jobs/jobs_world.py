"""A cluster with the Jobs of one custom resource, and an operator that can be killed between requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

from serval_contract.stage_report import StageReport
from serval_operator.api.job_snapshots import parse_job
from serval_operator.api.snapshots import parse_owner, parse_pod
from serval_operator.jobs.job_plan import JobPlan
from serval_operator.jobs.plan import JobsDecision, plan_jobs
from serval_operator.jobs.record import JobRecord, parse_records
from serval_operator.pods.observation import Observed
from support import gen

STAGES = ("download", "convert")
STRICT = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
TEMPLATE: Mapping[str, Any] = {
    "metadata": {"labels": {"team": "vision"}, "annotations": {"note": "x"}},
    "spec": {
        "initContainers": [
            {"name": "download", "image": "fetch:1", "securityContext": STRICT},
            {"name": "log", "image": "log:1", "restartPolicy": "Always", "securityContext": STRICT},
        ],
        "containers": [{"name": "convert", "image": "convert:1", "securityContext": STRICT}],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "restartPolicy": "OnFailure",
        "automountServiceAccountToken": True,
    },
}
PLAN = JobPlan(
    "convert",
    {"model": "a"},
    TEMPLATE,
    STAGES,
    attempts=3,
    deadline_seconds=600,
    expects_result=True,
    progress_port=8080,
)
RESULT = {"layers": 3}
DONE = StageReport("convert", RESULT).dump()


class World:
    """What the API server holds. Jobs and pods are whole objects, by name."""

    def __init__(self, **changes: Any) -> None:
        self.plan = replace(PLAN, **changes)
        self.seconds = 0.0
        self.status: dict[str, Any] = {}
        self.jobs: dict[str, gen.Object] = {}
        self.pods: dict[str, gen.Object] = {}
        self.made = 0

    # --- the operator ---------------------------------------------------------------------------------

    def observed(self) -> Observed:
        """What the operator sees."""
        return Observed(
            model=parse_owner(gen.model(status=deepcopy(self.status))),
            children={},
            pods=(),
            now=gen.moment(self.seconds),
            jobs=tuple(map(parse_job, self.jobs.values())),
            job_pods=tuple(map(parse_pod, self.pods.values())),
        )

    def decide(self) -> JobsDecision:
        """What the operator would do now."""
        return plan_jobs(self.observed(), [self.plan])

    def reconcile(self, most: int | None = None) -> JobsDecision:
        """One run of the operator, which is killed after `most` of its requests."""
        decision = self.decide()
        for request in self.requests(decision)[:most]:
            request()
        return decision

    def requests(self, decision: JobsDecision) -> list[Callable[[], None]]:
        """The requests of a decision: the children, and then the status."""
        return [
            *(lambda one=one: self._create(one.manifest) for one in decision.creations),
            *(lambda one=one: self._merge(one.target, one.fields) for one in decision.patches),
            *(lambda one=one: self._delete(one.target) for one in decision.deletions),
            lambda: self.status.update(jobs=[one.as_json() for one in decision.records]),
        ]

    @property
    def record(self) -> JobRecord:
        """The stored record."""
        (record,) = parse_records(self.status)
        return record

    @property
    def names(self) -> list[str]:
        """Plan and attempt of each Job, such as ``convert-1``."""
        return sorted(f"{job.job}-{job.attempt}" for job in map(parse_job, self.jobs.values()))

    def _create(self, manifest: gen.Object) -> None:
        name = manifest["metadata"]["name"]
        if name not in self.jobs:
            self.made += 1
            self.jobs[name] = gen.stored(manifest, uid=f"uid-{self.made}")
            self.jobs[name]["metadata"]["creationTimestamp"] = gen.stamp(self.seconds)
            self.jobs[name]["status"] = {}

    def _merge(self, target: Any, fields: Mapping[str, Any]) -> None:
        job = self.jobs.get(target.name)
        if job and job["metadata"]["uid"] == target.uid:
            assert set(fields) == {"spec"}
            assert set(fields["spec"]) == {"suspend"}
            job["spec"] |= fields["spec"]

    def _delete(self, target: Any) -> None:
        job = self.jobs.get(target.name)
        if job and job["metadata"]["uid"] == target.uid:
            del self.jobs[target.name]

    # --- the cluster ----------------------------------------------------------------------------------

    def job(self, attempt: int = 1) -> gen.Object:
        """The Job of an attempt at the present inputs."""
        return self.jobs[self.plan.job_name(gen.MODEL, attempt)]

    def pod_of(self, job: gen.Object) -> gen.Object | None:
        """The newest pod of a Job; None if there is none."""
        uid = job["metadata"]["uid"]
        found = [pod for pod in self.pods.values() if pod["metadata"]["ownerReferences"][0]["uid"] == uid]
        return found[-1] if found else None

    def start(self, job: gen.Object, *options: gen.Option) -> gen.Object:
        """The Job controller makes a pod, which runs its first stage."""
        self.made += 1
        name = f"{job['metadata']['name']}-{self.made}"
        pod = gen.pod(name, gen.placed(), *options, created=self.seconds)
        labels = job["spec"]["template"]["metadata"]["labels"]
        pod["metadata"]["labels"] = {**labels, "batch.kubernetes.io/job-name": job["metadata"]["name"]}
        pod["metadata"]["ownerReferences"] = [
            {"kind": "Job", "uid": job["metadata"]["uid"], "controller": True}
        ]
        pod["status"] |= {"phase": "Running", "podIP": "10.0.0.1"}
        stages(pod, download=gen.running())
        job["status"] |= {"active": 1, "startTime": gen.stamp(self.seconds)}
        self.pods[name] = pod
        return pod

    def finish(self, pod: gen.Object, code: int = 0, message: str = DONE) -> None:
        """The main stage of a pod ends."""
        reason = "Error" if code else "Completed"
        stages(pod, download=gen.ended(0, reason="Completed"), convert=gen.ended(code, message, reason))
        pod["status"]["phase"] = "Failed" if code else "Succeeded"

    def end(self, job: gen.Object, kind: str, reason: str = "", message: str = "") -> None:
        """The Job controller sees the end of a Job."""
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        condition["lastTransitionTime"] = gen.stamp(self.seconds)
        job["status"] |= {"active": 0, "conditions": [condition]}

    def run(self, attempt: int = 1, code: int = 0, message: str = DONE) -> None:
        """A Job runs to its end."""
        job = self.job(attempt)
        self.finish(self.start(job), code, message)
        self.end(job, "Failed" if code else "Complete", "BackoffLimitExceeded" if code else "")

    def running(self) -> list[str]:
        """Pods that run."""
        return [name for name, pod in self.pods.items() if pod["status"]["phase"] in {"Pending", "Running"}]


def stages(pod: gen.Object, **states: gen.Object) -> None:
    """Set the states of the stages of a pod."""
    for name, state in states.items():
        field = "containerStatuses" if name == "convert" else "initContainerStatuses"
        others = [one for one in pod["status"].get(field, ()) if one["name"] != name]
        pod["status"][field] = [*others, {"name": name, "state": state, "lastState": {}, "ready": False}]


def failure(reason: str, message: str, *, permanent: bool = False) -> str:
    """Termination message of a stage that says why it failed."""
    return StageReport("convert", reason=reason, message=message, permanent=permanent).dump()


def nothing(decision: JobsDecision) -> bool:
    """Whether no request about a Job follows."""
    return not (decision.creations or decision.patches or decision.deletions)


def created(**changes: Any) -> World:
    """A world whose first Job is created and recorded."""
    world = World(**changes)
    world.reconcile()
    return world
