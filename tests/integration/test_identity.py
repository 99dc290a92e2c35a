"""What belongs to an object: its kind, its name and its uid decide, on a real control plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from subprocess import CompletedProcess
from typing import Any

import pytest

from support import gen
from support import kubelet as states
from support.cluster import Cluster, Object, condition
from support.kubelet import Kubelet
from support.models import model_deployment
from support.wait import until

pytestmark = pytest.mark.usefixtures("operator")

Kubectl = Callable[..., CompletedProcess[str]]
UNKNOWN = {"name": "not-configured"}
KNOWN = {"name": "serval"}


@pytest.fixture(scope="module", autouse=True)
def toys(cluster: Cluster) -> Iterator[None]:
    """A second kind of the group serval.dev, which the operator does not reconcile."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    cluster.create(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "toys.serval.dev"},
            "spec": {
                "group": "serval.dev",
                "scope": "Namespaced",
                "names": {"kind": "Toy", "plural": "toys", "singular": "toy", "listKind": "ToyList"},
                "versions": [version],
            },
        }
    )
    crd = ("CustomResourceDefinition", None, "toys.serval.dev")
    cluster.until("the kind", *crd, lambda one: condition(one, "Established").get("status") == "True")
    yield
    cluster.delete(*crd)


def toy(cluster: Cluster, namespace: str, name: str) -> Object:
    """An object of the second kind."""
    meta = {"name": name, "namespace": namespace}
    return cluster.create({"apiVersion": "serval.dev/v1alpha1", "kind": "Toy", "metadata": meta, "spec": {}})


def deployment(namespace: str, name: str, labels: dict[str, str], owner: Object) -> Object:
    """A Deployment that an object controls, with one pod."""
    reference = gen.owner_reference(owner["metadata"]["name"], owner["metadata"]["uid"], owner["kind"])
    container = {"name": "server", "image": "registry.example/toy:1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [reference],
        },
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def ready_pod(kubelet: Kubelet, name: str) -> Object:
    """The only pod of a ModelDeployment, made ready."""
    (pod,) = until(
        "a pod on a node", lambda: [one for one in kubelet.pods(name) if one["spec"].get("nodeName")]
    )
    return kubelet.write(pod, states.ready())


def conflicts(cluster: Cluster, namespace: str) -> list[Object]:
    """Events about conflicts."""
    return cluster.list("Event", namespace, fields="reason=ResourceConflict")


