"""Pod states as the kubelet writes them, for clusters without nodes.

Each function gives a status for a pod that runs our two containers. `Kubelet` writes it to the API server.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from support.cluster import Cluster, Object

Status = dict[str, Any]
NODE = "node-a"


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def node(name: str = NODE, **extended: int) -> Object:
    """A node that takes pods; extended resources as nvidia_com__gpu=2 for nvidia.com/gpu."""
    named = {key.replace("__", "/").replace("_", "."): str(units) for key, units in extended.items()}
    resources = {"cpu": "64", "memory": "256Gi", "pods": "500", "ephemeral-storage": "1Ti", **named}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }


def fetch_report(version: int = 1, digest: str = "sha256:" + "a" * 64) -> str:
    """Termination message of a fetch container that succeeded."""
    return json.dumps(
        {"serval": "fetch", "ok": True, "version": version, "digest": digest, "bytes": 1000, "seconds": 0.5}
    )


def starting() -> Status:
    """Placed; nothing runs."""
    return _status("Pending", _waiting("PodInitializing"), _waiting("PodInitializing"))


def fetching() -> Status:
    """The fetch container runs."""
    return _status("Pending", _running(ready=False), _waiting("PodInitializing"))


def fetch_failed(reason: str, message: str, *, permanent: bool = True) -> Status:
    """The fetch container failed with a classified reason and is started again with back-off."""
    report = {"serval": "fetch", "ok": False, "reason": reason, "message": message, "permanent": permanent}
    fetch = _crash_loop("fetch", 1, json.dumps(report))
    return _status("Pending", fetch, _waiting("PodInitializing"))


def image_pull_failed(message: str) -> Status:
    """The server's image cannot be pulled."""
    return _status(
        "Pending",
        _fetched(),
        _waiting("ImagePullBackOff", f'Back-off pulling image "x": ErrImagePull: {message}'),
    )


def loading(version: int = 1) -> Status:
    """The server runs and does not answer yet."""
    return _status("Running", _fetched(version), _running(ready=False))


def crashed(exit_code: int, message: str, reason: str = "Error", restarts: int = 2) -> Status:
    """The server ended and is started again with back-off."""
    return _status("Running", _fetched(), _crash_loop("server", exit_code, message, reason, restarts))


def ready(version: int = 1) -> Status:
    """The model answers."""
    return _status("Running", _fetched(version), _running(ready=True), is_ready=True)


def stopped_answering(version: int = 1) -> Status:
    """The server runs and answered once, but its readiness probe fails now."""
    status = _status("Running", _fetched(version), _running(ready=False))
    status["containerStatuses"][0]["started"] = True
    for one in status["conditions"]:
        if one["status"] == "False":
            one["reason"] = "ContainersNotReady"
    return status


def at(ip: str, status: Status) -> Status:
    """The same of a pod that has this address."""
    return {**status, "podIP": ip, "podIPs": [{"ip": ip}]}


def refused(message: str = "Allocate failed due to no healthy devices present") -> Status:
    """The node refused the pod when its device plugin did."""
    return {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": message}


def stopped() -> Status:
    """The node stopped the pod in order, and starts it no more."""
    return _status(
        "Succeeded", _fetched(), _container({"terminated": {"exitCode": 0, "reason": "Completed"}})
    )


class Kubelet:
    """Writes pod statuses of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    def pods(self, name: str, kind: str = "ModelDeployment") -> list[Object]:
        """Pods that serve an object, and that are not being deleted."""
        selector = f"serval.dev/kind={kind},serval.dev/name={name}"
        pods = self._cluster.list("Pod", self._namespace, selector=selector)
        return [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]

    def write(self, pod: Object, status: Status) -> Object:
        """Write a status; the conditions that the scheduler wrote stay."""
        body = {"status": {**status, "startTime": now()}}
        return self._cluster.patch("Pod", self._namespace, pod["metadata"]["name"], body, "status")

    def remove(self, pod: Object) -> None:
        """Remove a pod at once, as a kubelet that has stopped it."""
        self._cluster.delete("Pod", self._namespace, pod["metadata"]["name"], gracePeriodSeconds=0)


def _status(phase: str, fetch: Status, server: Status, *, is_ready: bool = False) -> Status:
    initialized = "terminated" in fetch["state"]
    truth = {"PodScheduled": True, "Initialized": initialized, "ContainersReady": is_ready, "Ready": is_ready}
    conditions = [
        {"type": kind, "status": "True" if holds else "False", "lastTransitionTime": now()}
        for kind, holds in truth.items()
    ]
    return {
        "phase": phase,
        "conditions": conditions,
        "initContainerStatuses": [{"name": "fetch", **fetch}],
        "containerStatuses": [{"name": "server", **server}],
    }


def _container(
    state: Status, *, is_ready: bool = False, restarts: int = 0, last: Status | None = None
) -> Status:
    return {
        "state": state,
        "lastState": last or {},
        "ready": is_ready,
        "started": is_ready,
        "restartCount": restarts,
        "image": "x",
        "imageID": "",
    }


def _waiting(reason: str, message: str = "") -> Status:
    return _container({"waiting": {"reason": reason, "message": message}})


def _running(*, ready: bool) -> Status:
    return _container({"running": {"startedAt": now()}}, is_ready=ready)


def _fetched(version: int = 1) -> Status:
    return _container({"terminated": _ended(0, fetch_report(version), "Completed")}, is_ready=True)


def _crash_loop(name: str, code: int, message: str, reason: str = "Error", restarts: int = 1) -> Status:
    waiting = {"reason": "CrashLoopBackOff", "message": f"back-off 10s restarting failed container={name}"}
    return _container(
        {"waiting": waiting}, restarts=restarts, last={"terminated": _ended(code, message, reason)}
    )


def _ended(code: int, message: str, reason: str) -> Status:
    return {
        "exitCode": code,
        "reason": reason,
        "message": message,
        "startedAt": now(),
        "finishedAt": now(),
    }
