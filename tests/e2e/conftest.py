"""The real lab with the operator on it, installed by the chart and by nothing else."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from examples.demo.model import TrainedModel, trained_model

from e2e.evidence import evidence
from e2e.stand import (
    ARCHIVE,
    BOTH,
    CA_CONFIG_MAP,
    LIKE_OFFICIAL,
    OPERATOR_NODE,
    PULLS_ALWAYS,
    RESTRICTED,
    TENSORFLOW_ARCHIVE,
    Stand,
    empty_archive,
    evil_archive,
    without,
)
from serval_lab import Lab, Settings
from serval_lab.cleanup import leftovers
from serval_lab.images import Images, build_images
from serval_lab.services import write_image
from support.chart import CHART, NAMESPACE, RELEASE
from support.cluster import Cluster, Object
from support.plane import unused
from support.store import ModelStore
from support.wait import until

LAB = "SERVAL_TEST_LAB"
"""Variable with another name for the lab: runs with different names may go on side by side."""
NODE_GRACE = 8.0
GRACE = 1
"""Seconds of grace of pods that a test leaves behind."""
ONNX_TRAINER = Path(__file__).resolve().parents[2] / "examples" / "digits" / "export_onnx.py"
HPA_PERIOD = 3.0
NO_IMAGE = "no-image"
NO_PROGRAM = "no-program"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a failed test what the cluster holds, while it still does."""
    report = yield
    stand = item.funcargs.get("stand")
    if isinstance(stand, Stand) and report.when == "call" and report.failed:
        report.sections += evidence(stand.lab, stand.namespace)
    return report


@pytest.fixture(scope="session")
def cluster_lab() -> Iterator[Lab]:
    """Three real nodes, ended with the session; nothing of them may be left."""
    name = os.environ.get(LAB, "serval-test")
    lab = unused(Lab(name, node_grace=NODE_GRACE, hpa_period=HPA_PERIOD))
    with lab:
        yield lab
    assert not leftovers(lab.settings.state, lab.folder.path)


@pytest.fixture(scope="session")
def images(cluster_lab: Lab) -> Images:
    """All images, built from the Dockerfile and pushed to the lab's registry."""
    return build_images(cluster_lab.registry, progress=print)


@pytest.fixture(scope="session")
def cluster(cluster_lab: Lab) -> Iterator[Cluster]:
    """The lab's cluster, for its administrator."""
    cluster = Cluster(cluster_lab.kubeconfig)
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def model() -> TrainedModel:
    """The digits in ONNX, trained or from the cache; an image is its pixels."""
    return trained_model(Settings.from_environment().cache / "demo", print, ONNX_TRAINER)


@pytest.fixture(scope="session")
def tensorflow_model() -> TrainedModel:
    """The digits in TensorFlow, trained or from the cache; an image is a PNG."""
    return trained_model(Settings.from_environment().cache / "demo", print)


@pytest.fixture(scope="session")
def installed(cluster_lab: Lab, images: Images) -> Lab:
    """The lab with the chart installed, `helm install --wait`."""
    cluster_lab.helm(
        *("install", RELEASE, str(CHART), f"--namespace={NAMESPACE}", "--create-namespace"),
        *("--wait", "--timeout=180s", "--values=-"),
        stdin=json.dumps(chart_values(cluster_lab, images)),
    )
    return cluster_lab


