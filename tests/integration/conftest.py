"""The real control plane without nodes: etcd, kube-apiserver, controller manager, scheduler, on loopback."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tools.crds import crd_text

from serval_lab import Lab
from serval_operator.registry import KINDS
from support import plane
from support.chart import operator_kubeconfig
from support.cluster import Cluster
from support.generated_chart import generated_for
from support.kubelet import Kubelet
from support.note import NOTE_CRD, NOTE_KIND
from support.operator import OperatorProcess
from support.toy import TOY_KIND
from support.toy.spec import TOY_CRD
from support.wait import until


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Lab]:
    """A control plane of its own, ended with the session."""
    name = os.environ.get("SERVAL_TEST_LAB", "serval")
    with plane.unused(plane.control_plane(f"{name}-integration")) as lab:
        yield lab


@pytest.fixture(scope="session")
def cluster(control_plane: Lab) -> Iterator[Cluster]:
    """The control plane with our CRD and one node that takes pods."""
    cluster = Cluster(control_plane.kubeconfig)
    plane.prepare(control_plane, cluster)
    yield cluster
    cluster.close()


@pytest.fixture
def kubectl(control_plane: Lab) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the real kubectl against the control plane."""
    return control_plane.kubectl


@pytest.fixture
def audit_log(control_plane: Lab) -> Path:
    """The API server's audit log."""
    return control_plane.audit_log


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace for one test."""
    made = cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "test-"}})
    name: str = made["metadata"]["name"]
    until("the default ServiceAccount", lambda: cluster.get("ServiceAccount", name, "default"))
    yield name
    cluster.delete("Namespace", None, name)
    # Nobody plays the kubelet for pods that are left: they are removed at once.
    for pod in cluster.list("Pod", name):
        cluster.delete("Pod", name, pod["metadata"]["name"], gracePeriodSeconds=0)


@pytest.fixture
def kubelet(cluster: Cluster, namespace: str) -> Kubelet:
    """Writes the pod states of the test's namespace."""
    return Kubelet(cluster, namespace)


@pytest.fixture(scope="session")
def operator_identity(control_plane: Lab, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig with exactly the permissions that the chart gives the operator."""
    return operator_kubeconfig(control_plane, tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="module")
def toy_identity(
    control_plane: Lab, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The rights of an operator with the kinds of tests; their CRDs are installed."""
    for crd in (TOY_CRD, NOTE_CRD):
        applied = plane.kubectl(control_plane, "apply", "-f", "-", stdin=crd_text(crd))
        assert applied.returncode == 0, applied.stderr
        until(
            "the kind", lambda crd=crd: plane.kubectl(control_plane, "get", crd.plural, "-A").returncode == 0
        )
    folder = tmp_path_factory.mktemp("toys")
    chart = generated_for([*KINDS, TOY_KIND, NOTE_KIND], folder)
    yield operator_kubeconfig(control_plane, folder, chart=chart)
    for crd in (TOY_CRD, NOTE_CRD):
        plane.kubectl(control_plane, "delete", "crd", crd.name, "--timeout=20s")


@pytest.fixture
def operator_factory(operator_identity: Path, tmp_path: Path) -> Iterator[Callable[..., OperatorProcess]]:
    """Makes operators as processes; what still runs at the end of the test is killed."""
    made: list[OperatorProcess] = []

    def make(name: str, **environment: str) -> OperatorProcess:
        made.append(OperatorProcess(operator_identity, tmp_path / name, **environment))
        return made[-1]

    yield make
    for process in made:
        process.kill()


@pytest.fixture(scope="module")
def operator(operator_identity: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """An operator that runs for all tests of a module; it must not have died, nor logged a traceback."""
    process = OperatorProcess(operator_identity, tmp_path_factory.mktemp("operator")).start()
    yield process
    assert process.stop() == 0
    assert "Traceback" not in process.log.read_text(), process.log.read_text()[-4000:]
