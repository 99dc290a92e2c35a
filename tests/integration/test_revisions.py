"""Revisions: what rolls pods, what never does, and what is kept."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from support import kubelet as states
from support.cluster import Cluster, Object, condition
from support.kubelet import Kubelet
from support.models import model_deployment
from support.operator import CONFIGURATION, OperatorProcess
from support.plane import CRD
from support.wait import until

Made = Callable[..., OperatorProcess]
Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]


def serve(cluster: Cluster, kubelet: Kubelet, namespace: str, name: str) -> Object:
    """Let every placed pod answer, until the ModelDeployment serves."""

    def look() -> Object | None:
        for pod in kubelet.pods(name):
            if pod["spec"].get("nodeName") and pod["status"].get("phase") == "Pending":
                kubelet.write(pod, states.ready())
        for pod in cluster.list("Pod", namespace, selector=f"serval.dev/name={name}"):
            if pod["metadata"].get("deletionTimestamp"):
                kubelet.remove(pod)
        found = cluster.get("ModelDeployment", namespace, name)
        ready = condition(found or {}, "Ready")
        current = found and ready.get("observedGeneration") == found["metadata"]["generation"]
        return found if current and ready.get("status") == "True" else None

    return until(f"{name} serving", look, limit=60)


def records(cluster: Cluster, namespace: str, name: str) -> list[Object]:
    """Kept revisions, oldest first."""
    found = cluster.list("ControllerRevision", namespace, selector=f"serval.dev/name={name}")
    return sorted(found, key=lambda one: one["revision"])


def test_a_newer_configuration_rolls_no_pod_and_says_so(
    cluster: Cluster, namespace: str, kubelet: Kubelet, operator_factory: Made
) -> None:
    first = operator_factory("older").start()
    cluster.create(model_deployment("stays", namespace))
    serve(cluster, kubelet, namespace, "stays")
    (pod,) = kubelet.pods("stays")
    assert first.stop() == 0
    second = operator_factory("newer")
    _set_image(second, "registry.example/serval-server:newer")
    second.start()
    cr = cluster.until_condition(namespace, "stays", "UpdateAvailable", "True", "RuntimeChanged")
    assert condition(cr, "Ready")["status"] == "True"
    assert "spec.rollout.trigger" in condition(cr, "UpdateAvailable")["message"]
    cluster.patch("ModelDeployment", namespace, "stays", {"spec": {"replicas": 2}})
    cr = serve(cluster, kubelet, namespace, "stays")
    assert pod["metadata"]["uid"] in {one["metadata"]["uid"] for one in kubelet.pods("stays")}
    asked = cluster.patch("ModelDeployment", namespace, "stays", {"spec": {"rollout": {"trigger": "1"}}})
    assert asked["metadata"]["generation"] == cr["metadata"]["generation"] + 1
    cluster.until(
        "the newer image",
        "Deployment",
        namespace,
        "stays",
        lambda one: one["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":newer"),
    )
    served = serve(cluster, kubelet, namespace, "stays")
    assert served["status"]["observedGeneration"] == asked["metadata"]["generation"]
    assert served["status"]["revision"] != cr["status"]["revision"]
    until(
        "no update left",
        lambda: not condition(cluster.get("ModelDeployment", namespace, "stays") or {}, "UpdateAvailable"),
    )
    assert second.stop() == 0


def _set_image(operator: OperatorProcess, image: str) -> None:
    runtimes = [dict(one) for one in CONFIGURATION["runtimes"]]
    runtimes[0]["images"] = dict.fromkeys(runtimes[0]["images"], image)
    operator.configuration.write_text(yaml.safe_dump({**CONFIGURATION, "runtimes": runtimes}))


def test_a_crd_with_a_new_defaulted_field_rolls_nothing_even_when_scaled(
    cluster: Cluster,
    namespace: str,
    kubelet: Kubelet,
    operator_factory: Made,
    kubectl: Kubectl,
    tmp_path: Path,
) -> None:
    operator = operator_factory("upgraded").start()
    cluster.create(model_deployment("upgraded", namespace))
    before = serve(cluster, kubelet, namespace, "upgraded")["status"]["revision"]
    (pod,) = kubelet.pods("upgraded")
    newer = yaml.safe_load(CRD.read_text())
    spec = newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    spec["fromTheFuture"] = {"type": "integer", "default": 7}
    changed = tmp_path / "newer.yaml"
    changed.write_text(yaml.safe_dump(newer))
    try:
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(changed))
        cluster.until(
            "the new field",
            "ModelDeployment",
            namespace,
            "upgraded",
            lambda one: one["spec"].get("fromTheFuture") == 7,
        )
        kubectl("-n", namespace, "scale", "mdep/upgraded", "--replicas=2")
        after = serve(cluster, kubelet, namespace, "upgraded")
        assert after["status"]["revision"] == before
        assert pod["metadata"]["uid"] in {one["metadata"]["uid"] for one in kubelet.pods("upgraded")}
    finally:
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    assert operator.stop() == 0


def test_history_is_short_and_holds_what_is_in_use(
    cluster: Cluster, namespace: str, kubelet: Kubelet, operator_factory: Made
) -> None:
    operator = operator_factory("historian").start()
    cluster.create(model_deployment("often", namespace))
    for period in range(2, 8):
        serve(cluster, kubelet, namespace, "often")
        change = {"spec": {"probes": {"readiness": {"periodSeconds": period}}}}
        cluster.patch("ModelDeployment", namespace, "often", change)
    cr = serve(cluster, kubelet, namespace, "often")
    # Three beside the one in use.
    until("a short history", lambda: len(records(cluster, namespace, "often")) == 4)
    kept = records(cluster, namespace, "often")
    assert kept[-1]["metadata"]["labels"]["serval.dev/revision"] == cr["status"]["revision"]
    assert [one["revision"] for one in kept] == sorted(one["revision"] for one in kept)
    assert operator.stop() == 0


class TestOptionalChildren:
    SCALED: ClassVar[dict[str, Any]] = {
        "replicas": 2,
        "resources": {"requests": {"cpu": "1"}},
        "autoscaling": {"minReplicas": 2, "maxReplicas": 4, "targetUtilization": 60},
    }

    def test_an_autoscaler_targets_the_modeldeployment_and_goes_while_suspended(
        self, cluster: Cluster, namespace: str, operator_factory: Made
    ) -> None:
        operator = operator_factory("scaling").start()
        cluster.create(model_deployment("scaled", namespace, **self.SCALED))
        made = cluster.until("the autoscaler", "HorizontalPodAutoscaler", namespace, "scaled", bool)
        assert made["spec"]["scaleTargetRef"]["kind"] == "ModelDeployment"
        assert (made["spec"]["minReplicas"], made["spec"]["maxReplicas"]) == (2, 4)
        budget = cluster.until("the budget", "PodDisruptionBudget", namespace, "scaled", bool)
        assert budget["spec"]["maxUnavailable"] == 1
        cluster.patch("ModelDeployment", namespace, "scaled", {"spec": {"suspend": True}})
        cluster.until_gone("HorizontalPodAutoscaler", namespace, "scaled")
        cluster.patch("ModelDeployment", namespace, "scaled", {"spec": {"suspend": False}})
        cluster.until("it comes back", "HorizontalPodAutoscaler", namespace, "scaled", bool)
        cluster.patch("ModelDeployment", namespace, "scaled", {"spec": {"autoscaling": None, "replicas": 1}})
        cluster.until_gone("HorizontalPodAutoscaler", namespace, "scaled")
        cluster.until_gone("PodDisruptionBudget", namespace, "scaled")
        assert operator.stop() == 0

    def test_a_budget_of_somebody_else_is_left_alone(
        self, cluster: Cluster, namespace: str, operator_factory: Made
    ) -> None:
        theirs = cluster.create(
            {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": {"name": "shared", "namespace": namespace},
                "spec": {"maxUnavailable": 3, "selector": {"matchLabels": {"app": "theirs"}}},
            }
        )
        operator = operator_factory("polite").start()
        cluster.create(model_deployment("shared", namespace, replicas=2))
        cluster.until_condition(namespace, "shared", "Ready", "False", "ResourceConflict")
        after = cluster.get("PodDisruptionBudget", namespace, "shared")
        assert after is not None
        assert after["spec"] == theirs["spec"]
        assert operator.stop() == 0


def test_a_port_that_was_renumbered_by_hand_is_put_back(
    cluster: Cluster, namespace: str, operator_factory: Made
) -> None:
    operator = operator_factory("mending").start()
    cluster.create(model_deployment("ports", namespace))
    service = cluster.until("the Service", "Service", namespace, "ports", bool)
    ports = [{**port, "port": 9999} if port["name"] == "grpc" else port for port in service["spec"]["ports"]]
    cluster.patch("Service", namespace, "ports", {"spec": {"ports": ports}})
    cluster.until(
        "the old number",
        "Service",
        namespace,
        "ports",
        lambda one: {port["name"]: port["port"] for port in one["spec"]["ports"]}.get("grpc") == 8500,
    )
    cr = cluster.until_condition(namespace, "ports", "Ready", "False", "Progressing")
    assert condition(cr, "Ready")["reason"] == "Progressing"
    assert operator.stop() == 0


def test_a_pod_past_its_deadline_says_so(
    cluster: Cluster, namespace: str, kubelet: Kubelet, operator_factory: Made
) -> None:
    operator = operator_factory("strict").start()
    cluster.create(model_deployment("late", namespace, rollout={"startDeadlineSeconds": 60}))
    (pod,) = until("the pod", lambda: [one for one in kubelet.pods("late") if one["spec"].get("nodeName")])
    status = states.loading()
    for one in status["conditions"]:
        one["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    kubelet.write(pod, status)
    cr = cluster.until_condition(namespace, "late", "Ready", "False", "StartDeadlineExceeded")
    assert "60 s" in condition(cr, "Ready")["message"]
    assert not condition(cr, "Stalled")
    assert operator.stop() == 0
