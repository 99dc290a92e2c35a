"""Objects that an earlier release left: this operator rolls nothing and comes to the same verdicts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from serval_lab import Lab
from serval_lab.control_plane import etcd_url
from serval_lab.etcd import Etcd
from support.cluster import Cluster, Object
from support.kubelet import Kubelet
from support.operator import OperatorProcess
from support.release import RELEASES, Release, load, put_back, state_of
from support.wait import until

FOLDERS = sorted(RELEASES.glob("release-*"))
_RECONCILES = re.compile(r"^serval_operator_reconcile_seconds_count\{.*\} (\S+)$", re.MULTILINE)


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def release(request: pytest.FixtureRequest, control_plane: Lab, cluster: Cluster) -> Iterator[Release]:
    """A release's objects, back in their namespace, with pods in the states that they had."""
    folder: Path = request.param
    release = load(folder)
    namespace = release.namespace
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    until("the default ServiceAccount", lambda: cluster.get("ServiceAccount", namespace, "default"))
    with closing(Etcd(etcd_url(control_plane.context))) as store:
        put_back(cluster, store, release)
    until("the pods", lambda: _play(Kubelet(cluster, namespace), release), limit=60)
    yield release
    cluster.delete("Namespace", None, namespace)
    for pod in cluster.list("Pod", namespace):
        cluster.delete("Pod", namespace, pod["metadata"]["name"], gracePeriodSeconds=0)


def _play(kubelet: Kubelet, release: Release) -> bool:
    """Write the states that the pods had; returns whether there are as many pods as then, all placed."""
    complete = True
    for model in release.models:
        name = model["metadata"]["name"]
        pods, had = kubelet.pods(name), release.pods_of(name)
        complete &= len(pods) == len(had) and all(pod["spec"].get("nodeName") for pod in pods)
        for pod, old in zip(pods, had, strict=False):
            kubelet.write(pod, state_of(old))
    return complete


def test_a_later_operator_rolls_nothing(
    release: Release, cluster: Cluster, operator_factory: Callable[..., OperatorProcess]
) -> None:
    namespace = release.namespace
    until("the rollouts over", lambda: all(map(_settled, cluster.list("Deployment", namespace))))
    before = _generations(cluster, namespace)
    operator = operator_factory("later", SERVAL_WATCH_NAMESPACES=namespace)
    operator.configuration.write_text(release.configuration)
    operator.start()
    until("a look at every model", lambda: _reconciles(operator) >= len(release.models))
    for model in release.models:
        name = model["metadata"]["name"]
        cluster.until(f"the verdict on {name}", "ModelDeployment", namespace, name, _same_verdict(model))
    assert _generations(cluster, namespace) == before
    cluster.patch("ModelDeployment", namespace, "plain", {"spec": {"replicas": 2}})
    cluster.until("2 replicas", "Deployment", namespace, "plain", lambda one: one["spec"]["replicas"] == 2)
    assert len(cluster.list("ReplicaSet", namespace, "serval.dev/name=plain")) == 1
    assert operator.stop() == 0
    after = _generations(cluster, namespace)
    assert after.pop("plain") == before.pop("plain") + 1
    assert after == before


def _settled(deployment: Object) -> bool:
    return bool(deployment["status"].get("observedGeneration") == deployment["metadata"]["generation"])


def _generations(cluster: Cluster, namespace: str) -> dict[str, int]:
    found = cluster.list("Deployment", namespace)
    return {one["metadata"]["name"]: one["metadata"]["generation"] for one in found}


def _reconciles(operator: OperatorProcess) -> float:
    return sum(map(float, _RECONCILES.findall(operator.metrics())))


def _same_verdict(model: Object) -> Callable[[Object], Any]:
    expected = _verdict(model)
    return lambda found: _verdict(found) == expected


def _verdict(model: Object) -> set[tuple[str, str, str]]:
    """Return the conditions that must not change.

    A later operator may render other pods and say so (`UpdateAvailable`). For `AcceleratorInUse` it asks a
    server that does not run here.
    """
    conditions = (
        one
        for one in model["status"]["conditions"]
        if one["type"] not in {"UpdateAvailable", "AcceleratorInUse"}
    )
    return {(one["type"], one["status"], one["reason"]) for one in conditions}
