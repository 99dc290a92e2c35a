"""Frozen, trimmed views of observed objects: all that the planner needs, and nothing more.

The cache keeps these instead of whole objects. Parsing is total: an object that lacks a field, or
carries an odd one, gives a view with the field's neutral value, never an exception.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from serval_operator.api.containers import ContainerView, parse_container, parse_containers
from serval_operator.api.facts import Facts, parse_facts
from serval_operator.api.naming import Key, digest
from serval_operator.api.unstructured import (
    annotation,
    child,
    condition,
    identity,
    label,
    labelled_owner,
    mapping,
    mappings,
    owned,
    pack,
    parse_time,
    place_of,
    since,
    unpack,
    whole,
)
from serval_operator.constants import (
    ANNOTATION_FAILED_MESSAGE,
    ANNOTATION_FAILED_REASON,
    ANNOTATION_SERVED,
    CONTAINER_FETCH,
    CONTAINER_FRONT,
    CONTAINER_SERVER,
    LABEL_JOB,
    LABEL_JOB_NAME,
    LABEL_KIND,
    LABEL_OWNER_UID,
    LABEL_REGION,
    LABEL_REVISION,
    LABEL_ZONE,
)

_NOTHING = (0, "0", "0%")
"""Ways to write that a rollout makes no pod beyond the wanted number."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What every object has.

    Parameters
    ----------
    owner:
        Key of the custom resource of ours that the object belongs to, or None.
    owner_uid:
        uid of the controlling owner reference, or an empty string. Of a pod: uid of the custom resource, as
        its label says, since its controller is a ReplicaSet.
    foreign_owner:
        Kind and name of a controlling owner that is not ours; else empty.
    deleting:
        Whether a deletion timestamp is set.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    owner: Key | None
    owner_uid: str
    foreign_owner: str
    deleting: bool
    created: datetime | None


@dataclass(frozen=True, slots=True)
class OwnerView(Identity):
    """A custom resource of ours: its generation, spec and status as they are.

    Parameters
    ----------
    kind:
        Kind of the custom resource.
    """

    kind: str
    generation: int
    spec: Mapping[str, Any]
    status: Mapping[str, Any]

    @property
    def key(self) -> Key:
        """Its own key."""
        return Key(self.kind, self.namespace, self.name)


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
    """The Deployment.

    Parameters
    ----------
    create_failure:
        What the cluster said when it refused to create pods; else empty.
    replicas:
        As its spec says.
    surge:
        Whether a rollout may make a new pod before it stops an old one.
    revision:
        Revision of its pod template.
    selects_kind:
        Whether its selector tells kinds apart. Those of builds before the first release do not, and a
        selector is immutable.
    paused:
        Whether Kubernetes rolls out no change of it. The operator never sets this.
    """

    create_failure: str
    replicas: int
    surge: bool
    revision: str
    selects_kind: bool
    paused: bool = False


@dataclass(frozen=True, slots=True)
class ServiceView(ChildView):
    """A Service of ours."""


@dataclass(frozen=True, slots=True)
class AutoscalerView(ChildView):
    """The HorizontalPodAutoscaler."""


@dataclass(frozen=True, slots=True)
class DisruptionView(ChildView):
    """The PodDisruptionBudget.

    Parameters
    ----------
    max_unavailable:
        Number of pods that may be unavailable; 0 where it says a percentage, or nothing.
    """

    max_unavailable: int


@dataclass(frozen=True, slots=True)
class RevisionView(Identity):
    """A ControllerRevision: a pod template as it was rendered once, and facts about its pods.

    Parameters
    ----------
    number:
        Place in the history; the newest has the highest.
    key:
        What the pods of this revision carry as their label.
    packed_template, facts_text:
        Template and facts as JSON, the template packed: there may be ten thousand of them. `template` and
        `facts` read them.
    template_digest:
        `serval_operator.api.naming.digest` of the template.
    failed_reason, failed_message:
        Why its rollout was given up; else empty.
    served:
        Whether all replicas of it once answered.
    """

    number: int
    key: str
    packed_template: bytes
    facts_text: str
    template_digest: str
    failed_reason: str
    failed_message: str
    served: bool

    def template(self) -> dict[str, Any]:
        """The pod template."""
        return unpack(self.packed_template)

    def facts(self) -> Facts:
        """What is known of the pods of this revision."""
        return parse_facts(orjson.loads(self.facts_text), {})


