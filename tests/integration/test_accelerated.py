"""AcceleratedModels on a real control plane: a conversion by a Job, and the pods that serve its artifact.

There are no nodes: the tests write what the kubelet would write about the pods of Job and Deployment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from subprocess import CompletedProcess
from typing import Any

import pytest

from serval_contract.stage_report import StageReport
from support import kubelet as states
from support.cluster import Cluster, Object, condition
from support.kubelet import Kubelet, now
from support.operator import OperatorProcess
from support.wait import until

KIND = "AcceleratedModel"
NAME = "eyes"
LEAST = {"featurizer": "ResNet50", "model": {"uri": "https://models.example.com/resnet50.tar.gz"}}
REPOSITORY = "registry.example/serval/vision/eyes"
FIRST, SECOND = (f"{REPOSITORY}@sha256:{digit * 64}" for digit in "ab")


class Stage:
    """One AcceleratedModel, and what is done to it, its Job and its pods."""

    def __init__(self, cluster: Cluster, namespace: str, kubelet: Kubelet) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.kubelet = kubelet

    def create(self, **spec: Any) -> Object:
        """Create the AcceleratedModel."""
        return self.cluster.create(
            {
                "apiVersion": "serval.dev/v1alpha1",
                "kind": KIND,
                "metadata": {"name": NAME, "namespace": self.namespace},
                "spec": spec or LEAST,
            }
        )

    def edit(self, **spec: Any) -> Object:
        """Change the spec."""
        return self.cluster.patch(KIND, self.namespace, NAME, {"spec": spec})

    def until(self, kind: str, status: str, reason: str = "", words: str = "") -> Object:
        """Wait for a condition of the newest generation."""

        def holds(model: Object) -> bool:
            found = condition(model, kind)
            return (
                model.get("status", {}).get("observedGeneration") == model["metadata"]["generation"]
                and found.get("status") == status
                and reason in ("", found.get("reason"))
                and words in found.get("message", "")
            )

        return self.cluster.until(f"{kind} {status} {reason}", KIND, self.namespace, NAME, holds)

    def job(self, besides: str = "") -> Object:
        """The Job, once there is one of another name than `besides`."""

        def found() -> Object | None:
            jobs = self.cluster.list("Job", self.namespace)
            return next((one for one in jobs if one["metadata"]["name"] != besides), None)

        return until("a Job", found)

    def end(self, job: Object, code: int = 0, stage: str = "push", **report: Any) -> None:
        """Let the pod of a Job end: all stages before `stage` succeeded, and it ended with this report."""
        selector = f"batch.kubernetes.io/job-name={job['metadata']['name']}"

        def placed() -> Object | None:
            pods = self.cluster.list("Pod", self.namespace, selector=selector)
            return next((pod for pod in pods if pod["spec"].get("nodeName")), None)

        pod = until("the Job's pod on a node", placed)
        spec = pod["spec"]
        names = [one["name"] for one in (*spec["initContainers"], *spec["containers"])]
        ended = names.index(stage)
        containers = [
            _ended(name, 0, states.fetch_report() if name == "fetch" else "") for name in names[:ended]
        ]
        containers.append(_ended(stage, code, StageReport(stage, **report).dump()))
        containers += [
            _container(name, {"waiting": {"reason": "PodInitializing"}}) for name in names[ended + 1 :]
        ]
        body = {
            "phase": "Failed" if code else "Succeeded",
            "startTime": now(),
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}],
            "initContainerStatuses": containers[:-1],
            "containerStatuses": containers[-1:],
        }
        self.cluster.patch("Pod", self.namespace, pod["metadata"]["name"], {"status": body}, "status")

    def convert(self, artifact: str = FIRST, besides: str = "") -> Object:
        """Let the conversion succeed, and return its Job."""
        job = self.job(besides)
        conversion = {"quantization": "Int8", "heldOut": {"cosine": 0.99, "agreement": 0.95}}
        self.end(job, result={"artifact": artifact, "bytes": 1000, "conversion": conversion})
        self.until("Converted", "True", "Done", artifact)
        return job

    def serve(self, artifact: str) -> None:
        """Let the pods of the Deployment that have this artifact answer, once they are on a node."""

        def placed() -> list[Object]:
            pods = self.kubelet.pods(NAME, KIND)
            return [pod for pod in pods if pod["spec"].get("nodeName") and artifact in str(pod["spec"])]

        for pod in until("pods with the artifact on a node", placed):
            self.kubelet.write(pod, states.ready())

    def template(self) -> Mapping[str, Any]:
        """Pod template of the Deployment."""
        deployment = until("the Deployment", lambda: self.cluster.get("Deployment", self.namespace, NAME))
        found: Mapping[str, Any] = deployment["spec"]["template"]
        return found


def _container(name: str, state: Object) -> Object:
    return {"name": name, "state": state, "ready": False, "restartCount": 0, "image": "x", "imageID": ""}


def _ended(name: str, code: int, message: str) -> Object:
    ended = {"exitCode": code, "reason": "Error" if code else "Completed", "message": message}
    return _container(name, {"terminated": {**ended, "startedAt": now(), "finishedAt": now()}})


@pytest.fixture
def stage(cluster: Cluster, namespace: str, kubelet: Kubelet) -> Stage:
    """An AcceleratedModel to be created."""
    return Stage(cluster, namespace, kubelet)


def test_from_a_network_to_a_served_device_and_to_another_spec(
    stage: Stage, operator: OperatorProcess, kubectl: Callable[..., CompletedProcess[str]]
) -> None:
    stage.create()
    stage.until("Converted", "Unknown", "Progressing")
    first = stage.convert()
    stage.serve(FIRST)
    model = stage.until("Ready", "True", "Serving")
    assert condition(model, "DeviceProgrammed")["reason"] == "Emulated"
    status = model["status"]
    assert status["endpoints"]["scoring"] == f"http://{NAME}.{stage.namespace}.svc/"
    assert (status["device"], status["engine"], status["conversion"]["cosine"]) == ("u250", "emulator", 0.99)
    ports = stage.cluster.get("Service", stage.namespace, NAME)
    assert ports
    assert {one["port"] for one in ports["spec"]["ports"]} == {80, 50051, 8500, 8501}
    columns = kubectl("-n", stage.namespace, "get", "amodel", NAME, "-o", "wide").stdout.split("\n")
    assert columns[0].split()[:8] == [
        "NAME",
        "AVAILABLE",
        "READY",
        "REASON",
        "FEATURIZER",
        "DEVICE",
        "ENGINE",
        "AGE",
    ]
    assert columns[1].split()[:7] == [NAME, "True", "True", "Serving", "ResNet50", "u250", "emulator"]

    stage.edit(conversion={"quantization": "Float"})
    model = stage.until("Converted", "Unknown", "Progressing")
    assert condition(model, "Available")["status"] == "True"
    assert FIRST in str(stage.template()), "old pods serve until the new spec is converted"
    stage.convert(SECOND, besides=first["metadata"]["name"])
    until("the new artifact in the template", lambda: SECOND in str(stage.template()))
    stage.serve(SECOND)
    stage.until("Ready", "True", "Serving")

    stage.edit(suspend=True)
    stage.until("Ready", "True", "Suspended")
    stage.cluster.delete(KIND, stage.namespace, NAME)
    for kind in ("Deployment", "Service"):
        stage.cluster.until_gone(kind, stage.namespace, NAME)
    until("no Job", lambda: not stage.cluster.list("Job", stage.namespace))
    until("no revision", lambda: not stage.cluster.list("ControllerRevision", stage.namespace))


def test_a_conversion_that_fails(stage: Stage, operator: OperatorProcess) -> None:
    stage.create()
    job = stage.job()
    words = "ValueError: Could not find variable conv1/kernel"
    stage.end(job, 1, "convert", reason="ConversionFailed", message=words, permanent=True)
    model = stage.until("Converted", "False", "ConversionFailed", words)
    assert condition(model, "Ready")["reason"] == "ConversionFailed"
    assert not stage.cluster.get("Deployment", stage.namespace, NAME)
    assert stage.job()["metadata"]["uid"] == job["metadata"]["uid"], "it stays for its logs"


def test_too_low_an_accuracy_leaves_what_serves(stage: Stage, operator: OperatorProcess) -> None:
    stage.create()
    first = stage.convert()
    stage.serve(FIRST)
    stage.until("Ready", "True", "Serving")
    stage.edit(conversion={"accuracy": {"minCosine": 0.999}})
    job = stage.job(besides=first["metadata"]["name"])
    text = "cosine 0.990, and at least 0.999 is asked for"
    stage.end(job, 1, "convert", reason="AccuracyTooLow", message=text, permanent=True)
    model = stage.until("Ready", "False", "AccuracyTooLow", text)
    assert condition(model, "Available")["status"] == "True"
    assert condition(model, "Stalled")["status"] == "True"
    assert FIRST in str(stage.template())


def test_an_artifact_of_another_cluster(stage: Stage, operator: OperatorProcess) -> None:
    stage.create(artifact={"uri": f"oci://{FIRST}"})
    stage.serve(FIRST)
    model = stage.until("Ready", "True", "Serving")
    assert condition(model, "Converted")["status"] == "True"
    assert stage.cluster.list("Job", stage.namespace) == []


def test_random_weights_are_told(stage: Stage, operator: OperatorProcess) -> None:
    stage.create(featurizer="SSDVGG", weights="Random", suspend=True)
    model = stage.until("Ready", "True", "Suspended")
    assert model["status"]["weights"] == "Random"
    assert stage.job()["spec"]["suspend"] is True

    def told() -> list[Object]:
        events = stage.cluster.list("Event", stage.namespace)
        return [one for one in events if (one["type"], one["reason"]) == ("Warning", "RandomWeights")]

    assert len(until("the warning", told)) == 1
