"""A second and a third kind on a real control plane: outside of their folders, they cost one line.

A Toy has a Job before its Deployment and waits for a ModelDeployment; a Note has no children at all. The
operator runs with exactly the rights that the chart, generated for these kinds, gives it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from serval_contract.stage_report import StageReport
from serval_lab import Lab
from support import kubelet as states
from support.cluster import Cluster, Object, condition
from support.kubelet import Kubelet, now
from support.models import model_deployment
from support.operator import OperatorProcess
from support.plane import kubectl as run_kubectl
from support.wait import until

Kubectl = Callable[..., CompletedProcess[str]]
SCORE = 7


@pytest.fixture
def toy_operator(toy_identity: Path, tmp_path: Path) -> Iterator[OperatorProcess]:
    """An operator with the kinds of tests. It was never refused anything."""
    process = OperatorProcess(toy_identity, tmp_path / "operator", module="support.toy_operator").start()
    yield process
    process.kill()
    log = process.log.read_text()
    assert "Traceback" not in log
    assert "forbidden: User" not in log, log[-3000:]


class Play:
    """One Toy, and what is done to it and its Job.

    Parameters
    ----------
    since:
        Resource version from which on Jobs are counted.
    """

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.since = cluster.version("Job", namespace)

    def create(self, **spec: Any) -> Object:
        """Create the Toy."""
        return self.cluster.create(
            {
                "apiVersion": "serval.dev/v1alpha1",
                "kind": "Toy",
                "metadata": {"name": "toy", "namespace": self.namespace},
                "spec": {"model": {"uri": "pvc://models/digits"}, "steps": 2, **spec},
            }
        )

    def edit(self, **spec: Any) -> Object:
        """Change the Toy's spec."""
        return self.cluster.patch("Toy", self.namespace, "toy", {"spec": spec})

    def until(self, kind: str, status: str, reason: str = "", words: str = "") -> Object:
        """Wait for a condition of the newest generation."""

        def holds(toy: Object) -> bool:
            found = condition(toy, kind)
            return (
                toy.get("status", {}).get("observedGeneration") == toy["metadata"]["generation"]
                and found.get("status") == status
                and reason in ("", found.get("reason"))
                and words in found.get("message", "")
            )

        return self.cluster.until(f"{kind} {status} {reason}", "Toy", self.namespace, "toy", holds)

    def jobs(self) -> list[Object]:
        """Jobs that are there and not being deleted."""
        jobs = self.cluster.list("Job", self.namespace)
        return [job for job in jobs if not job["metadata"].get("deletionTimestamp")]

    def job(self) -> Object:
        """The only Job, once there is one."""
        (job,) = until("a Job", self.jobs)
        return job

    def ever(self) -> list[str]:
        """Names of all Jobs that were ever created, each as often as it was."""
        events = self.cluster.history("Job", self.namespace, self.since)
        return [event["object"]["metadata"]["name"] for event in events if event["type"] == "ADDED"]

    def pod(self) -> Object:
        """The pod of the Job, once it is on a node."""

        def placed() -> list[Object]:
            pods = self.cluster.list("Pod", self.namespace, selector="batch.kubernetes.io/job-name")
            return [pod for pod in pods if pod["spec"].get("nodeName")]

        return until("the Job's pod on a node", placed)[-1]

    def write(self, pod: Object, phase: str, *containers: Object) -> None:
        """Write the pod's status as a kubelet does."""
        ready = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}
        body = {
            "phase": phase,
            "startTime": now(),
            "conditions": [ready],
            "initContainerStatuses": [containers[0]],
            "containerStatuses": list(containers[1:]),
        }
        self.cluster.patch("Pod", self.namespace, pod["metadata"]["name"], {"status": body}, "status")

    def run(self) -> Object:
        """Let the pod run its first stage."""
        pod = self.pod()
        self.write(pod, "Pending", _running("shuffle"), _waiting("play"))
        return pod

    def end(self, code: int = 0, **report: Any) -> None:
        """Let the pod end."""
        pod = self.pod()
        line = StageReport("play", **report).dump()
        phase = "Failed" if code else "Succeeded"
        self.write(pod, phase, _ended("shuffle", 0, ""), _ended("play", code, line))


def _container(name: str, state: Object) -> Object:
    return {"name": name, "state": state, "ready": False, "restartCount": 0, "image": "x", "imageID": ""}


def _running(name: str) -> Object:
    return _container(name, {"running": {"startedAt": now()}})


def _waiting(name: str) -> Object:
    return _container(name, {"waiting": {"reason": "PodInitializing"}})


def _ended(name: str, code: int, message: str) -> Object:
    times = {"startedAt": now(), "finishedAt": now()}
    ended = {"exitCode": code, "reason": "Error" if code else "Completed", "message": message, **times}
    return _container(name, {"terminated": ended})


@pytest.fixture
def play(cluster: Cluster, namespace: str) -> Play:
    """A Toy to be created."""
    return Play(cluster, namespace)


def let_watch(play: Play) -> None:
    """Let the pods of the Deployment answer."""
    selector = "serval.dev/kind=Toy,serval.dev/name=toy"

    def placed() -> list[Object]:
        pods = play.cluster.list("Pod", play.namespace, selector=selector)
        return [pod for pod in pods if pod["spec"].get("nodeName")]

    (pod,) = until("a watching pod on a node", placed)
    status = {
        "phase": "Running",
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": now()}
            for kind in ("PodScheduled", "Ready")
        ],
        "containerStatuses": [_running("watcher")],
    }
    play.cluster.patch("Pod", play.namespace, pod["metadata"]["name"], {"status": status}, "status")


