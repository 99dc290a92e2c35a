"""What is wrong, or what others make wrong: a named condition or a repaired child, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support import kubelet as states
from support.cluster import Cluster, condition
from support.kubelet import Kubelet
from support.models import model_deployment
from support.operator import OperatorProcess
from support.wait import until

pytestmark = pytest.mark.usefixtures("operator")

BUCKET = "s3://models/digits"


def serve(kubelet: Kubelet, name: str) -> None:
    """Let the pod of a ModelDeployment answer."""
    (pod,) = until("a pod", lambda: [one for one in kubelet.pods(name) if one["spec"].get("nodeName")])
    kubelet.write(pod, states.ready())


def account(name: str, namespace: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
    }


class TestServiceAccounts:
    def test_one_that_is_missing_then_not_allowed_then_allowed(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet
    ) -> None:
        model = {"uri": BUCKET, "credentials": {"serviceAccountName": "reader"}}
        cluster.create(model_deployment("borrower", namespace, model=model))
        cr = cluster.until_condition(namespace, "borrower", "Ready", "False", "CredentialsNotFound")
        assert "reader" in condition(cr, "Ready")["message"]
        cluster.create(account("reader", namespace))
        cr = cluster.until_condition(namespace, "borrower", "Ready", "False", "ReferenceNotPermitted")
        assert 'serval.dev/allowed: "true"' in condition(cr, "Ready")["message"]
        assert not cluster.get("Deployment", namespace, "borrower"), "pods of a borrowed identity"
        change = {"metadata": {"labels": {"serval.dev/allowed": "true"}}}
        cluster.patch("ServiceAccount", namespace, "reader", change)
        serve(kubelet, "borrower")
        cluster.until_condition(namespace, "borrower", "Ready", "True", "Serving")
        (pod,) = kubelet.pods("borrower")
        assert pod["spec"]["serviceAccountName"] == "reader"

    def test_a_change_to_one_that_is_not_allowed_leaves_what_serves(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet
    ) -> None:
        cluster.create(model_deployment("settled", namespace))
        serve(kubelet, "settled")
        cluster.until_condition(namespace, "settled", "Ready", "True")
        cluster.create(account("theirs", namespace))
        model = {"uri": BUCKET, "credentials": {"serviceAccountName": "theirs"}}
        cluster.patch("ModelDeployment", namespace, "settled", {"spec": {"model": model}})
        cr = cluster.until_condition(namespace, "settled", "Ready", "False", "ReferenceNotPermitted")
        assert condition(cr, "Available")["status"] == "True"
        (pod,) = kubelet.pods("settled")
        assert pod["spec"]["serviceAccountName"] == "default"

    def test_one_that_was_taken_back_gets_no_more_pods(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet
    ) -> None:
        cluster.create(account("lent", namespace, **{"serval.dev/allowed": "true"}))
        model = {"uri": BUCKET, "credentials": {"serviceAccountName": "lent"}}
        cluster.create(model_deployment("lender", namespace, model=model, replicas=1))
        serve(kubelet, "lender")
        cluster.until_condition(namespace, "lender", "Ready", "True")
        cluster.patch(
            "ServiceAccount", namespace, "lent", {"metadata": {"labels": {"serval.dev/allowed": None}}}
        )
        cluster.patch("ModelDeployment", namespace, "lender", {"spec": {"replicas": 3}})
        cr = cluster.until_condition(namespace, "lender", "Ready", "False", "ReferenceNotPermitted")
        assert condition(cr, "Available")["status"] == "True"
        assert len(kubelet.pods("lender")) == 1
        cluster.patch("ModelDeployment", namespace, "lender", {"spec": {"replicas": 1}})
        cluster.until_condition(namespace, "lender", "Ready", "True", "Serving")


class TestUnknownNames:
    @pytest.mark.parametrize(
        ("spec", "reason", "words"),
        [
            ({"runtime": {"name": "moon"}}, "UnknownRuntime", "serval"),
            ({"accelerator": {"profile": "moon", "count": 1}}, "UnknownProfile", "nvidia-gpu"),
            (
                {"runtime": {"name": "tensorflow-serving"}, "endpoint": {"rawBytes": "Enabled"}},
                "UnsupportedSpec",
                "serval",
            ),
            (
                {"runtime": {"name": "tensorflow-serving", "batching": {"maxBatchSize": 8}}},
                "UnsupportedSpec",
                "`spec.runtime.batching` needs what runtime `tensorflow-serving` lacks",
            ),
            (
                {"model": {"uri": BUCKET, "framework": "ONNX"}},
                "UnsupportedSpec",
                "an administrator must add one",
            ),
            (
                {"runtime": {"name": "tensorflow-serving"}, "accelerator": {"profile": "spot", "count": 1}},
                "UnsupportedSpec",
                "has no image for TensorFlow on `spot`, and would compute on the CPU",
            ),
        ],
    )
    def test_are_told_with_what_there_is(
        self, cluster: Cluster, namespace: str, spec: dict[str, Any], reason: str, words: str
    ) -> None:
        cluster.create(model_deployment("lost", namespace, **spec))
        cr = cluster.until_condition(namespace, "lost", "Ready", "False", reason)
        assert words in condition(cr, "Ready")["message"]
        assert condition(cr, "Stalled")["status"] == "True"
        good = {"runtime": None, "accelerator": None, "endpoint": None, "model": {"framework": None}}
        cluster.patch("ModelDeployment", namespace, "lost", {"spec": good})
        cluster.until("the Deployment", "Deployment", namespace, "lost", bool)


STRANGERS = {
    "Deployment": {
        "apiVersion": "apps/v1",
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "theirs"}},
            "template": {
                "metadata": {"labels": {"app": "theirs"}},
                "spec": {"containers": [{"name": "c", "image": "registry.example/theirs:1"}]},
            },
        },
    },
    "Service": {"apiVersion": "v1", "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80}]}},
    "HorizontalPodAutoscaler": {
        "apiVersion": "autoscaling/v2",
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "theirs"},
            "maxReplicas": 3,
        },
    },
    "PodDisruptionBudget": {
        "apiVersion": "policy/v1",
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "theirs"}}},
    },
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_an_object_of_the_name_that_is_somebody_elses(
    cluster: Cluster, namespace: str, kubelet: Kubelet, kind: str
) -> None:
    theirs = cluster.create(
        {**STRANGERS[kind], "kind": kind, "metadata": {"name": "shared", "namespace": namespace}}
    )
    scaled = {
        "replicas": 2,
        "resources": {"requests": {"cpu": "100m"}},
        "autoscaling": {"minReplicas": 2, "maxReplicas": 4},
    }
    cluster.create(model_deployment("shared", namespace, **scaled))
    cr = cluster.until_condition(namespace, "shared", "Ready", "False", "ResourceConflict")
    assert f"{kind}/shared" in condition(cr, "Ready")["message"]
    after = cluster.get(kind, namespace, "shared")
    assert after is not None
    assert after["metadata"]["uid"] == theirs["metadata"]["uid"]
    assert after["spec"] == theirs["spec"]
    assert not after["metadata"].get("ownerReferences")
    cluster.delete(kind, namespace, "shared")
    pods = until(
        "two pods", lambda: len(found := kubelet.pods("shared")) == 2 and _placed(found) and found, limit=60
    )
    for pod in pods:
        kubelet.write(pod, states.ready())
    cluster.until_condition(namespace, "shared", "Ready", "True", "Serving")


def _placed(pods: list[dict[str, Any]]) -> bool:
    return all(pod["spec"].get("nodeName") for pod in pods)


CHILDREN = ("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "ControllerRevision")


def test_children_that_are_deleted_come_back(cluster: Cluster, namespace: str, kubelet: Kubelet) -> None:
    scaled = {
        "replicas": 2,
        "resources": {"requests": {"cpu": "100m"}},
        "autoscaling": {"minReplicas": 2, "maxReplicas": 4},
    }
    cluster.create(model_deployment("robbed", namespace, **scaled))
    until("two pods", lambda: len(kubelet.pods("robbed")) == 2)
    for kind in CHILDREN:
        ours = "app.kubernetes.io/managed-by=serval-operator"
        (first,) = [one for one in cluster.list(kind, namespace, ours) if "headless" not in _name(one)]
        cluster.delete(kind, namespace, _name(first))
        cluster.until(
            f"another {kind}",
            kind,
            namespace,
            _name(first),
            lambda one, first=first: one["metadata"]["uid"] != first["metadata"]["uid"],
        )


def _name(obj: dict[str, Any]) -> str:
    name: str = obj["metadata"]["name"]
    return name


EDITS: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = {
    "Deployment": (
        {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 6}}}},
        lambda one: one["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 6,
    ),
    "Service": (
        {"spec": {"selector": {"app": "theirs"}}},
        lambda one: "app" not in one["spec"]["selector"] or "serval.dev/name" in one["spec"]["selector"],
    ),
    "HorizontalPodAutoscaler": (
        {"spec": {"maxReplicas": 99}},
        lambda one: one["spec"]["maxReplicas"] == 4,
    ),
    "PodDisruptionBudget": (
        {"spec": {"maxUnavailable": 9}},
        lambda one: one["spec"]["maxUnavailable"] == 1,
    ),
}


@pytest.mark.parametrize("kind", EDITS)
def test_children_that_are_edited_by_hand_are_put_back(cluster: Cluster, namespace: str, kind: str) -> None:
    scaled = {
        "replicas": 2,
        "resources": {"requests": {"cpu": "100m"}},
        "autoscaling": {"minReplicas": 2, "maxReplicas": 4},
    }
    cluster.create(model_deployment("edited", namespace, **scaled))
    cluster.until(f"the {kind}", kind, namespace, "edited", bool)
    change, is_back = EDITS[kind]
    edited = cluster.patch(kind, namespace, "edited", change)
    cluster.until(
        "the old state",
        kind,
        namespace,
        "edited",
        lambda one: (
            one["metadata"]["resourceVersion"] != edited["metadata"]["resourceVersion"] and is_back(one)
        ),
    )


def test_a_namespace_that_is_being_deleted(
    cluster: Cluster, namespace: str, kubelet: Kubelet, operator: OperatorProcess
) -> None:
    held = model_deployment("held", namespace)
    held["metadata"]["finalizers"] = ["example.com/hold"]
    cluster.create(held)
    cluster.until("the Deployment", "Deployment", namespace, "held", bool)
    guest = model_deployment("guest", namespace)
    guest["metadata"]["finalizers"] = ["example.com/hold"]
    blocker = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "guest", "namespace": namespace, "finalizers": ["example.com/hold"]},
        "spec": {"ports": [{"port": 80}]},
    }
    cluster.create(blocker)
    cluster.create(guest)
    cluster.until_condition(namespace, "guest", "Ready", "False", "ResourceConflict")
    until("the pod", lambda: kubelet.pods("held"))
    cluster.delete("Namespace", None, namespace)

    def no_pods() -> bool:
        """Pods go first, and the rest waits for them."""
        for pod in cluster.list("Pod", namespace):
            kubelet.remove(pod)
        return not cluster.list("Pod", namespace)

    until("the end of the pods", no_pods)
    cluster.until("its end", "ModelDeployment", namespace, "guest", _is_ending)
    for kind, name in (("Service", "guest"), ("ModelDeployment", "guest"), ("ModelDeployment", "held")):
        cluster.patch(kind, namespace, name, {"metadata": {"finalizers": None}})
        cluster.until_gone(kind, namespace, name)
    assert operator.ready()


def _is_ending(obj: dict[str, Any]) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))
