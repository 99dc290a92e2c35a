"""The operator against a real control plane; pod states are written as a kubelet would write them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from support import kubelet as states
from support.cluster import Cluster, condition
from support.kubelet import Kubelet
from support.models import model_deployment
from support.operator import OperatorProcess
from support.wait import until

pytestmark = pytest.mark.usefixtures("operator")

Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]
GPU = {"resourceName": "nvidia.com/gpu", "count": 1}


def placed(kubelet: Kubelet, name: str, count: int) -> list[dict]:
    """Wait until so many pods of a ModelDeployment have a node."""

    def look() -> list[dict] | None:
        pods = [pod for pod in kubelet.pods(name) if pod["spec"].get("nodeName")]
        return pods if len(pods) == count else None

    return until(f"{count} pods of {name} on a node", look)


class TestChildren:
    def test_makes_a_deployment_and_two_services_it_owns(self, cluster: Cluster, namespace: str) -> None:
        made = cluster.create(model_deployment("digits", namespace, replicas=2, accelerator=GPU))
        deployment = cluster.until("the Deployment", "Deployment", namespace, "digits", bool)
        assert deployment["spec"]["replicas"] == 2
        assert deployment["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
        service = cluster.until("the Service", "Service", namespace, "digits", bool)
        assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == {
            "grpc": 8500,
            "http": 8501,
            "scoring": 80,
        }
        headless = cluster.until("the headless Service", "Service", namespace, "digits-headless", bool)
        assert headless["spec"]["clusterIP"] == "None"

    def test_repairs_a_child_that_was_edited_by_hand(self, cluster: Cluster, namespace: str) -> None:
        cluster.create(model_deployment("edited", namespace))
        cluster.until("the Deployment", "Deployment", namespace, "edited", bool)
        cluster.patch("Deployment", namespace, "edited", {"spec": {"replicas": 7}})
        cluster.until(
            "the old number", "Deployment", namespace, "edited", lambda one: one["spec"]["replicas"] == 1
        )

    def test_makes_a_deleted_child_again(self, cluster: Cluster, namespace: str) -> None:
        cluster.create(model_deployment("removed", namespace))
        first = cluster.until("the Service", "Service", namespace, "removed", bool)
        cluster.delete("Service", namespace, "removed")
        cluster.until(
            "another Service",
            "Service",
            namespace,
            "removed",
            lambda one: one["metadata"]["uid"] != first["metadata"]["uid"],
        )

    def test_never_touches_an_object_that_is_not_its_own(self, cluster: Cluster, namespace: str) -> None:
        stranger = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "taken", "namespace": namespace},
            "spec": {"selector": {"app": "mine"}, "ports": [{"port": 1}]},
        }
        before = cluster.create(stranger)
        cluster.create(model_deployment("taken", namespace))
        cr = cluster.until_condition(namespace, "taken", "Ready", "False", "ResourceConflict")
        assert "Service/taken" in condition(cr, "Ready")["message"]
        after = cluster.get("Service", namespace, "taken")
        assert after is not None
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]

    def test_takes_the_name_once_the_stranger_has_gone(self, cluster: Cluster, namespace: str) -> None:
        stranger = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "freed", "namespace": namespace},
            "spec": {"ports": [{"port": 1}]},
        }
        cluster.create(stranger)
        cluster.create(model_deployment("freed", namespace))
        cluster.until_condition(namespace, "freed", "Ready", "False", "ResourceConflict")
        cluster.delete("Service", namespace, "freed")
        cluster.until_condition(namespace, "freed", "Ready", "False", "Progressing", limit=30)

    def test_deletion_leaves_nothing_behind(self, cluster: Cluster, namespace: str) -> None:
        cluster.create(model_deployment("gone", namespace))
        cluster.until("the Deployment", "Deployment", namespace, "gone", bool)
        cluster.delete("ModelDeployment", namespace, "gone")
        for kind, name in (("Deployment", "gone"), ("Service", "gone"), ("Service", "gone-headless")):
            cluster.until_gone(kind, namespace, name)


class TestStatus:
    def test_becomes_ready_step_by_step(self, cluster: Cluster, namespace: str, kubelet: Kubelet) -> None:
        cluster.create(model_deployment("steps", namespace))
        (pod,) = placed(kubelet, "steps", 1)
        kubelet.write(pod, states.fetching())
        cluster.until_condition(namespace, "steps", "Scheduled", "True")
        kubelet.write(pod, states.loading(version=7))
        cluster.until_condition(namespace, "steps", "ModelFetched", "True")
        kubelet.write(pod, states.ready(version=7))
        cr = cluster.until_condition(namespace, "steps", "Ready", "True", "Serving")
        status = cr["status"]
        assert condition(cr, "Available")["status"] == "True"
        assert condition(cr, "EndpointReady")["status"] == "True"
        assert not condition(cr, "Reconciling")
        assert status["replicasSummary"] == "1/1"
        assert status["modelSummary"] == "steps/7"
        assert status["model"]["digest"].startswith("sha256:")
        assert status["endpoints"]["grpc"] == f"steps.{namespace}.svc:8500"

    @pytest.mark.parametrize(
        ("state", "reason", "words", "stalled"),
        [
            (states.fetch_failed("ModelNotFound", "404 for the archive"), "ModelNotFound", "404", False),
            (states.fetch_failed("ModelDigestMismatch", "other files"), "ModelDigestMismatch", "other", True),
            (states.fetch_failed("Nonsense", "x"), "CrashLoop", "exit code 1", False),
            (states.image_pull_failed("no such image"), "ImagePullFailed", "no such image", False),
            (
                states.crashed(3, "warming up\nsegfault at 0\n"),
                "CrashLoop",
                "exit code 3: segfault at 0",
                False,
            ),
            (states.crashed(137, "", "OOMKilled"), "OutOfMemory", "memory", False),
            (
                states.crashed(
                    255, "Failed to start server. Error: Unknown: 1 servable(s) did not become available"
                ),
                "ModelLoadFailed",
                "did not become available",
                False,
            ),
        ],
        ids=lambda value: value if isinstance(value, str) and value.isalpha() else None,
    )
    def test_names_what_is_wrong_and_forgets_it_when_cured(
        self,
        cluster: Cluster,
        namespace: str,
        kubelet: Kubelet,
        state: dict,
        reason: str,
        words: str,
        stalled: bool,
    ) -> None:
        cluster.create(model_deployment("broken", namespace))
        (pod,) = placed(kubelet, "broken", 1)
        kubelet.write(pod, state)
        cr = cluster.until_condition(namespace, "broken", "Ready", "False", reason)
        assert words in condition(cr, "Ready")["message"]
        assert bool(condition(cr, "Stalled")) is stalled
        assert bool(condition(cr, "Reconciling")) is not stalled
        kubelet.write(pod, states.ready())
        cr = cluster.until_condition(namespace, "broken", "Ready", "True", "Serving")
        assert not condition(cr, "Stalled")

    def test_repeats_the_scheduler(self, cluster: Cluster, namespace: str) -> None:
        cluster.create(model_deployment("big", namespace, resources={"requests": {"cpu": "1000"}}))
        cr = cluster.until_condition(namespace, "big", "Ready", "False", "Unschedulable")
        assert "Insufficient cpu" in condition(cr, "Ready")["message"]

    def test_names_a_refused_device(self, cluster: Cluster, namespace: str, kubelet: Kubelet) -> None:
        cluster.create(model_deployment("refused", namespace))
        (pod,) = placed(kubelet, "refused", 1)
        kubelet.write(pod, states.refused())
        cr = cluster.until_condition(namespace, "refused", "Ready", "False", "DeviceAllocationFailed")
        assert "no healthy devices" in condition(cr, "Ready")["message"]
        (next_pod,) = [one for one in placed_new(kubelet, "refused", pod) if one]
        kubelet.write(next_pod, states.ready())
        cluster.until_condition(namespace, "refused", "Ready", "True", "Serving")

    def test_names_a_full_quota(self, cluster: Cluster, namespace: str, kubelet: Kubelet) -> None:
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "none", "namespace": namespace},
            "spec": {"hard": {"pods": "0"}},
        }
        cluster.create(quota)
        cluster.until(
            "the quota's status",
            "ResourceQuota",
            namespace,
            "none",
            lambda one: one.get("status", {}).get("hard"),
        )
        cluster.create(model_deployment("quota", namespace))
        cr = cluster.until_condition(namespace, "quota", "Ready", "False", "QuotaExceeded")
        assert "exceeded quota" in condition(cr, "Ready")["message"]
        cluster.delete("ResourceQuota", namespace, "none")
        # The controller manager tries again with a back-off of its own; a nudge saves the test that time.
        cluster.patch("ModelDeployment", namespace, "quota", {"spec": {"replicas": 2}})
        for pod in placed(kubelet, "quota", 2):
            kubelet.write(pod, states.ready())
        cluster.until_condition(namespace, "quota", "Ready", "True", "Serving")

    def test_names_the_chart_value_that_a_quota_misses(self, cluster: Cluster, namespace: str) -> None:
        """The spec sets all resources of its own; the fetch container's are the operator's."""
        hard = {"requests.cpu": "4", "requests.memory": "8Gi", "limits.cpu": "8", "limits.memory": "16Gi"}
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "all", "namespace": namespace},
            "spec": {"hard": hard},
        }
        cluster.create(quota)
        cluster.until(
            "the quota's status",
            "ResourceQuota",
            namespace,
            "all",
            lambda one: one.get("status", {}).get("hard"),
        )
        resources = {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"cpu": "1", "memory": "512Mi"},
        }
        cluster.create(model_deployment("limited", namespace, resources=resources))
        cr = cluster.until_condition(namespace, "limited", "Ready", "False", "QuotaExceeded")
        message = condition(cr, "Ready")["message"]
        assert "must specify limits.cpu for: fetch" in message
        assert "`fetch.resources.limits.cpu` (container fetch)" in message

    def test_an_unknown_profile_is_an_invalid_spec_that_keeps_the_children(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet
    ) -> None:
        cluster.create(model_deployment("profile", namespace))
        (pod,) = placed(kubelet, "profile", 1)
        kubelet.write(pod, states.ready())
        cluster.until_condition(namespace, "profile", "Ready", "True", "Serving")
        change = {"spec": {"accelerator": {"profile": "moon"}}}
        cluster.patch("ModelDeployment", namespace, "profile", change)
        cr = cluster.until_condition(namespace, "profile", "Ready", "False", "UnknownProfile")
        assert "moon" in condition(cr, "Ready")["message"]
        assert "nvidia-gpu" in condition(cr, "Ready")["message"]
        assert condition(cr, "Available")["status"] == "True"
        assert condition(cr, "Stalled")["status"] == "True"
        assert cr["status"]["modelSummary"] == "profile/1"


class TestScale:
    def test_kubectl_scale_and_suspend(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet, kubectl: Kubectl
    ) -> None:
        cluster.create(model_deployment("scaled", namespace))
        placed(kubelet, "scaled", 1)
        kubectl("-n", namespace, "scale", "modeldeployments.serval.dev/scaled", "--replicas=3")
        for pod in placed(kubelet, "scaled", 3):
            kubelet.write(pod, states.ready())
        cr = cluster.until_condition(namespace, "scaled", "Ready", "True", "Serving")
        assert cr["status"]["replicasSummary"] == "3/3"
        cluster.patch("ModelDeployment", namespace, "scaled", {"spec": {"suspend": True}})
        cluster.until(
            "no replicas", "Deployment", namespace, "scaled", lambda one: one["spec"]["replicas"] == 0
        )
        until("the pods' end", lambda: stop_all(cluster, kubelet, namespace, "scaled"))
        cr = cluster.until_condition(namespace, "scaled", "Ready", "True", "Suspended")
        assert condition(cr, "Available")["status"] == "False"

    def test_a_change_of_replicas_changes_no_pod(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet
    ) -> None:
        cluster.create(model_deployment("steady", namespace))
        (first,) = placed(kubelet, "steady", 1)
        cluster.patch("ModelDeployment", namespace, "steady", {"spec": {"replicas": 2}})
        pods = placed(kubelet, "steady", 2)
        assert first["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in pods}


class TestEvents:
    def test_tells_each_change_of_reason_once(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet
    ) -> None:
        cluster.create(model_deployment("told", namespace))
        (pod,) = placed(kubelet, "told", 1)
        kubelet.write(pod, states.ready())
        cluster.until_condition(namespace, "told", "Ready", "True", "Serving")

        def serving() -> list[dict]:
            events = cluster.list("Event", namespace, fields="involvedObject.name=told")
            return [event for event in events if event["reason"] == "Serving"]

        events = until("the event", serving)
        assert len(events) == 1
        assert events[0]["type"] == "Normal"
        assert events[0]["source"]["component"] == "serval-operator"


class TestStop:
    def test_stops_cleanly_when_asked(self, operator_factory: Callable[..., OperatorProcess]) -> None:
        process = operator_factory("stopping").start()
        assert process.stop() == 0, process.log.read_text()[-2000:]


def placed_new(kubelet: Kubelet, name: str, old: dict) -> list[dict]:
    """Wait for the pod that replaces an old one."""

    def look() -> list[dict] | None:
        pods = [pod for pod in kubelet.pods(name) if pod["metadata"]["uid"] != old["metadata"]["uid"]]
        return pods if pods and pods[0]["spec"].get("nodeName") else None

    return until(f"a new pod of {name}", look)


def stop_all(cluster: Cluster, kubelet: Kubelet, namespace: str, name: str) -> bool:
    """Remove pods that are to be deleted, as a kubelet that has stopped them; True once there are none."""
    pods = cluster.list("Pod", namespace, selector=f"serval.dev/name={name}")
    for pod in pods:
        if pod["metadata"].get("deletionTimestamp"):
            kubelet.remove(pod)
    return not pods