class TestTwoKinds:
    def test_pods_of_another_kind_of_the_same_name_do_not_count(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet
    ) -> None:
        other = toy(cluster, namespace, "pair")
        cluster.create(deployment(namespace, "pair-toy", gen.labels("pair", "Toy"), other))
        until("the toy's pod", lambda: cluster.list("Pod", namespace, "serval.dev/kind=Toy"))
        cluster.create(model_deployment("pair", namespace))
        ready_pod(kubelet, "pair")
        found = cluster.until_condition(namespace, "pair", "Ready", "True")
        assert len(cluster.list("Pod", namespace, "serval.dev/name=pair")) == 2
        assert found["status"]["replicas"] == 1
        service = cluster.get("Service", namespace, "pair")
        assert service is not None
        assert service["spec"]["selector"] == gen.labels("pair")

    def test_a_conflict_names_the_other_and_ends_with_it(self, cluster: Cluster, namespace: str) -> None:
        other = toy(cluster, namespace, "twin")
        before = cluster.create(deployment(namespace, "twin", gen.labels("twin", "Toy"), other))
        cluster.create(model_deployment("twin", namespace))
        found = cluster.until_condition(namespace, "twin", "Ready", "False", "ResourceConflict")
        words = f"Deployment/twin exists and belongs to Toy {namespace}/twin"
        assert words in condition(found, "Ready")["message"]
        assert found["status"]["replicas"] == 0
        after = cluster.get("Deployment", namespace, "twin")
        assert after is not None
        assert after["metadata"]["labels"] == before["metadata"]["labels"]
        assert after["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]
        cluster.delete("Toy", namespace, "twin")
        cluster.until_condition(namespace, "twin", "Ready", "False", "Progressing")
        made = cluster.until("its own", "Deployment", namespace, "twin", bool)
        assert made["metadata"]["ownerReferences"][0]["kind"] == "ModelDeployment"

    def test_a_service_that_another_of_our_objects_has(self, cluster: Cluster, namespace: str) -> None:
        """`a` has the headless Service `a-headless`, which is the name of another one's Service."""
        cluster.create(model_deployment("a", namespace))
        cluster.until("the headless Service", "Service", namespace, "a-headless", bool)
        cluster.create(model_deployment("a-headless", namespace))
        found = cluster.until_condition(namespace, "a-headless", "Ready", "False", "ResourceConflict")
        words = f"Service/a-headless exists and belongs to ModelDeployment {namespace}/a"
        assert words in condition(found, "Ready")["message"]


class TestSuccessor:
    def test_counts_no_pod_of_its_predecessor(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet
    ) -> None:
        spec: dict[str, Any] = {"replicas": 1}
        cluster.create(model_deployment("again", namespace, **spec))
        pod = ready_pod(kubelet, "again")
        cluster.until_condition(namespace, "again", "Ready", "True")
        # The pod outlives its owners, as a pod does for a moment while the garbage collector is at work.
        alone = {"metadata": {"ownerReferences": None, "labels": {"pod-template-hash": "none"}}}
        cluster.patch("Pod", namespace, pod["metadata"]["name"], alone)
        cluster.delete("ModelDeployment", namespace, "again")
        cluster.until_gone("Deployment", namespace, "again")
        successor = cluster.create(model_deployment("again", namespace, **spec))
        uid = successor["metadata"]["uid"]
        until("a pod of its own", lambda: cluster.list("Pod", namespace, f"serval.dev/owner-uid={uid}"))
        found = cluster.until(
            "its pod counted",
            "ModelDeployment",
            namespace,
            "again",
            lambda one: one["status"].get("replicas"),
        )
        assert found["status"]["readyReplicas"] == 0
        assert "servingRevision" not in found["status"]
        assert condition(found, "Ready")["status"] == "False"
        assert cluster.get("Pod", namespace, pod["metadata"]["name"]) is not None, (
            "the old pod is still there"
        )
        assert conflicts(cluster, namespace) == []

    def test_waits_for_children_that_are_being_removed(self, cluster: Cluster, namespace: str) -> None:
        cluster.create(model_deployment("waits", namespace))
        cluster.until("the Service", "Service", namespace, "waits", bool)
        cluster.patch("Service", namespace, "waits", {"metadata": {"finalizers": ["serval.dev/test"]}})
        cluster.delete("ModelDeployment", namespace, "waits")
        cluster.until_gone("ModelDeployment", namespace, "waits")
        cluster.create(model_deployment("waits", namespace))
        words = f"Service/waits of a deleted ModelDeployment {namespace}/waits is being removed"
        cluster.until(
            "the reason why it waits",
            "ModelDeployment",
            namespace,
            "waits",
            lambda one: words in condition(one, "Ready").get("message", ""),
        )
        cluster.patch("Service", namespace, "waits", {"metadata": {"finalizers": None}})
        owner = cluster.until(
            "its own Service", "Service", namespace, "waits", owned_by(cluster, namespace, "waits")
        )
        assert owner
        assert conflicts(cluster, namespace) == []


def owned_by(cluster: Cluster, namespace: str, name: str) -> Callable[[Object], bool]:
    """Whether an object belongs to the ModelDeployment that has the name now."""
    current = cluster.get("ModelDeployment", namespace, name)
    assert current is not None
    return lambda one: one["metadata"]["ownerReferences"][0]["uid"] == current["metadata"]["uid"]


def test_its_children_can_be_orphaned(cluster: Cluster, namespace: str, kubectl: Kubectl) -> None:
    """The garbage collector patches every child; the data of a ControllerRevision must stand that."""
    variables = [{"name": "WORDS", "value": "a < b && c > d, ä \u2028"}]
    cluster.create(model_deployment("left", namespace, runtime={**KNOWN, "env": variables}))
    (record,) = until("its revision", lambda: cluster.list("ControllerRevision", namespace))
    kubectl("-n", namespace, "delete", "mdep", "left", "--cascade=orphan", "--timeout=30s")
    assert cluster.get("ModelDeployment", namespace, "left") is None
    for kind, name in (("ControllerRevision", record["metadata"]["name"]), ("Deployment", "left")):
        orphan = cluster.get(kind, namespace, name)
        assert orphan is not None
        assert "ownerReferences" not in orphan["metadata"]


def test_a_deployment_of_an_unreleased_build_is_named(cluster: Cluster, namespace: str) -> None:
    """Such a Deployment selects pods by name alone, and a selector is immutable."""
    made = cluster.create(model_deployment("early", namespace, runtime=UNKNOWN))
    cluster.until_condition(namespace, "early", "Ready", "False", "UnknownRuntime")
    labels = {name: value for name, value in gen.labels("early").items() if name != "serval.dev/kind"}
    cluster.create(deployment(namespace, "early", labels, {**made, "kind": "ModelDeployment"}))
    cluster.patch("ModelDeployment", namespace, "early", {"spec": {"runtime": KNOWN}})
    found = cluster.until_condition(namespace, "early", "Ready", "False", "ResourceConflict")
    assert "Deployment/early was made by an unreleased build" in condition(found, "Ready")["message"]
    cluster.delete("Deployment", namespace, "early", propagationPolicy="Background")
    cluster.until_condition(namespace, "early", "Ready", "False", "Progressing")