def test_a_job_a_reference_and_a_deployment_with_the_operator_killed_in_each_phase(
    play: Play, namespace: str, kubelet: Kubelet, toy_operator: OperatorProcess
) -> None:
    def killed(act: Callable[[], Any]) -> Any:
        """Kill the operator, let something happen, and start it again."""
        toy_operator.kill()
        result = act()
        toy_operator.start(wait=False)
        return result

    play.create(after="first", watchers=1)
    play.until("Allowed", "False", "WaitsForModel", f"there is no ModelDeployment {namespace}/first")
    assert play.job()["spec"]["suspend"] is True

    killed(lambda: play.cluster.create(model_deployment("first", namespace)))
    play.until("Allowed", "False", "WaitsForModel", "is not ready")
    (pod,) = until(
        "a pod on a node", lambda: [one for one in kubelet.pods("first") if one["spec"].get("nodeName")]
    )

    killed(lambda: kubelet.write(pod, states.ready()))
    play.until("Allowed", "True")
    until("the Job to be released", lambda: play.job()["spec"]["suspend"] is False)

    killed(play.run)
    play.until("Played", "False", "Progressing", "shuffle")

    killed(lambda: play.end(result={"score": SCORE}))
    toy = play.until("Played", "True")
    (record,) = toy["status"]["jobs"]
    assert (record["phase"], record["attempt"], record["result"]) == ("Succeeded", 1, {"score": SCORE})
    deployment = until("the Deployment", lambda: play.cluster.get("Deployment", namespace, "toy"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["--score", str(SCORE)]
    play.until("Ready", "False", "Progressing", "0 of 1 pods watch")

    killed(lambda: let_watch(play))
    play.until("Ready", "True", "Serving")
    assert len(play.ever()) == 1


def test_a_finished_job_that_is_removed_does_not_run_again(play: Play, toy_operator: OperatorProcess) -> None:
    play.create()
    play.run()
    play.end(result={"score": SCORE})
    play.until("Ready", "True")
    name = play.job()["metadata"]["name"]
    play.cluster.delete("Job", play.namespace, name, propagationPolicy="Background")
    until("no Job", lambda: not play.cluster.list("Job", play.namespace))
    toy_operator.kill()
    toy_operator.start()
    play.edit(watchers=1)
    play.until("Ready", "False", "Progressing")
    let_watch(play)
    play.until("Ready", "True")
    assert play.jobs() == []
    assert play.ever() == [name]


def test_other_inputs_run_anew_and_the_old_job_goes(play: Play, toy_operator: OperatorProcess) -> None:
    play.create()
    first = play.job()["metadata"]["name"]
    pod = play.run()
    play.edit(steps=3)
    # The next Job waits until the pod of the first one is gone.
    found = play.until("Played", "False", "Progressing", "waiting for the end of")
    assert found["status"]["jobs"][0]["phase"] == "Pending"
    assert play.jobs() == []
    play.cluster.delete("Pod", play.namespace, pod["metadata"]["name"], gracePeriodSeconds=0)
    second = play.job()["metadata"]["name"]
    assert second != first
    play.end(result={"score": 1})
    toy = play.until("Ready", "True")
    assert toy["status"]["jobs"][0]["result"] == {"score": 1}
    assert play.ever() == [first, second]


def test_a_failure_is_told_by_condition_column_and_event(
    play: Play, control_plane: Lab, toy_operator: OperatorProcess
) -> None:
    play.create()
    play.run()
    play.end(1, reason="NoSuchGame", message="there is no such game", permanent=True)
    toy = play.until("Ready", "False", words="there is no such game")
    assert condition(toy, "Stalled")["status"] == "True"
    assert len(play.ever()) == 1
    shown = run_kubectl(control_plane, "get", "toys", "-n", play.namespace).stdout.splitlines()
    assert shown[0].split() == ["NAME", "READY", "REASON", "STEPS"]
    assert shown[1].split() == ["toy", "False", condition(toy, "Ready")["reason"], "2"]
    events = play.cluster.list("Event", play.namespace, fields="involvedObject.kind=Toy,type=Warning")
    assert [one["reason"] for one in events] == [condition(toy, "Ready")["reason"]]
    described = run_kubectl(control_plane, "describe", "toy", "toy", "-n", play.namespace).stdout
    assert "there is no such game" in described


def test_the_pods_of_a_job_have_no_token_and_no_service_selects_them(
    play: Play, toy_operator: OperatorProcess
) -> None:
    play.create()
    pod = play.pod()
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert "serval.dev/name" not in pod["metadata"]["labels"]


def test_a_kind_without_children_has_a_status(
    cluster: Cluster, namespace: str, toy_operator: OperatorProcess
) -> None:
    cluster.create(
        {
            "apiVersion": "serval.dev/v1alpha1",
            "kind": "Note",
            "metadata": {"name": "note", "namespace": namespace},
            "spec": {"text": "hello"},
        }
    )
    found = cluster.until(
        "the status", "Note", namespace, "note", lambda one: one.get("status", {}).get("length") == 5
    )
    assert condition(found, "Ready")["status"] == "True"
    assert json.dumps(found["metadata"].get("ownerReferences")) == "null"
