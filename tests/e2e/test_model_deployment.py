"""The main job on real nodes: from apply to scores, and back to nothing."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from examples.demo.model import TrainedModel
from examples.demo.scoring import by_grpc, by_http

from e2e.stand import Stand
from e2e.traffic import steady_load
from serval_lab import Lab
from serval_serving.client import HttpClient
from support.cluster import Object, condition
from support.wait import until

GPU = {"profile": "nvidia-gpu"}
SMALL = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}
READY_LIMIT = 240.0
TOLD = "involvedObject.kind=ModelDeployment,involvedObject.name={}"


def address(stand: Stand, name: str) -> str:
    """ClusterIP of a ModelDeployment; the lab routes it from this machine."""
    service = stand.cluster.get("Service", stand.namespace, name)
    assert service is not None
    return str(service["spec"]["clusterIP"])


def pods(stand: Stand, name: str) -> list[Object]:
    """Pods of a ModelDeployment that are not on their way out."""
    found = stand.cluster.list("Pod", stand.namespace, f"serval.dev/name={name}")
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


@pytest.fixture
def digits(stand: Stand) -> Object:
    """The digits model in TensorFlow on two GPUs, Ready."""
    stand.create("digits", replicas=2, accelerator=GPU, resources=SMALL, model=stand.tensorflow())
    return stand.cluster.until_condition(stand.namespace, "digits", "Ready", "True", "Serving", READY_LIMIT)


def test_from_apply_to_scores_to_nothing(
    stand: Stand, digits: Object, tensorflow_model: TrainedModel, cluster_lab: Lab
) -> None:
    _status_tells_all(digits)
    _each_replica_holds_a_gpu(stand)
    _it_tells_what_it_runs_on(stand)
    _kubectl_shows_it(stand, cluster_lab)
    host = address(stand, "digits")
    images = tensorflow_model.images[:64]
    assert by_grpc(f"{host}:8500", "digits", images).accuracy(images) >= 0.95
    assert by_http(f"http://{host}", images).accuracy(images) >= 0.95
    _the_command_finds_it(stand, tensorflow_model, cluster_lab)
    _suspended_and_resumed(stand)
    stand.cluster.delete("ModelDeployment", stand.namespace, "digits")
    for kind, name in (("Deployment", "digits"), ("Service", "digits"), ("Service", "digits-headless")):
        stand.cluster.until_gone(kind, stand.namespace, name)
    until("the pods' end", lambda: not stand.cluster.list("Pod", stand.namespace), limit=120)


def _status_tells_all(cr: Object) -> None:
    status = cr["status"]
    assert status["replicasSummary"] == "2/2"
    assert status["modelSummary"] == "digits/1"
    assert status["model"]["digest"].startswith("sha256:")
    assert [one["name"] for one in status["model"]["inputs"]] == ["images"]
    assert {one["name"] for one in status["model"]["outputs"]} == {"classes", "probabilities"}
    assert status["effective"]["accelerator"] == "nvidia-gpu"
    for kind in ("Ready", "Available", "Scheduled", "ModelFetched", "ModelLoaded", "EndpointReady"):
        assert condition(cr, kind)["status"] == "True", kind
    assert not condition(cr, "Reconciling")


def _it_tells_what_it_runs_on(stand: Stand) -> None:
    """The lab's GPUs have no silicon: the truth is that the model runs on the CPU. It serves all the same."""
    fell_back = "2 of 2 pods: the model runs on the CPU"
    cr = stand.cluster.until(
        fell_back,
        "ModelDeployment",
        stand.namespace,
        "digits",
        lambda cr: condition(cr, "AcceleratorInUse").get("message", "").startswith(fell_back),
    )
    assert condition(cr, "AcceleratorInUse")["reason"] == "EngineOnCpu"
    assert condition(cr, "Ready")["status"] == "True"


