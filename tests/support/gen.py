"""Kubernetes objects for tests, as the API server and the kubelet (1.36) write them.

Each object starts plain and takes options, which read as what happened to it::

    gen.pod("digits-1", gen.fetched(version=3), gen.server_crashed(137, reason="OOMKilled"))

Options come in the order of time. Everything is raw JSON data; tests parse it as the operator does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

Object = dict[str, Any]
Option = Callable[[Object], None]

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAMESPACE = "vision"
MODEL = "digits"
MODEL_UID = "0b5e2a53-5d36-4a3e-9a0c-000000000001"
REVISION = "0a1b2c3d4e"
NODE = "gpu-0"
DIGEST = "sha256:" + "a" * 64
IMAGE = "registry.example/serval-server:1"
NOT_FOUND = (
    f'failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": {IMAGE}: not found'
)


def moment(seconds: float = 0.0) -> datetime:
    """A time so many seconds after the start of all tests."""
    return START + timedelta(seconds=seconds)


def stamp(seconds: float = 0.0) -> str:
    """The same as the API server writes it."""
    return moment(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- custom resources and children ---------------------------------------------------------------------


def model(
    name: str = MODEL,
    *options: Option,
    generation: int = 1,
    uid: str = MODEL_UID,
    namespace: str = NAMESPACE,
    status: Object | None = None,
    **spec: Any,
) -> Object:
    """A ModelDeployment as stored: with the CRD's defaults; fields of the spec by keyword."""
    source = {"uri": "https://models.example.com/digits.tar.gz", **spec.pop("model", {})}
    obj = {
        "apiVersion": "serval.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "generation": generation,
            "resourceVersion": "100",
            "creationTimestamp": stamp(),
        },
        "spec": {"replicas": 1, **spec, "model": source},
        "status": {"observedGeneration": -1} if status is None else status,
    }
    return _with(obj, options)


def stored(manifest: Mapping[str, Any], *options: Option, uid: str = "", version: int = 200) -> Object:
    """A manifest as the API server keeps it after our server-side apply."""
    obj = deepcopy(dict(manifest))
    meta = obj["metadata"]
    meta |= {
        "uid": uid or f"uid-{obj['kind']}-{meta['name']}",
        "resourceVersion": str(version),
        "creationTimestamp": stamp(),
        "managedFields": [_entry("serval-operator", "Apply", _fields(manifest))],
    }
    if obj["kind"] == "Deployment":
        meta["generation"] = 1
    return _with(obj, options)


def labels(name: str, kind: str = "ModelDeployment") -> dict[str, str]:
    """Labels that select the pods of an object."""
    return {
        "app.kubernetes.io/managed-by": "serval-operator",
        "serval.dev/kind": kind,
        "serval.dev/name": name,
    }


def owner_reference(name: str, uid: str, kind: str = "ModelDeployment") -> Object:
    """A controlling owner of our group."""
    return {
        "apiVersion": "serval.dev/v1alpha1",
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def deployment(*options: Option, name: str = MODEL, owner: str = MODEL_UID) -> Object:
    """A Deployment of ours, only as full as views need it."""
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": labels(name),
            "annotations": {"serval.dev/applied-hash": "0123456789"},
            "ownerReferences": [owner_reference(name, owner)],
        },
        "spec": {"replicas": 1, "selector": {"matchLabels": labels(name)}},
    }
    return stored(manifest, *options)


def service(*options: Option, name: str = MODEL, owner: str = MODEL_UID) -> Object:
    """A Service of ours, only as full as views need it."""
    obj = deployment(name=name, owner=owner)
    return _with({**obj, "apiVersion": "v1", "kind": "Service", "spec": {"type": "ClusterIP"}}, options)


def managed(manager: str, fields: Object, *, operation: str = "Update", subresource: str = "") -> Option:
    """A manager owns fields of the object (``fieldsV1`` form)."""

    def change(obj: Object) -> None:
        entry = _entry(manager, operation, fields)
        obj["metadata"]["managedFields"].append(
            {**entry, "subresource": subresource} if subresource else entry
        )

    return change


