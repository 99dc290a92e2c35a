"""Frozen, trimmed views of observed objects: all that the planner needs, and nothing more.

The cache keeps these instead of whole objects. Parsing is total: an object that lacks a field, or
carries an odd one, gives a view with the field's neutral value, never an exception.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from serval_operator.constants import (
    ANNOTATION_APPLIED,
    CONTAINER_FETCH,
    CONTAINER_SERVER,
    FIELD_MANAGER,
    LABEL_NAME,
    LABEL_REGION,
    LABEL_REVISION,
    LABEL_ZONE,
    MODEL_DEPLOYMENT,
)

Key = tuple[str, str]
"""Namespace and name of a custom resource: the unit of work."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What every object has.

    Parameters
    ----------
    owner:
        Key of the ModelDeployment that the object belongs to, or None.
    owner_uid:
        uid of the controlling owner reference, or an empty string.
    deleting:
        Whether a deletion timestamp is set.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    owner: Key | None
    owner_uid: str
    deleting: bool
    created: datetime | None


@dataclass(frozen=True, slots=True)
class ModelView(Identity):
    """A ModelDeployment: its generation, spec and status as they are."""

    generation: int
    spec: Mapping[str, Any]
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChildView(Identity):
    """A child that we apply.

    Parameters
    ----------
    applied_hash:
        Hash of the manifest that was applied last, from our annotation.
    ownership:
        Fingerprint of who owns which fields of the object, status aside. It changes when anybody
        else changes or removes what we applied: a forced apply is due then.
    foreign:
        Whether a manager other than us owns a field outside the status.
    """

    applied_hash: str
    ownership: str
    foreign: bool


@dataclass(frozen=True, slots=True)
class DeploymentView(ChildView):
    """The Deployment; ``create_failure`` is what the cluster said when it refused to create pods."""

    create_failure: str


@dataclass(frozen=True, slots=True)
class ServiceView(ChildView):
    """A Service of ours."""


@dataclass(frozen=True, slots=True)
class Termination:
    """How a container ended."""

    exit_code: int
    reason: str
    message: str
    finished: datetime | None


@dataclass(frozen=True, slots=True)
class ContainerView:
    """State of one container of a pod; ``last`` is how its previous run ended.

    Parameters
    ----------
    answered:
        Whether the startup probe succeeded since this run began (``started``): the model answered once.
    """

    name: str
    ready: bool
    running: bool
    started: datetime | None
    restarts: int
    waiting_reason: str
    waiting_message: str
    terminated: Termination | None
    last: Termination | None
    answered: bool = False


@dataclass(frozen=True, slots=True)
class PodView(Identity):
    """A pod of ours.

    Parameters
    ----------
    scheduled, initialized, became_ready:
        When the condition turned true; None while it is not true.
    unschedulable:
        The scheduler's words while it finds no node; else empty.
    zone, region:
        Where the node is. Kubernetes 1.35 and newer copy this from the node to its pods; empty elsewhere.
    reason, message:
        Why the pod as a whole failed (``status.reason``), such as ``Evicted``.
    unready_reason:
        Reason of a `Ready` condition that is not true. The kubelet always gives one; it is empty where the
        cluster took the readiness away because the node stopped reporting.
    sandbox_ready:
        Whether the node has set up the pod's sandbox, network and volumes.
    changed:
        When a condition last changed; None while the pod has none.
    """

    revision: str
    phase: str
    reason: str
    message: str
    node: str
    zone: str
    region: str
    scheduled: datetime | None
    unschedulable: str
    initialized: datetime | None
    ready: bool
    became_ready: datetime | None
    fetch: ContainerView | None
    server: ContainerView | None
    unready_reason: str = ""
    sandbox_ready: bool = False
    changed: datetime | None = None


@dataclass(frozen=True, slots=True)
class PodWarning:
    """A Warning event about a pod: the only place where the kubelet tells of sandboxes and volumes."""

    pod_uid: str
    reason: str
    message: str
    last_seen: datetime | None


def parse_model(obj: Mapping[str, Any]) -> ModelView:
    """View of a ModelDeployment."""
    meta = _mapping(obj, "metadata")
    return ModelView(
        **_identity(meta, owner=_key(meta)),
        generation=_int(meta.get("generation")),
        spec=_mapping(obj, "spec"),
        status=_mapping(obj, "status"),
    )


def parse_deployment(obj: Mapping[str, Any]) -> DeploymentView:
    """View of a Deployment. What its status says of an older generation than the stored one is left out."""
    status = _mapping(obj, "status")
    failure = _condition(status, "ReplicaFailure")
    current = status.get("observedGeneration") == _mapping(obj, "metadata").get("generation")
    text = str(failure.get("message", "")) if current and failure.get("status") == "True" else ""
    return DeploymentView(**_child(obj), create_failure=text)


def parse_service(obj: Mapping[str, Any]) -> ServiceView:
    """View of a Service."""
    return ServiceView(**_child(obj))