def _each_replica_holds_a_gpu(stand: Stand) -> None:
    running = pods(stand, "digits")
    assert {pod["spec"]["nodeName"] for pod in running} == {"gpu-0"}
    for pod in running:
        server = pod["spec"]["containers"][0]
        assert server["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert pod["spec"]["automountServiceAccountToken"] is False


def _kubectl_shows_it(stand: Stand, lab: Lab) -> None:
    name = "modeldeployments.serval.dev/digits"
    waited = lab.kubectl("-n", stand.namespace, "wait", "--for=condition=Ready", name, "--timeout=10s")
    assert "condition met" in waited.stdout
    header, row = lab.kubectl("-n", stand.namespace, "get", "mdep").stdout.splitlines()
    assert header.split() == [
        "NAME",
        "AVAILABLE",
        "READY",
        "REASON",
        "REPLICAS",
        "MODEL",
        "ACCELERATOR",
        "AGE",
    ]
    assert row.split()[:7] == ["digits", "True", "True", "Serving", "2/2", "digits/1", "nvidia-gpu"]
    described = lab.kubectl("-n", stand.namespace, "describe", "mdep", "digits").stdout
    assert "Serving" in described
    assert "Events:" in described


def _the_command_finds_it(stand: Stand, model: TrainedModel, lab: Lab) -> None:
    """`serval predict NAME` reaches the model by the name of its ModelDeployment, in either protocol."""
    image = model.images[0]
    where = ["-n", stand.namespace, f"--kubeconfig={lab.kubeconfig}"]
    for protocol in ("--grpc", "--http"):
        command = ["predict", "digits", str(model.folder / image.name), *where, protocol, "--top=1"]
        done = subprocess.run(
            [Path(sys.executable).with_name("serval"), *command],
            env=lab.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert str(image.label) in done.stdout.split(), done.stdout


def _suspended_and_resumed(stand: Stand) -> None:
    stand.patch("digits", suspend=True)
    cr = stand.cluster.until_condition(stand.namespace, "digits", "Ready", "True", "Suspended", 120)
    assert condition(cr, "Available")["status"] == "False"
    stand.patch("digits", suspend=False, replicas=1)
    stand.cluster.until_condition(stand.namespace, "digits", "Ready", "True", "Serving", READY_LIMIT)


def test_a_rollout_loses_no_request(stand: Stand, model: TrainedModel) -> None:
    stand.create("rolled", replicas=1, resources=SMALL)
    stand.cluster.until_condition(stand.namespace, "rolled", "Ready", "True", "Serving", READY_LIMIT)
    with steady_load(stand, "rolled", model) as load:
        load.until_answers(10)
        before = {pod["metadata"]["uid"] for pod in pods(stand, "rolled")}
        stand.patch("rolled", podMetadata={"annotations": {"example.com/roll": "1"}})
        stand.cluster.until_condition(stand.namespace, "rolled", "Ready", "True", "Serving", READY_LIMIT)
        until("the old pod's end", lambda: not _of(stand, "rolled", before), limit=120)
        load.until_answers(10)
    assert load.failures == [], load.failures[:5]
    assert load.answered > 20


def test_a_rollout_in_place_is_progress_and_no_failure(stand: Stand) -> None:
    # Both GPUs are taken, so each new pod waits for the GPU of the one that it replaces.
    stand.create("placed", replicas=2, accelerator=GPU, resources=SMALL)
    stand.cluster.until_condition(stand.namespace, "placed", "Ready", "True", "Serving", READY_LIMIT)
    before = {pod["metadata"]["uid"] for pod in pods(stand, "placed")}
    stand.patch("placed", podMetadata={"annotations": {"example.com/roll": "1"}})
    until("the old pods' end", lambda: not _of(stand, "placed", before), limit=180)
    stand.cluster.until_condition(stand.namespace, "placed", "Ready", "True", "Serving", READY_LIMIT)
    told = stand.cluster.list("Event", stand.namespace, fields=TOLD.format("placed"))
    # The lab's GPUs have no silicon, and a server that runs on the CPU beside one says so.
    assert {event["reason"] for event in told} == {"Serving", "EngineOnCpu"}


def _of(stand: Stand, name: str, uids: set[str]) -> list[Object]:
    """Pods with one of these uids, those being stopped included."""
    found = stand.cluster.list("Pod", stand.namespace, f"serval.dev/name={name}")
    return [pod for pod in found if pod["metadata"]["uid"] in uids]


def test_serves_from_a_persistent_volume(stand: Stand, model: TrainedModel, cluster_lab: Lab) -> None:
    folder = cluster_lab.node("cpu-0").folder / "log" / "volume"
    _unpack(model, folder)
    name = f"volume-{stand.namespace}"
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadOnlyMany"],
        "storageClassName": name,
        "hostPath": {"path": "/var/log/volume"},
    }
    stand.cluster.create(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
    )
    claim = {
        "storageClassName": name,
        "accessModes": ["ReadOnlyMany"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    metadata = {"name": "models", "namespace": stand.namespace}
    stand.cluster.create(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim}
    )
    try:
        stand.create(
            "stored", model={"uri": "pvc://models/digits", "framework": "ONNX"}, **stand.on_node("cpu-0")
        )
        cr = stand.cluster.until_condition(stand.namespace, "stored", "Ready", "True", "Serving", READY_LIMIT)
        assert cr["status"]["modelSummary"] == "stored/1"
        image = model.images[0]
        with HttpClient(f"http://{address(stand, 'stored')}", timeout=20.0) as client:
            assert int(np.argmax(client.score(image.data))) in range(10)
    finally:
        stand.cluster.delete("PersistentVolume", None, name)


def _unpack(model: TrainedModel, folder: Path) -> None:
    """Lay the model's base path where a node sees it, readable for every user."""
    with tarfile.open(fileobj=io.BytesIO(model.archive)) as archive:
        archive.extractall(folder / "digits", filter="data")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