ENDED_PHASES = frozenset({"Succeeded", "Failed"})
"""Phases of pods that ended as a whole. A server's pod can be `Succeeded` too: its containers were stopped in
order, by a node that shuts down or by a kubelet that learnt of a deletion before etcd was restored."""


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
    front:
        The front before the server; None in pods that have none.
    gated:
        Whether scheduling gates keep the scheduler from looking for a node, as a queue such as Kueue does.
    ip:
        The pod's address; empty while it has none.
    job:
        Name of the Job of ours that made the pod; empty for other pods.
    stages:
        All containers of a Job's pod, init containers first; empty for other pods.
    grace_ends:
        When the time ends that it has for stopping (``metadata.deletionTimestamp``); None unless it is being
        deleted.
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
    front: ContainerView | None = None
    ip: str = ""
    gated: bool = False
    job: str = ""
    stages: tuple[ContainerView, ...] = ()
    grace_ends: datetime | None = None

    @property
    def facing(self) -> ContainerView | None:
        """The container that clients reach."""
        return self.front or self.server

    @property
    def ended(self) -> bool:
        """Whether its node ended it as a whole, well or not: none of its containers starts again.

        A ReplicaSet replaces such a pod and does not delete it.
        """
        return self.phase in ENDED_PHASES


@dataclass(frozen=True, slots=True)
class PodWarning:
    """A Warning event about a pod: the only place where the kubelet tells of sandboxes and volumes."""

    pod_uid: str
    reason: str
    message: str
    last_seen: datetime | None


def parse_owner(obj: Mapping[str, Any]) -> OwnerView:
    """View of a custom resource of ours. Its manifest names its kind."""
    meta, kind = mapping(obj, "metadata"), str(obj.get("kind", ""))
    return OwnerView(
        **identity(meta, owner=Key(kind, *place_of(meta))),
        kind=kind,
        generation=whole(meta.get("generation")),
        spec=mapping(obj, "spec"),
        status=mapping(obj, "status"),
    )


def parse_deployment(obj: Mapping[str, Any]) -> DeploymentView:
    """View of a Deployment. What its status says of an older generation than the stored one is left out."""
    spec, status = mapping(obj, "spec"), mapping(obj, "status")
    failure = condition(status, "ReplicaFailure")
    current = status.get("observedGeneration") == mapping(obj, "metadata").get("generation")
    text = str(failure.get("message", "")) if current and failure.get("status") == "True" else ""
    rolling = mapping(mapping(spec, "strategy"), "rollingUpdate")
    return DeploymentView(
        **child(obj),
        create_failure=text,
        replicas=whole(spec.get("replicas")),
        surge=rolling.get("maxSurge", 0) not in _NOTHING,
        revision=label(mapping(mapping(spec, "template"), "metadata"), LABEL_REVISION),
        selects_kind=LABEL_KIND in mapping(mapping(spec, "selector"), "matchLabels"),
        paused=spec.get("paused") is True,
    )


def parse_service(obj: Mapping[str, Any]) -> ServiceView:
    """View of a Service."""
    return ServiceView(**child(obj))


def parse_autoscaler(obj: Mapping[str, Any]) -> AutoscalerView:
    """View of a HorizontalPodAutoscaler."""
    return AutoscalerView(**child(obj))


def parse_disruption(obj: Mapping[str, Any]) -> DisruptionView:
    """View of a PodDisruptionBudget."""
    return DisruptionView(**child(obj), max_unavailable=whole(mapping(obj, "spec").get("maxUnavailable")))