def chart_values(lab: Lab, images: Images) -> dict[str, Any]:
    """Values of the chart: the lab's images, and runtimes that fail in ways that the tests need."""
    operator_tag, server_tag = (ref.rpartition(":")[2] for ref in (images.operator, images.server))
    broken = {"frameworks": BOTH, "capabilities": ["grpc-predict"]}
    return {
        "image": {"registry": lab.registry, "tag": operator_tag},
        "serverImage": {"registry": lab.registry, "tag": server_tag},
        "defaultRuntime": "serval",
        "operator": {"nodeSelector": {"kubernetes.io/hostname": OPERATOR_NODE}},
        "runtimes": {
            # The lab's GPUs are fake, so the image for CPUs serves on them; it is listed here by intention.
            "serval": {"images": {"nvidia-gpu": images.server, "amd-gpu": images.server}},
            NO_IMAGE: {**broken, "images": {"default": f"{lab.registry}/{NO_IMAGE}:1"}},
            # The operator's image as a model server: it does not know the flags, says so, and ends.
            "crash": {**broken, "images": {"default": images.operator}},
            NO_PROGRAM: {**broken, "images": {"default": broken_image(lab)}},
            PULLS_ALWAYS: {
                "frameworks": BOTH,
                "images": {"default": images.server},
                "capabilities": ["grpc-predict", "rest-predict", "raw-score", "metrics"],
                "imagePullPolicy": "Always",
            },
            LIKE_OFFICIAL: {
                "frameworks": ["TensorFlow"],
                "images": {"default": images.server},
                "args": ["--enable_scoring=false"],
                "capabilities": ["grpc-predict", "rest-predict", "metrics", "batching"],
                "graceSeconds": 30,
            },
        },
    }


def broken_image(lab: Lab) -> str:
    """Push an image whose program may not be executed."""
    with tempfile.TemporaryDirectory() as layout:
        write_image(Path(layout), lab.context.binaries.path("pause"), f"/{NO_PROGRAM}", mode=0o644)
        return lab.load_image(Path(layout), f"test/{NO_PROGRAM}:1")


@pytest.fixture
def store(
    cluster_lab: Lab, cluster: Cluster, model: TrainedModel, tensorflow_model: TrainedModel
) -> Iterator[ModelStore]:
    """A model store in a namespace of its own."""
    created = cluster.create(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "e2e-", "labels": RESTRICTED}}
    )
    namespace: str = created["metadata"]["name"]
    until("the default ServiceAccount", lambda: cluster.get("ServiceAccount", namespace, "default"))
    store = ModelStore(cluster_lab.host, namespace)
    store.answers |= {
        ARCHIVE: model.archive,
        TENSORFLOW_ARCHIVE: tensorflow_model.archive,
        "damaged.tar.gz": without(tensorflow_model.archive, "variables"),
        "denied.tar.gz": 403,
        "empty.tar.gz": empty_archive(),
        "evil.tar.gz": evil_archive(),
    }
    for manifest in store.manifests():
        cluster.create(manifest)
    store.start()
    yield store
    for made in cluster.list("ModelDeployment", namespace):
        cluster.delete("ModelDeployment", namespace, made["metadata"]["name"])
    # Garbage collection comes first: a ReplicaSet that is still there makes pods in place of deleted ones.
    until(f"the ReplicaSets gone from {namespace}", lambda: not cluster.list("ReplicaSet", namespace), 60)
    until(f"the end of the pods in {namespace}", lambda: not hurried(cluster, namespace), limit=120)
    cluster.delete("Namespace", None, namespace)
    store.stop()


def hurried(cluster: Cluster, namespace: str) -> list[Object]:
    """Delete the pods of a namespace without their long grace, and return those that are worth a wait.

    No client sends requests any more, so there is nothing to drain. A pod that holds a device is worth a
    wait, as the next test needs the device. The end of the namespace is not: its controller looks again only
    after half of the longest grace period.
    """
    found = []
    for pod in cluster.list("Pod", namespace):
        metadata = pod["metadata"]
        if metadata.get("deletionGracePeriodSeconds", GRACE + 1) > GRACE:
            cluster.delete("Pod", namespace, metadata["name"], gracePeriodSeconds=GRACE)
            found.append(pod)
        elif holds_device(pod):
            found.append(pod)
    return found


def holds_device(pod: Object) -> bool:
    """Whether a pod asks for more than CPU and memory."""
    limits = (one.get("resources", {}).get("limits", {}) for one in pod["spec"]["containers"])
    return any("/" in resource for one in limits for resource in one)


@pytest.fixture
def stand(installed: Lab, cluster: Cluster, store: ModelStore) -> Stand:
    """A namespace with a model store, watched by the installed operator."""
    stand = Stand(installed, cluster, store.namespace, store)
    stand.copy_ca(CA_CONFIG_MAP)
    return stand
