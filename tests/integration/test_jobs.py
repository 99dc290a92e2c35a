"""Planned Jobs before the real Job controller: they run, are recorded, and do not run again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from serval_operator.api.job_snapshots import parse_job
from serval_operator.api.snapshots import parse_owner, parse_pod
from serval_operator.jobs.job_plan import JobPlan
from serval_operator.jobs.plan import JobsDecision, plan_jobs
from serval_operator.jobs.record import JobRecord, parse_records
from serval_operator.pods.observation import Observed
from support.cluster import Cluster, Object
from support.kubelet import now
from support.models import model_deployment
from support.wait import until
from unit.operator.jobs.jobs_world import DONE, RESULT, failure

PLAN = JobPlan(
    "convert",
    "a",
    {"spec": {"containers": [{"name": "convert", "image": "convert:1"}]}},
    ("convert",),
    expects_result=True,
    progress_port=8080,
)


class Driver:
    """The part of an operator that plans Jobs; its status is kept in memory."""

    def __init__(self, cluster: Cluster, owner: Object) -> None:
        self.cluster = cluster
        self.owner = owner
        self.namespace: str = owner["metadata"]["namespace"]
        self.status: dict[str, Any] = {}
        self.plan = PLAN

    def decide(self) -> JobsDecision:
        """Plan from what the API server holds."""
        selector = f"serval.dev/owner-name={self.owner['metadata']['name']}"
        observed = Observed(
            model=parse_owner({**self.owner, "status": self.status}),
            children={},
            pods=(),
            now=datetime.now(UTC),
            jobs=[parse_job(one) for one in self.cluster.list("Job", self.namespace, selector)],
            job_pods=[parse_pod(one) for one in self.cluster.list("Pod", self.namespace, selector)],
        )
        return plan_jobs(observed, [self.plan])

    def reconcile(self) -> JobsDecision:
        """Carry out a decision."""
        decision = self.decide()
        for creation in decision.creations:
            self.cluster.create(creation.manifest)
        for patch in decision.patches:
            self.cluster.patch("Job", self.namespace, patch.target.name, dict(patch.fields))
        for deletion in decision.deletions:
            self.cluster.delete("Job", self.namespace, deletion.target.name, propagationPolicy="Background")
        self.status["jobs"] = [one.as_json() for one in decision.records]
        return decision

    def until(self, what: str, holds: Callable[[JobRecord], bool]) -> JobRecord:
        """Reconcile until the record is so."""

        def look() -> JobRecord | None:
            self.reconcile()
            (record,) = parse_records(self.status)
            return record if holds(record) else None

        return until(what, look, 40, 0.2)

    def pod(self) -> Object:
        """The pod of the Job that runs, once there is one."""

        def look() -> Object | None:
            self.reconcile()
            pods = self.cluster.list("Pod", self.namespace, "serval.dev/job=convert")
            living = [
                one for one in pods if one["status"]["phase"] == "Pending" and one["spec"].get("nodeName")
            ]
            return next((one for one in living if "deletionTimestamp" not in one["metadata"]), None)

        return until("a placed pod", look, 40, 0.2)

    def report(self, pod: Object, state: Object, phase: str) -> None:
        """Write the state of the stage, as the kubelet does."""
        status = {
            "phase": phase,
            "podIP": "10.0.0.1",
            "podIPs": [{"ip": "10.0.0.1"}],
            "containerStatuses": [
                {
                    "name": "convert",
                    "state": state,
                    "image": "x",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                }
            ],
        }
        self.cluster.patch("Pod", self.namespace, pod["metadata"]["name"], {"status": status}, "status")

    def finish(self, pod: Object, code: int, message: str) -> None:
        """The stage of a pod ends."""
        ended = {"exitCode": code, "message": message, "startedAt": now(), "finishedAt": now()}
        self.report(pod, {"terminated": ended}, "Failed" if code else "Succeeded")


@pytest.fixture
def driver(cluster: Cluster, namespace: str) -> Driver:
    """A driver whose owner exists; no operator looks at it."""
    return Driver(cluster, cluster.create(model_deployment("digits", namespace)))


def test_runs_once(driver: Driver) -> None:
    driver.plan = replace(PLAN, suspend=True)
    driver.reconcile()
    driver.until("suspended", lambda record: record.phase == "Suspended")
    assert driver.cluster.list("Pod", driver.namespace, "serval.dev/job=convert") == []
    driver.plan = PLAN
    pod = driver.pod()
    assert "automountServiceAccountToken" in pod["spec"]
    assert pod["spec"].get("volumes", []) == []
    driver.report(pod, {"running": {"startedAt": now()}}, "Running")
    driver.until("running", lambda record: record.phase == "Running")
    assert [one.pod.ip for one in driver.decide().to_poll] == ["10.0.0.1"]
    driver.finish(pod, 0, DONE)
    record = driver.until("recorded", lambda record: record.phase == "Succeeded")
    assert record.result == RESULT
    (job,) = driver.cluster.list("Job", driver.namespace)
    name = job["metadata"]["name"]
    driver.cluster.delete("Job", driver.namespace, name, propagationPolicy="Background")
    driver.cluster.until_gone("Job", driver.namespace, name)
    assert driver.reconcile().complete
    assert driver.cluster.list("Job", driver.namespace) == []


def test_a_failure_is_recorded_and_other_inputs_run(driver: Driver) -> None:
    driver.finish(driver.pod(), 1, failure("NotConvertible", "layer 3", permanent=True))
    record = driver.until("failed", lambda record: record.phase == "Failed")
    assert record.message == "attempt 1 of 3: stage convert: layer 3"
    driver.plan = replace(PLAN, inputs="b")
    driver.finish(driver.pod(), 0, DONE)
    driver.until("recorded", lambda record: record.phase == "Succeeded")
    assert len(driver.cluster.list("Job", driver.namespace)) == 1


def test_a_deadline_ends_it(driver: Driver) -> None:
    driver.plan = replace(PLAN, deadline_seconds=1, attempts=1)
    name = driver.pod()["metadata"]["name"]
    driver.cluster.until(
        "its end", "Pod", driver.namespace, name, lambda pod: "deletionTimestamp" in pod["metadata"]
    )
    driver.reconcile()
    driver.cluster.delete("Pod", driver.namespace, name, gracePeriodSeconds=0)
    record = driver.until("failed", lambda record: record.phase == "Failed")
    assert record.reason == "JobDeadlineExceeded"
    assert record.message.endswith("ran longer than its deadline: the node sets up the pod and its images")
