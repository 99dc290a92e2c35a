"""What cannot be listed or watched stops nothing else: namespaces, Roles, child kinds, CRDs that come and go.

These tests remove the CRD and roles, so they have a control plane of their own.
"""

from __future__ import annotations

import copy
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from serval_lab import Lab
from support import plane
from support.chart import operator_kubeconfig
from support.cluster import Cluster, Object
from support.ledger import LastingFault, lasts
from support.models import model_deployment
from support.operator import OperatorProcess
from support.wait import until

LEFT, RIGHT = "left", "right"
VALUES = (f"watchNamespaces={{{LEFT},{RIGHT}}}",)
ROLE = "serval-operator"
CRD_NAME = "modeldeployments.serval.dev"
MODELS = "modeldeployments"
SOON = 5.0
"""Seconds within which a namespace is served that nothing is wrong with; the machine may be busy."""
Start = Callable[..., OperatorProcess]


@pytest.fixture(scope="module")
def own_plane() -> Iterator[Lab]:
    with plane.control_plane(f"serval-access-{os.getpid()}") as lab:
        yield lab


@pytest.fixture
def cluster(own_plane: Lab) -> Iterator[Cluster]:
    """The cluster with two namespaces and the CRD, emptied afterwards."""
    cluster = Cluster(own_plane.kubeconfig)
    install(own_plane, crd())
    for name in (LEFT, RIGHT):
        make_namespace(own_plane, name)
    yield cluster
    install(own_plane, crd())
    for name in (LEFT, RIGHT):
        own_plane.kubectl("delete", "mdep,deployment,service", "--all", "-n", name, check=False)
    cluster.close()


@pytest.fixture
def identity(own_plane: Lab, cluster: Cluster, tmp_path: Path) -> Path:
    """A kubeconfig with the chart's permissions in both namespaces and nowhere else."""
    assert cluster
    return operator_kubeconfig(own_plane, tmp_path, *VALUES)