def create_failure(message: str, *, observed: int = 1) -> Option:
    """The Deployment's pods are refused; ``observed`` is the generation that its status speaks of."""

    def change(obj: Object) -> None:
        condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
        obj["status"] = {"observedGeneration": observed, "conditions": [condition]}

    return change


def deleting(obj: Object) -> None:
    """The object has a deletion timestamp."""
    stopping(60)(obj)


def stopping(until: float) -> Option:
    """The object has a deletion timestamp: that of a pod is the end of its grace period."""

    def change(obj: Object) -> None:
        obj["metadata"]["deletionTimestamp"] = stamp(until)

    return change


# --- pods -----------------------------------------------------------------------------------------------


def pod(
    name: str = "digits-1",
    *options: Option,
    revision: str = REVISION,
    created: float = 0.0,
    owner: str = MODEL,
    uid: str = MODEL_UID,
) -> Object:
    """A pod that nobody has looked at yet."""
    obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-{name}",
            "resourceVersion": "300",
            "creationTimestamp": stamp(created),
            "labels": {
                **labels(owner),
                "serval.dev/owner-uid": uid,
                "serval.dev/revision": revision,
                "pod-template-hash": "6d4b75cb6d",
            },
            "ownerReferences": [{"kind": "ReplicaSet", "name": "digits-6d4b75cb6d", "controller": True}],
        },
        "spec": {},
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }
    return _with(obj, options)


def unschedulable(message: str) -> Option:
    """The scheduler found no node."""

    def change(obj: Object) -> None:
        _condition(obj, "PodScheduled", "False", "Unschedulable", message)

    return change


def gated(obj: Object) -> None:
    """A queue holds the pod back with a scheduling gate."""
    words = "Scheduling is blocked due to non-empty scheduling gates"
    _condition(obj, "PodScheduled", "False", "SchedulingGated", words)


def placed(node: str = NODE, *, after: float = 1.0) -> Option:
    """The scheduler chose a node; the kubelet has not seen the pod yet."""

    def change(obj: Object) -> None:
        obj["spec"]["nodeName"] = node
        _condition(obj, "PodScheduled", "True", after=after)

    return change


def starting(node: str = NODE) -> Option:
    """The kubelet took the pod; nothing of it exists yet."""
    waits = {"waiting": {"reason": "PodInitializing"}}

    def change(obj: Object) -> None:
        placed(node)(obj)
        obj["status"]["initContainerStatuses"] = [_container("fetch", waits)]
        obj["status"]["containerStatuses"] = [_container("server", waits)]
        _condition(obj, "PodReadyToStartContainers", "False")
        _condition(obj, "Initialized", "False", "ContainersNotInitialized")
        _condition(obj, "ContainersReady", "False", "ContainersNotReady")
        _condition(obj, "Ready", "False", "ContainersNotReady")

    return change


def sandbox_ready(obj: Object) -> None:
    """The sandbox, its network and the volumes are there; images are being pulled."""
    starting()(obj)
    _condition(obj, "PodReadyToStartContainers", "True")


def fetch(state: Object, *, last: Object | None = None) -> Option:
    """The fetch container is in this state; ``last`` is how its previous run ended."""

    def change(obj: Object) -> None:
        sandbox_ready(obj)
        obj["status"]["initContainerStatuses"] = [_container("fetch", state, last=last)]

    return change


def fetch_running(last: Object | None = None) -> Option:
    """The fetch container runs."""
    return fetch(running(), last=last)


def fetch_failed(code: int, message: str, reason: str = "Error") -> Option:
    """The fetch container ended and waits for its next run, as the kubelet shows it most of the time."""
    return fetch(back_off("fetch"), last=ended(code, message, reason))


