"""The rights that the chart gives for its kinds, on a real API server: they suffice, and are no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serval_lab import Lab
from serval_operator.registry import KINDS
from support.chart import operator_kubeconfig, render
from support.cluster import Cluster
from support.generated_chart import generated_for
from support.models import model_deployment
from support.operator import OperatorProcess
from support.plane import kubectl
from support.toy import TOY_KIND
from support.wait import until

ASKED = {
    "resources": {"requests": {"cpu": "1"}},
    "replicas": 2,
    "autoscaling": {"maxReplicas": 4},
    "disruption": {"maxUnavailable": 1},
}
CHILDREN = ("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget")


@pytest.fixture(params=[(), ("kinds={ModelDeployment}",)], ids=["all kinds", "a named kind"])
def operator(
    request: pytest.FixtureRequest, control_plane: Lab, cluster: Cluster, tmp_path: Path
) -> Iterator[OperatorProcess]:
    """An operator with an identity of its own, with exactly the chart's rights and choice of kinds."""
    values = (*request.param, f"fullnameOverride=kinds-{len(request.param)}")
    (pod,) = (one for one in render(control_plane, *values) if one["kind"] == "Deployment")
    variables = {one["name"]: one["value"] for one in pod["spec"]["template"]["spec"]["containers"][0]["env"]}
    chosen = {name: value for name, value in variables.items() if name == "SERVAL_KINDS"}
    assert len(chosen) == len(request.param)
    identity = operator_kubeconfig(control_plane, tmp_path, *values)
    process = OperatorProcess(identity, tmp_path / "operator", **chosen).start()
    yield process
    process.kill()


def test_the_rights_suffice_for_every_child(
    operator: OperatorProcess, cluster: Cluster, namespace: str
) -> None:
    cluster.create(model_deployment("m", namespace, **ASKED))
    for kind in CHILDREN:
        cluster.until(f"its {kind}", kind, namespace, "m", bool)
    until("its revision", lambda: cluster.list("ControllerRevision", namespace))
    cluster.until_condition(namespace, "m", "Ready", "False", "Progressing")
    less = {"autoscaling": None, "disruption": None, "replicas": 1}
    cluster.patch("ModelDeployment", namespace, "m", {"spec": less})
    for kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget"):
        cluster.until_gone(kind, namespace, "m")
    cluster.patch("ModelDeployment", namespace, "m", {"spec": {"runtime": {"name": "not-configured"}}})
    until("an Event", lambda: cluster.list("Event", namespace, fields="reason=UnknownRuntime"))
    assert operator.stop() == 0
    assert "forbidden" not in operator.log.read_text().lower(), operator.log.read_text()[-4000:]


@pytest.fixture(scope="module")
def two_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart as it is after a second kind was added to the registry."""
    return generated_for([*KINDS, TOY_KIND], tmp_path_factory.mktemp("chart"))


@pytest.mark.parametrize(
    ("kinds", "allowed"),
    [
        ("null", {"toys.serval.dev", "jobs.batch", "modeldeployments.serval.dev", "deployments.apps"}),
        ("{Toy}", {"toys.serval.dev", "jobs.batch", "deployments.apps"}),
        ("{ModelDeployment}", {"modeldeployments.serval.dev", "deployments.apps"}),
    ],
)
def test_a_kind_brings_only_its_rights(
    control_plane: Any, two_kinds: Path, tmp_path: Path, kinds: str, allowed: set[str]
) -> None:
    name = f"two-{len(kinds)}"
    values = (f"kinds={kinds}", f"fullnameOverride={name}")
    identity = operator_kubeconfig(control_plane, tmp_path, *values, chart=two_kinds)
    asked = ("toys.serval.dev", "jobs.batch", "modeldeployments.serval.dev", "deployments.apps", "secrets.")

    def may(resource: str) -> bool:
        plural, _, group = resource.partition(".")
        attributes = {"verb": "list", "resource": plural, "group": group}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        command = (
            "create",
            "--validate=false",
            "-f",
            "-",
            "-o",
            "jsonpath={.status.allowed}",
            f"--kubeconfig={identity}",
        )
        done = kubectl(control_plane, *command, stdin=json.dumps(review))
        assert done.stdout in {"true", "false"}, done.stderr
        return done.stdout == "true"

    # The API server learns of new roles by a watch.
    until("the rights", lambda: all(may(one) for one in allowed))
    assert {one for one in asked if may(one)} == allowed