@pytest.fixture
def start(identity: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts operators that list every ten seconds; what still runs at the end of the test is killed."""
    made: list[OperatorProcess] = []

    def make(*, wait: bool = True) -> OperatorProcess:
        settings = {"SERVAL_WATCH_NAMESPACES": f"{RIGHT},{LEFT}", "SERVAL_RELIST_SECONDS": "10"}
        made.append(OperatorProcess(identity, tmp_path / str(len(made)), **settings))
        return made[-1].start(wait=wait)

    yield make
    for process in made:
        process.kill()


def crd() -> Object:
    loaded: Object = yaml.safe_load(plane.CRD.read_text())
    return loaded


def install(lab: Lab, document: Object) -> None:
    lab.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump(document))
    until("the kind", lambda: lab.kubectl("get", "mdep", "-A", check=False).returncode == 0)


def make_namespace(lab: Lab, name: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    lab.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(manifest))


def up(process: OperatorProcess, resource: str, namespace: str) -> float | None:
    """The metric of a kind in a namespace."""
    series = f'serval_operator_watch_up{{namespace="{namespace}",resource="{resource}"}} '
    found = re.search(rf"^{re.escape(series)}(\S+)$", process.metrics(), re.MULTILINE)
    return float(found[1]) if found else None


def until_up(process: OperatorProcess, resource: str, namespace: str, value: float) -> None:
    until(
        f"{resource} in {namespace} to be {value}",
        lambda: up(process, resource, namespace) == value,
        limit=60,
    )


def served(cluster: Cluster, name: str, namespace: str, limit: float = 60.0) -> float:
    """Wait until a ModelDeployment has its status; returns the seconds."""
    began = time.monotonic()
    cluster.until(
        "its status",
        "ModelDeployment",
        namespace,
        name,
        lambda obj: obj["status"].get("selector"),
        limit,
    )
    assert cluster.get("Deployment", namespace, name)
    return time.monotonic() - began


def create(cluster: Cluster, name: str, namespace: str) -> None:
    cluster.create(model_deployment(name, namespace, replicas=1))


def untouched(cluster: Cluster, name: str, namespace: str) -> bool:
    """Whether the operator has done nothing about a ModelDeployment."""
    model = cluster.get("ModelDeployment", namespace, name)
    assert model is not None
    return model["status"] == {"observedGeneration": -1} and not cluster.get("Deployment", namespace, name)


def told(process: OperatorProcess, source: str) -> list[str]:
    """Lines of the log about one source going off or coming back."""
    return [
        line.split(source, 1)[1].split(",")[0]
        for line in process.log.read_text().splitlines()
        if f" {source} can" in line
    ]


def test_a_namespace_that_is_deleted_stops_no_other(
    own_plane: Lab, cluster: Cluster, start: Start, identity: Path
) -> None:
    process = start()
    create(cluster, "before", LEFT)
    served(cluster, "before", LEFT)
    own_plane.kubectl("delete", "namespace", RIGHT, "--wait")
    until_up(process, MODELS, RIGHT, 0.0)
    create(cluster, "after", LEFT)
    served(cluster, "after", LEFT, limit=SOON)
    assert process.ready()
    assert f"{MODELS} in namespace {RIGHT} is off" in process.readiness()
    assert process.stop() == 0

    again = start()
    create(cluster, "again", LEFT)
    served(cluster, "again", LEFT, limit=SOON)
    make_namespace(own_plane, RIGHT)
    operator_kubeconfig(own_plane, identity.parent, *VALUES)
    create(cluster, "back", RIGHT)
    served(cluster, "back", RIGHT)
    assert MODELS not in again.readiness()
    assert again.stop() == 0


@lasts("the operator's RoleBinding in one of its namespaces is deleted")
def test_a_role_that_is_taken_away_and_given_back_is_noticed(
    own_plane: Lab, cluster: Cluster, start: Start, identity: Path
) -> None:
    process = start()
    create(cluster, "before", RIGHT)
    served(cluster, "before", RIGHT)
    own_plane.kubectl("delete", "rolebinding", ROLE, "-n", RIGHT)
    fault = LastingFault()
    until_up(process, MODELS, RIGHT, 0.0)
    fault.told("the operator's `/readyz`", process.readiness())
    create(cluster, "here", RIGHT)
    create(cluster, "there", LEFT)
    served(cluster, "there", LEFT, limit=SOON)
    assert untouched(cluster, "here", RIGHT)
    assert cluster.get("Deployment", RIGHT, "before"), "nothing is deleted"
    operator_kubeconfig(own_plane, identity.parent, *VALUES)
    fault.end()
    served(cluster, "here", RIGHT)
    fault.overcome()
    lines = told(process, f"{MODELS} in namespace {RIGHT}")
    assert lines == [" cannot be served", " can be served again"], "once each, not at each attempt"
    assert process.stop() == 0


def test_without_a_child_kind_nothing_is_done_there(
    own_plane: Lab, cluster: Cluster, start: Start, identity: Path
) -> None:
    """It would make again what it cannot see."""
    rules = yaml.safe_load(own_plane.kubectl("get", "role", ROLE, "-n", RIGHT, "-o", "yaml").stdout)["rules"]
    poorer = [rule for rule in rules if rule["resources"] != ["services"]]
    patch = yaml.safe_dump({"rules": poorer})
    own_plane.kubectl("patch", "role", ROLE, "-n", RIGHT, "--type=merge", "-p", patch)
    process = start()
    assert f"services in namespace {RIGHT} is off" in process.readiness()
    for namespace in (RIGHT, LEFT):
        create(cluster, "one", namespace)
    served(cluster, "one", LEFT, limit=SOON)
    assert untouched(cluster, "one", RIGHT)
    assert up(process, MODELS, RIGHT) == 1.0
    assert up(process, "services", RIGHT) == 0.0
    operator_kubeconfig(own_plane, identity.parent, *VALUES)
    served(cluster, "one", RIGHT)
    assert process.stop() == 0


def test_a_crd_that_is_deleted_and_made_again_needs_no_restart(
    own_plane: Lab, cluster: Cluster, start: Start
) -> None:
    process = start()
    create(cluster, "before", LEFT)
    served(cluster, "before", LEFT)
    own_plane.kubectl("delete", "crd", CRD_NAME, "--wait")
    until_up(process, MODELS, LEFT, 0.0)
    until("words about it", lambda: process.readiness().startswith("no kind can be served"))
    assert process.running()
    install(own_plane, crd())
    create(cluster, "after", LEFT)
    served(cluster, "after", LEFT)
    until("readiness", process.ready)
    create(cluster, "later", LEFT)
    served(cluster, "later", LEFT, limit=SOON)
    assert process.stop() == 0
    assert "Traceback" not in process.log.read_text()


def test_a_crd_that_is_absent_at_the_start_is_picked_up(
    own_plane: Lab, cluster: Cluster, start: Start
) -> None:
    own_plane.kubectl("delete", "crd", CRD_NAME, "--wait")
    process = start(wait=False)
    until("words about it", lambda: "cannot be served" in process.log.read_text())
    install(own_plane, crd())
    create(cluster, "first", LEFT)
    served(cluster, "first", LEFT)
    until("readiness", process.ready)
    create(cluster, "next", LEFT)
    served(cluster, "next", LEFT, limit=SOON)
    assert process.stop() == 0


def test_a_crd_older_than_the_operator_is_off_until_it_is_upgraded(
    own_plane: Lab, cluster: Cluster, start: Start
) -> None:
    older = copy.deepcopy(crd())
    fields = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    del fields["disruption"]
    install(own_plane, older)
    process = start(wait=False)
    create(cluster, "one", LEFT)
    words = f"{MODELS} in namespace {LEFT} is off: the CustomResourceDefinition is older than the operator"
    until("words about it", lambda: process.running() and listens(process) and words in process.readiness())
    assert "lacks spec.disruption;" in process.readiness()
    assert untouched(cluster, "one", LEFT)
    install(own_plane, crd())
    served(cluster, "one", LEFT)
    until("readiness", process.ready)
    assert process.stop() == 0


def listens(process: OperatorProcess) -> bool:
    """Whether its pages can be asked for."""
    return process.ready() or "cannot be served" in process.log.read_text()