def fetched(*, after: float = 10.0, started: float = 6.0, **report: Any) -> Option:
    """The fetch container succeeded. Its report by keyword; ``report=None`` for none at all."""
    told = {"version": 3, "digest": DIGEST, "bytes": 752_000, "seconds": 2.5, **report}
    line = json.dumps({"serval": "fetch", "ok": True, **told})

    def change(obj: Object) -> None:
        done = ended(0, line, "Completed", started=started, finished=after)
        fetch(done)(obj)
        obj["status"]["initContainerStatuses"][0]["ready"] = True
        _condition(obj, "Initialized", "True", after=after)

    return change


def server(
    state: Object, *, last: Object | None = None, answered: bool = False, ready: bool = False
) -> Option:
    """The model's files are there, and the server is in this state."""

    def change(obj: Object) -> None:
        if "terminated" not in _fetch_state(obj):
            fetched()(obj)
        status = _container("server", state, last=last)
        obj["status"]["containerStatuses"] = [{**status, "started": answered, "ready": ready}]
        obj["status"]["phase"] = "Running" if last or "waiting" not in state else "Pending"

    return change


def loading(last: Object | None = None, *, started: float = 12.0) -> Option:
    """The server runs and has not answered yet."""
    return server(running(started), last=last)


def server_crashed(code: int, message: str = "", reason: str = "Error") -> Option:
    """The server ended and waits for its next run."""
    return server(back_off("server"), last=ended(code, message, reason))


def ready(*, after: float = 20.0, last: Object | None = None, started: float = 12.0) -> Option:
    """The model answers."""

    def change(obj: Object) -> None:
        server(running(started), last=last, answered=True, ready=True)(obj)
        _condition(obj, "ContainersReady", "True", after=after)
        _condition(obj, "Ready", "True", after=after)

    return change


def front(
    state: Object, *, last: Object | None = None, answered: bool = False, ready: bool = False
) -> Option:
    """A front in this state stands before the server, which is then an init container that never ends."""

    def change(obj: Object) -> None:
        status = obj["status"]
        status["initContainerStatuses"].append(status["containerStatuses"][0])
        made = _container("front", state, last=last)
        status["containerStatuses"] = [{**made, "started": answered, "ready": ready}]

    return change


def at(ip: str) -> Option:
    """The pod has this address."""

    def change(obj: Object) -> None:
        obj["status"]["podIP"] = ip

    return change


def unready(obj: Object) -> None:
    """The readiness probe fails after it had succeeded."""
    obj["status"]["containerStatuses"][0]["ready"] = False
    pod_unready(obj)


def unready_since(after: float) -> Option:
    """The same, since this time."""

    def change(obj: Object) -> None:
        obj["status"]["containerStatuses"][0]["ready"] = False
        for kind in ("ContainersReady", "Ready"):
            _condition(obj, kind, "False", "ContainersNotReady", after=after)

    return change


def pod_unready(obj: Object) -> None:
    """The pod is not ready, whatever its server is."""
    _condition(obj, "ContainersReady", "False", "ContainersNotReady")
    _condition(obj, "Ready", "False", "ContainersNotReady")


def node_lost(obj: Object) -> None:
    """The node stopped reporting: the node controller takes `Ready` away, and nothing else changes."""
    _condition(obj, "Ready", "False", after=120)


def refused(
    reason: str = "UnexpectedAdmissionError",
    message: str = "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices "
    "nvidia.com/gpu, which is unexpected",
) -> Option:
    """The kubelet did not admit the pod."""

    def change(obj: Object) -> None:
        obj["spec"]["nodeName"] = NODE
        obj["status"] = {
            "phase": "Failed",
            "reason": reason,
            "message": f"Pod was rejected: {message}",
            "qosClass": "BestEffort",
        }

    return change


def evicted(message: str, *, after: float = 0.0) -> Option:
    """The kubelet gave up a pod that ran."""

    def change(obj: Object) -> None:
        obj["status"] |= {"phase": "Failed", "reason": "Evicted", "message": message}
        _condition(obj, "DisruptionTarget", "True", "TerminationByKubelet", message, after=after)
        _condition(obj, "Ready", "False", "PodFailed", after=after)

    return change