def parse_pod(obj: Mapping[str, Any]) -> PodView:
    """View of a pod. It belongs to the ModelDeployment that its label names."""
    meta, spec, status = _mapping(obj, "metadata"), _mapping(obj, "spec"), _mapping(obj, "status")
    labels = _mapping(meta, "labels")
    name = labels.get(LABEL_NAME)
    owner = (str(meta.get("namespace", "")), str(name)) if name else None
    scheduled = _condition(status, "PodScheduled")
    ready = _condition(status, "Ready")
    waits = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    changes = [parse_time(one.get("lastTransitionTime")) for one in _mappings(status, "conditions")]
    return PodView(
        **_identity(meta, owner=owner),
        revision=str(labels.get(LABEL_REVISION, "")),
        phase=str(status.get("phase", "")),
        reason=str(status.get("reason", "")),
        message=str(status.get("message", "")),
        node=str(spec.get("nodeName", "")),
        zone=str(labels.get(LABEL_ZONE, "")),
        region=str(labels.get(LABEL_REGION, "")),
        scheduled=_since(scheduled),
        unschedulable=str(scheduled.get("message", "")) if waits else "",
        initialized=_since(_condition(status, "Initialized")),
        ready=ready.get("status") == "True",
        became_ready=_since(ready),
        fetch=_container(status, "initContainerStatuses", CONTAINER_FETCH),
        server=_container(status, "containerStatuses", CONTAINER_SERVER),
        unready_reason="" if ready.get("status") == "True" else str(ready.get("reason", "")),
        sandbox_ready=_condition(status, "PodReadyToStartContainers").get("status") == "True",
        changed=max((one for one in changes if one), default=None),
    )


def parse_pod_warning(obj: Mapping[str, Any]) -> PodWarning:
    """View of a core/v1 Event about a pod."""
    seen = obj.get("lastTimestamp") or _mapping(obj, "series").get("lastObservedTime") or obj.get("eventTime")
    return PodWarning(
        pod_uid=str(_mapping(obj, "involvedObject").get("uid", "")),
        reason=str(obj.get("reason", "")),
        message=str(obj.get("message", "")),
        last_seen=parse_time(seen),
    )


def parse_time(value: object) -> datetime | None:
    """Timestamp of the API server (RFC 3339) as an aware UTC datetime; None where there is none."""
    if not isinstance(value, str) or not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _mapping(obj: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = obj.get(field)
    return value if isinstance(value, Mapping) else {}


def _mappings(obj: Mapping[str, Any], field: str) -> Sequence[Mapping[str, Any]]:
    """Entries of a list that are objects."""
    value = obj.get(field)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else ()


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _key(meta: Mapping[str, Any]) -> Key:
    return (str(meta.get("namespace", "")), str(meta.get("name", "")))


def _identity(meta: Mapping[str, Any], owner: Key | None) -> dict[str, Any]:
    controller = _controller(meta)
    return {
        "namespace": str(meta.get("namespace", "")),
        "name": str(meta.get("name", "")),
        "uid": str(meta.get("uid", "")),
        "resource_version": str(meta.get("resourceVersion", "")),
        "owner": owner,
        "owner_uid": str(controller.get("uid", "")),
        "deleting": bool(meta.get("deletionTimestamp")),
        "created": parse_time(meta.get("creationTimestamp")),
    }


def _controller(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((one for one in _mappings(meta, "ownerReferences") if one.get("controller")), {})


def _child(obj: Mapping[str, Any]) -> dict[str, Any]:
    meta = _mapping(obj, "metadata")
    controller = _controller(meta)
    owner = None
    if controller.get("kind") == MODEL_DEPLOYMENT:
        owner = (str(meta.get("namespace", "")), str(controller.get("name", "")))
    entries = [entry for entry in _mappings(meta, "managedFields") if entry.get("subresource") != "status"]
    return {
        **_identity(meta, owner=owner),
        "applied_hash": str(_mapping(meta, "annotations").get(ANNOTATION_APPLIED, "")),
        "ownership": _fingerprint(entries),
        "foreign": any(entry.get("manager") != FIELD_MANAGER for entry in entries),
    }


def _fingerprint(entries: Sequence[Mapping[str, Any]]) -> str:
    """Hash of the managers and their fields.

    Times are left out, and so is the order, which follows the times: writing one's own field anew changes
    both and says nothing about ours.
    """
    kept = sorted(
        orjson.dumps(
            [entry.get(field) for field in ("manager", "operation", "subresource", "fieldsV1")],
            option=orjson.OPT_SORT_KEYS,
        )
        for entry in entries
    )
    return hashlib.sha256(b"\n".join(kept)).hexdigest()[:16]


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((one for one in _mappings(status, "conditions") if one.get("type") == kind), {})


def _since(condition: Mapping[str, Any]) -> datetime | None:
    if condition.get("status") != "True":
        return None
    return parse_time(condition.get("lastTransitionTime"))


def _container(pod: Mapping[str, Any], field: str, name: str) -> ContainerView | None:
    """A container by name: others, such as a mesh's, may stand before or beside ours."""
    status = next((one for one in _mappings(pod, field) if one.get("name") == name), None)
    if status is None:
        return None
    state, last = _mapping(status, "state"), _mapping(status, "lastState")
    waiting, running = _mapping(state, "waiting"), _mapping(state, "running")
    return ContainerView(
        name=name,
        ready=bool(status.get("ready")),
        running=bool(running),
        started=parse_time(running.get("startedAt")),
        restarts=_int(status.get("restartCount")),
        waiting_reason=str(waiting.get("reason", "")),
        waiting_message=str(waiting.get("message", "")),
        terminated=_termination(_mapping(state, "terminated")),
        last=_termination(_mapping(last, "terminated")),
        answered=bool(status.get("started")),
    )


def _termination(state: Mapping[str, Any]) -> Termination | None:
    if not state:
        return None
    return Termination(
        exit_code=_int(state.get("exitCode")),
        reason=str(state.get("reason", "")),
        message=str(state.get("message", "")),
        finished=parse_time(state.get("finishedAt")),
    )