def parse_revision(obj: Mapping[str, Any]) -> RevisionView:
    """View of a ControllerRevision."""
    meta, data = mapping(obj, "metadata"), mapping(obj, "data")
    template, facts = mapping(data, "template"), mapping(data, "facts")
    try:
        packed, facts_text = pack(template), _facts_text(facts, template)
    except TypeError:
        # Another program wrote it: a number that fits no pod template.
        template = {}
        packed, facts_text = pack({}), _facts_text({}, {})
    return RevisionView(
        **owned(meta),
        number=whole(obj.get("revision")),
        key=label(meta, LABEL_REVISION),
        packed_template=packed,
        facts_text=facts_text,
        template_digest=digest(template),
        failed_reason=annotation(meta, ANNOTATION_FAILED_REASON),
        failed_message=annotation(meta, ANNOTATION_FAILED_MESSAGE),
        served=annotation(meta, ANNOTATION_SERVED) == "true",
    )


def _facts_text(facts: Mapping[str, Any], template: Mapping[str, Any]) -> str:
    """Facts as JSON, with what they lack and the template shows.

    They are read at each look, so they are complete and not packed. Most revisions have the same: they share
    one text.
    """
    return sys.intern(orjson.dumps(parse_facts(facts, template).as_json()).decode())


def parse_pod(obj: Mapping[str, Any]) -> PodView:
    """View of a pod. It belongs to the custom resource that its labels name by kind, name and uid."""
    meta, spec, status = mapping(obj, "metadata"), mapping(obj, "spec"), mapping(obj, "status")
    labels = mapping(meta, "labels")
    known = identity(meta, owner=labelled_owner(meta))
    scheduled = condition(status, "PodScheduled")
    ready = condition(status, "Ready")
    waits = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    job = str(labels.get(LABEL_JOB_NAME, "")) if known["owner"] and LABEL_JOB in labels else ""
    changes = [parse_time(one.get("lastTransitionTime")) for one in mappings(status, "conditions")]
    return PodView(
        **{**known, "owner_uid": label(meta, LABEL_OWNER_UID)},
        revision=str(labels.get(LABEL_REVISION, "")),
        phase=str(status.get("phase", "")),
        reason=str(status.get("reason", "")),
        message=str(status.get("message", "")),
        node=str(spec.get("nodeName", "")),
        zone=str(labels.get(LABEL_ZONE, "")),
        region=str(labels.get(LABEL_REGION, "")),
        scheduled=since(scheduled),
        unschedulable=str(scheduled.get("message", "")) if waits else "",
        gated=scheduled.get("status") == "False" and scheduled.get("reason") == "SchedulingGated",
        initialized=since(condition(status, "Initialized")),
        ready=ready.get("status") == "True",
        became_ready=since(ready),
        fetch=parse_container(status, "initContainerStatuses", CONTAINER_FETCH),
        # Behind a front the server is an init container that never ends.
        server=parse_container(status, "containerStatuses", CONTAINER_SERVER)
        or parse_container(status, "initContainerStatuses", CONTAINER_SERVER),
        unready_reason="" if ready.get("status") == "True" else str(ready.get("reason", "")),
        sandbox_ready=condition(status, "PodReadyToStartContainers").get("status") == "True",
        changed=max((one for one in changes if one), default=None),
        front=parse_container(status, "containerStatuses", CONTAINER_FRONT),
        ip=str(status.get("podIP", "")),
        job=job,
        stages=parse_containers(status) if job else (),
        grace_ends=parse_time(meta.get("deletionTimestamp")),
    )


def parse_pod_warning(obj: Mapping[str, Any]) -> PodWarning:
    """View of a core/v1 Event about a pod."""
    seen = obj.get("lastTimestamp") or mapping(obj, "series").get("lastObservedTime") or obj.get("eventTime")
    return PodWarning(
        pod_uid=str(mapping(obj, "involvedObject").get("uid", "")),
        reason=str(obj.get("reason", "")),
        message=str(obj.get("message", "")),
        last_seen=parse_time(seen),
    )