def stopped(*, after: float = 0.0) -> Option:
    """The kubelet stopped the containers of a pod in order, which had run, and starts none of them again."""

    def change(obj: Object) -> None:
        obj["status"]["phase"] = "Succeeded"
        for container in obj["status"].get("containerStatuses", ()):
            container |= {"ready": False, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
        _condition(obj, "Ready", "False", "PodCompleted", after=after)

    return change


# --- states of containers -------------------------------------------------------------------------------


def running(started: float = 6.0) -> Object:
    """A container that runs."""
    return {"running": {"startedAt": stamp(started)}}


def waiting(reason: str, message: str = "") -> Object:
    """A container that the kubelet has not started."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def back_off(container: str) -> Object:
    """A container that ended and is to be started again later."""
    words = f"back-off 20s restarting failed container={container} pod=digits-1_{NAMESPACE}(uid-digits-1)"
    return waiting("CrashLoopBackOff", words)


def ended(
    code: int, message: str = "", reason: str = "Error", *, started: float = 6.0, finished: float = 30.0
) -> Object:
    """A container that ended."""
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "message": message,
            "startedAt": stamp(started),
            "finishedAt": stamp(finished),
            "containerID": "containerd://0123",
        }
    }


def fetch_failure(reason: str, message: str, *, permanent: bool = True) -> str:
    """Termination message of a fetch container that knows why it failed."""
    report = {"serval": "fetch", "ok": False, "reason": reason, "message": message, "permanent": permanent}
    return json.dumps(report)


def warning(reason: str, message: str, *, of: str = "digits-1", seen: float | None = 5.0) -> Object:
    """A Warning event about a pod."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{of}.17a", "namespace": NAMESPACE},
        "involvedObject": {"kind": "Pod", "name": of, "namespace": NAMESPACE, "uid": f"uid-{of}"},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "firstTimestamp": stamp(),
        "lastTimestamp": None if seen is None else stamp(seen),
        "count": 3,
        "source": {"component": "kubelet", "host": NODE},
    }


# --- details --------------------------------------------------------------------------------------------


def _with(obj: Object, options: tuple[Option, ...]) -> Object:
    for option in options:
        option(obj)
    return obj


def _condition(
    obj: Object, kind: str, status: str, reason: str = "", message: str = "", *, after: float = 2.0
) -> None:
    """Set a condition; its time moves only when its status flips, as the kubelet does it."""
    conditions = obj["status"].setdefault("conditions", [])
    old = next((one for one in conditions if one["type"] == kind), None)
    kept = old and old["status"] == status
    entry = {"type": kind, "status": status, "lastProbeTime": None}
    entry["lastTransitionTime"] = old["lastTransitionTime"] if old and kept else stamp(after)
    entry |= {field: text for field, text in (("reason", reason), ("message", message)) if text}
    if old:
        conditions.remove(old)
    conditions.append(entry)


def _container(name: str, state: Object, *, last: Object | None = None) -> Object:
    return {
        "name": name,
        "state": state,
        "lastState": last or {},
        "ready": False,
        "started": False,
        "restartCount": 1 if last else 0,
        "image": IMAGE,
        "imageID": "",
    }


def _fetch_state(obj: Object) -> Object:
    statuses = obj["status"].get("initContainerStatuses") or [{}]
    state: Object = statuses[0].get("state", {})
    return state


def _entry(manager: str, operation: str, fields: Object) -> Object:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "v1",
        "time": stamp(),
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }


def _fields(manifest: Mapping[str, Any]) -> Object:
    """Field set of a manifest; lists count as one field, which is fine enough for tests."""
    kept = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}
    return {
        f"f:{key}": _fields(value) if isinstance(value, Mapping) else {}
        for key, value in kept.items()
        if key not in ("name", "namespace", "uid")
    }
