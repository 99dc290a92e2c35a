"""The operator's process and a control plane that fails: restarts, gaps of the watches, missing rights.

These tests kill the API server, so they have a control plane of their own.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from serval_lab import Lab, control_plane
from support import chart, plane
from support.chart import operator_kubeconfig
from support.cluster import Cluster
from support.models import model_deployment
from support.operator import OperatorProcess
from support.wait import until

Factory = Callable[..., OperatorProcess]
NAMESPACE = "default"
APISERVER = "kube-apiserver"
ELECTION = {
    "SERVAL_LEASE_NAME": "serval-operator",
    "SERVAL_LEASE_NAMESPACE": chart.NAMESPACE,
    "SERVAL_LEASE_SECONDS": "5",
}
"""The chart's Lease, with the shortest time that may be configured."""


@pytest.fixture(scope="module")
def own_plane() -> Iterator[Lab]:
    with plane.control_plane(f"serval-runtime-{os.getpid()}") as lab:
        yield lab


@pytest.fixture(scope="module")
def own_identity(own_plane: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return operator_kubeconfig(own_plane, tmp_path_factory.mktemp("identity"))


@pytest.fixture
def bare(own_plane: Lab) -> Iterator[Cluster]:
    """The cluster as it is, perhaps without the CRD."""
    cluster = Cluster(own_plane.kubeconfig)
    yield cluster
    cluster.close()


@pytest.fixture
def ours(own_plane: Lab, bare: Cluster) -> Iterator[Cluster]:
    """The cluster with the CRD; emptied afterwards."""
    install(own_plane)
    yield bare
    for model in bare.list("ModelDeployment", NAMESPACE):
        remove(bare, model["metadata"]["name"])


@pytest.fixture
def start(own_identity: Path, tmp_path: Path) -> Iterator[Factory]:
    """Starts operators; what still runs at the end of the test is killed."""
    made: list[OperatorProcess] = []

    def make(*, wait: bool = True, kubeconfig: Path | None = None, **environment: str) -> OperatorProcess:
        process = OperatorProcess(kubeconfig or own_identity, tmp_path / str(len(made)), **environment)
        made.append(process)
        return process.start(wait=wait)

    yield make
    for process in made:
        process.kill()


def install(lab: Lab) -> None:
    lab.kubectl("apply", "--server-side", "-f", str(plane.CRD))
    until("the new kind", lambda: lab.kubectl("get", "mdep", "-A", check=False).returncode == 0)


def kill_apiserver(lab: Lab) -> None:
    process = lab.context.process(APISERVER)
    assert process is not None
    process.kill()
    # A killed process is dead before its last thread has let go of the port.
    until("the API server's port to be free", lambda: not listening(lab.context.state.ports["apiserver"]))


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start_apiserver(lab: Lab) -> None:
    lab.context.start(APISERVER, control_plane.apiserver_command(lab.context))
    api = control_plane.client(lab.context)
    until("the API server's readiness", api.ready, limit=60)
    api.close()


def restart_apiserver(lab: Lab) -> None:
    kill_apiserver(lab)
    start_apiserver(lab)


def create(cluster: Cluster, name: str) -> None:
    cluster.create(model_deployment(name, NAMESPACE, replicas=1))


def remove(cluster: Cluster, name: str) -> None:
    """Delete a ModelDeployment and its children; the garbage collector is slow after such a restart."""
    cluster.delete("ModelDeployment", NAMESPACE, name)
    for kind, child in children(name):
        cluster.delete(kind, NAMESPACE, child)
    for kind, child in children(name):
        cluster.until_gone(kind, NAMESPACE, child)


def children(name: str) -> tuple[tuple[str, str], ...]:
    return (("Deployment", name), ("Service", name), ("Service", f"{name}-headless"))


def has_children(cluster: Cluster, name: str, limit: float = 30.0) -> None:
    """Wait until all of a ModelDeployment was made, its status last."""
    cluster.until(
        f"status of {name}",
        "ModelDeployment",
        NAMESPACE,
        name,
        lambda obj: obj["status"].get("selector"),
        limit,
    )
    for kind, child in children(name):
        assert cluster.get(kind, NAMESPACE, child), f"{kind} {child}"


def metric(process: OperatorProcess, name: str) -> float:
    found = re.search(rf"^serval_operator_{re.escape(name)} (\S+)$", process.metrics(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_it_goes_on_when_the_api_server_comes_back(own_plane: Lab, ours: Cluster, start: Factory) -> None:
    """Also where the API server is away for longer than the Lease lasts."""
    process = start(**ELECTION)
    pid = process.pid
    create(ours, "before")
    has_children(ours, "before")
    for number in range(2):
        kill_apiserver(own_plane)
        assert process.ready(), "an API server that is away for a moment makes no operator unready"
        until("the Lease to be over", lambda: metric(process, "leader") == 0)
        start_apiserver(own_plane)
        create(ours, f"after-{number}")
        has_children(ours, f"after-{number}")
    assert process.pid == pid
    assert process.stop() == 0


def test_what_ended_during_a_gap_of_the_watches_is_noticed(
    own_plane: Lab, ours: Cluster, start: Factory
) -> None:
    """The operator's version becomes too old for the API server: the watch never tells of the deletion."""
    process = start()
    for name in ("stays", "goes"):
        create(ours, name)
        has_children(ours, name)
    held = 'cached_objects{resource="modeldeployments"}'
    assert metric(process, held) == 2
    os.kill(process.pid, signal.SIGSTOP)
    # The first restart cuts the watches, so that the deletions are not told. The second one forgets them:
    # a new API server cannot go on where the watches ended.
    restart_apiserver(own_plane)
    remove(ours, "goes")
    restart_apiserver(own_plane)
    os.kill(process.pid, signal.SIGCONT)
    until("the deletion to be noticed", lambda: metric(process, held) == 1)
    until("the same of its children", lambda: metric(process, 'cached_objects{resource="deployments"}') == 1)
    assert ours.get("Deployment", NAMESPACE, "goes") is None, "nothing was made anew"
    assert process.stop() == 0


def test_it_waits_for_its_crd(own_plane: Lab, bare: Cluster, start: Factory) -> None:
    own_plane.kubectl("delete", "crd", "modeldeployments.serval.dev", "--ignore-not-found", "--wait")
    process = start(wait=False)
    until("a first attempt", lambda: "cannot be served" in process.log.read_text())
    assert not process.ready()
    install(own_plane)
    until("readiness", process.ready)
    create(bare, "first")
    has_children(bare, "first")
    assert process.stop() == 0
    remove(bare, "first")


def test_without_rights_it_ends_and_says_why(
    own_plane: Lab, ours: Cluster, tmp_path: Path, start: Factory
) -> None:
    assert ours is not None
    own_plane.kubectl("create", "serviceaccount", "nobody", "-n", NAMESPACE, check=False)
    token = own_plane.kubectl("create", "token", "nobody", "-n", NAMESPACE).stdout.strip()
    config = yaml.safe_load(own_plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    kubeconfig = tmp_path / "nobody"
    kubeconfig.write_text(yaml.safe_dump(config))
    process = start(wait=False, kubeconfig=kubeconfig, SERVAL_START_SECONDS="3")
    assert process.wait() == 1
    last = process.log.read_text().splitlines()[-1]
    assert "cannot list resource" in last
    assert "modeldeployments" in last


def test_what_is_in_flight_ends_before_the_process_does(ours: Cluster, start: Factory) -> None:
    process = start()
    for number in range(20):
        create(ours, f"many-{number}")
    until("some work", lambda: ours.list("Deployment", NAMESPACE))
    assert process.stop() == 0
    log = process.log.read_text()
    assert "Traceback" not in log
    assert "cut off" not in log
    assert log.splitlines()[-1].endswith("stopped")
    again = start()
    for number in range(20):
        has_children(ours, f"many-{number}")
    assert again.stop() == 0
