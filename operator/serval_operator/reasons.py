"""Every reason that a condition can have: one row for each, and the sets that are derived from the rows.

A row is the only place that describes a reason. ``make generate`` writes the table of docs/api.md from it.
The tests check that a test on the lab provokes each failure, or that the row says why none does.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from serval_contract import reasons as fetch
from serval_operator.constants import (
    ACCELERATOR_AVAILABLE,
    ACCELERATOR_IN_USE,
    AVAILABLE,
    CONVERTED,
    DEVICE_PROGRAMMED,
    ENDPOINT_READY,
    MODEL_FETCHED,
    MODEL_LOADED,
    READY,
    SCHEDULED,
    UPDATE_AVAILABLE,
)
from serval_operator.conversion_reasons import CONVERSION_ROWS
from serval_operator.reason_rows import Health, Reason, adds

_rows: dict[str, Reason] = {}
_PODS = (MODEL_FETCHED, MODEL_LOADED, CONVERTED)
"""Conditions about pods. A Job's pod may fail for the same reasons."""
_reason = adds(_rows, Reason)
_no_failure = adds(_rows, partial(Reason, failure=False, health=Health.HEALTHY))
_blocked = adds(_rows, partial(Reason, conditions=(READY,)))
_bad_spec = adds(_rows, partial(Reason, retry=False))
_capacity = adds(_rows, partial(Reason, conditions=(ACCELERATOR_AVAILABLE,), capacity=True))
_no_node = adds(_rows, partial(Reason, conditions=(ACCELERATOR_AVAILABLE,), capacity=True, impossible=True))
_job = adds(_rows, partial(Reason, conditions=(CONVERTED,)))
_placing = adds(_rows, partial(Reason, conditions=(SCHEDULED, CONVERTED)))
_scheduling = adds(_rows, partial(Reason, conditions=(SCHEDULED,)))
_fetch = adds(_rows, partial(Reason, conditions=(MODEL_FETCHED, CONVERTED)))

# --- nothing is wrong ---------------------------------------------------------------------------------
SERVING: Final = _no_failure("Serving", (READY,), "all replicas of the newest revision answer")
SUSPENDED: Final = _no_failure(
    "Suspended",
    (READY, CONVERTED),
    "`spec.suspend` is true and no pod runs",
    "set it to false",
    health=Health.SUSPENDED,
)
SCALED_TO_ZERO: Final = _no_failure(
    "ScaledToZero", (READY,), "`spec.replicas` is 0 and no pod runs", "scale up"
)
AVAILABLE_REASON: Final = _no_failure(
    "ModelAnswers", (AVAILABLE,), "at least one pod answers; the message says how many"
)
DONE: Final = _no_failure(
    "Done",
    (
        ACCELERATOR_AVAILABLE,
        SCHEDULED,
        MODEL_FETCHED,
        MODEL_LOADED,
        ENDPOINT_READY,
        ACCELERATOR_IN_USE,
        CONVERTED,
        DEVICE_PROGRAMMED,
    ),
    "the step is complete in every pod",
)
PROGRESSING: Final = _no_failure(
    "Progressing",
    (
        READY,
        ACCELERATOR_AVAILABLE,
        SCHEDULED,
        MODEL_FETCHED,
        MODEL_LOADED,
        ENDPOINT_READY,
        CONVERTED,
        DEVICE_PROGRAMMED,
    ),
    "nothing is wrong; the message says which step is running",
    "wait",
    health=Health.PROGRESSING,
)

# --- the spec -----------------------------------------------------------------------------------------
INVALID_SPEC: Final = _bad_spec(
    "InvalidSpec",
    (READY,),
    when="the spec contradicts itself or names something impossible",
    cure="edit it as the message says",
    not_provoked="the API server refuses such a spec; one is stored only where the CRD has another version",
)
UNSUPPORTED_SPEC: Final = _bad_spec(
    "UnsupportedSpec",
    (READY, UPDATE_AVAILABLE, CONVERTED),
    when="the runtime lacks what the spec asks for, such as an image for the accelerator, and no front can "
    "add it",
    cure="use a runtime that the message names, or ask an administrator to add one or the image",
)
REFERENCE_NOT_PERMITTED: Final = _reason(
    "ReferenceNotPermitted",
    (READY, CONVERTED),
    when="the ServiceAccount that the spec names does not allow it, or no longer; what runs goes on, without "
    "more pods",
    cure='the owner of the ServiceAccount adds the label `serval.dev/allowed: "true"`',
)
UNKNOWN_RUNTIME: Final = _bad_spec(
    "UnknownRuntime",
    (READY, UPDATE_AVAILABLE),
    when="`spec.runtime.name` is not in the operator's configuration",
    cure="use one that the message lists, or ask an administrator to add it",
)
UNKNOWN_PROFILE: Final = _bad_spec(
    "UnknownProfile",
    (READY, UPDATE_AVAILABLE),
    when="`spec.accelerator.profile` is not in the operator's configuration",
    cure="use one that the message lists, or ask an administrator to add it",
)

# --- capacity -----------------------------------------------------------------------------------------
FITS: Final = _no_failure(
    "DeviceFree", (ACCELERATOR_AVAILABLE,), "a node has enough free devices for one more pod"
)
ACCELERATOR_BUSY: Final = _capacity(
    "AcceleratorBusy",
    when="nodes could take the pod, but their devices are held; the message and `status.accelerator` name "
    "the holders",
    cure="scale a holder down, or add a node; it heals when a device is released",
    health=Health.PROGRESSING,
)
WAITING_FOR_TURN: Final = _capacity(
    "WaitingForTurn",
    when="devices are free, but others wait for them and come first; the message names them",
    cure="wait, or use a PriorityClass of a higher value",
    health=Health.PROGRESSING,
    not_provoked="it lasts only until those before it have their devices; a test on an API server keeps "
    "one from taking its device",
)
REPLACED: Final = _bad_spec(
    "Replaced",
    (ACCELERATOR_AVAILABLE,),
    when="another object of the namespace took its devices (`spec.accelerator.whenBusy: Replace`); the "
    "message names it",
    cure="change the spec, such as `spec.rollout.trigger`: it waits for its turn then",
    not_provoked="it is a deliberate act; a test on an API server lets one object replace another",
)
DEVICE_NOT_READY: Final = _capacity(
    "DeviceNotReady",
    when="a node should take the pod but cannot now: it is cordoned or not ready, or has a taint such as "
    "disk-pressure by which Kubernetes marks its state, or its device plugin or driver offers fewer devices "
    "than it has",
    cure="repair that node, as the message says",
    health=Health.PROGRESSING,
)
SCALE_UP_PENDING: Final = _capacity(
    "ScaleUpPending",
    when="a node is being added, or an autoscaler may add one",
    cure="wait",
    health=Health.PROGRESSING,
    not_provoked="the lab has no autoscaler; a test plays what autoscalers publish",
)
SCALE_UP_BLOCKED: Final = _capacity(
    "ScaleUpBlocked",
    when="the autoscaler adds no node; the message is the autoscaler's",
    cure="change its limits or the quota, or ask for less",
    not_provoked="the lab has no autoscaler; a test plays what autoscalers publish",
)
UNTOLERATED_TAINT: Final = _no_node(
    "UntoleratedTaint",
    when="nodes with the device have a taint that the pod does not tolerate; the message names it",
    cure="add the toleration to `spec.scheduling.tolerations` or to the profile",
)
SELECTOR_MISMATCH: Final = _no_node(
    "SelectorMismatch",
    when="nodes have the device, but not the labels that are asked for; the message says what they have",
    cure="change `spec.scheduling.nodeSelector` or the profile's",
)
REQUEST_EXCEEDS_NODE: Final = _no_node(
    "RequestExceedsNode",
    when="one pod asks for more devices than any node has",
    cure="a smaller `spec.accelerator.count`, or a larger node",
)
NO_NODE_OFFERS_RESOURCE: Final = _no_node(
    "NoNodeOffersResource",
    when="no node offers the resource; the message says what nodes offer",
    cure="add a node with the device and its device plugin, or ask for another resource",
)
CAPACITY_UNKNOWN: Final = _capacity(
    "CapacityUnknown",
    when="the operator cannot know the free devices: it may not read nodes or the pods of all namespaces, "
    "cannot list pods (in time), or the devices are not allocated by device plugins",
    cure="set `rbac.capacity` of the chart, if you want the verdict; the log says why pods cannot be listed",
    health=Health.PROGRESSING,
    not_provoked="the operator of the lab may read nodes and pods",
)

# --- pods ---------------------------------------------------------------------------------------------
UNSCHEDULABLE: Final = _placing(
    "Unschedulable",
    when="no node takes the pod; the message is the scheduler's",
    cure="free or add what the message says is missing",
    # A cluster autoscaler adds nodes only for pods that are unschedulable.
    health=Health.PROGRESSING,
)
IMAGE_PULL_FAILED: Final = _reason(
    "ImagePullFailed",
    _PODS,
    "a node cannot pull an image",
    "correct the image's name, `spec.imagePullSecrets`, or the registry",
)
SANDBOX_FAILED: Final = _reason(
    "SandboxFailed",
    (MODEL_FETCHED, CONVERTED),
    "the node cannot set up the pod's network or sandbox",
    "repair the node, as the message says",
)
VOLUME_FAILED: Final = _reason(
    "VolumeFailed",
    (MODEL_FETCHED, CONVERTED),
    "a claim, ConfigMap or Secret is missing or cannot be mounted",
    "create it; no restart is needed",
)
CREATE_CONTAINER_ERROR: Final = _reason(
    "CreateContainerError", _PODS, "the node cannot create or start a container", "as the message says"
)
CRASH_LOOP: Final = _reason(
    "CrashLoop",
    (MODEL_FETCHED, MODEL_LOADED),
    "a container ends again and again; the message has its exit code and its last line",
    "as the message says",
    restarts=True,
)
OUT_OF_MEMORY: Final = _reason(
    "OutOfMemory",
    _PODS,
    "a container used more memory than its limit",
    "raise `spec.resources.limits`",
    restarts=True,
)
DEVICE_ALLOCATION_FAILED: Final = _scheduling(
    "DeviceAllocationFailed",
    when="the device plugin refused to allocate the accelerator; more pods are tried after pauses",
    cure="repair the device or its plugin; it heals without a change of the spec",
)
POD_REFUSED: Final = _placing(
    "PodRefused",
    when="the node refused, evicted or stopped the pod; the message is the kubelet's",
    cure="as the message says",
    not_provoked="the lab's nodes refuse pods only because of devices",
)
NODE_NOT_READY: Final = _reason(
    "NodeNotReady",
    (MODEL_LOADED,),
    "the pod's node stopped reporting",
    "repair the node; the pod is replaced when the cluster evicts it",
    health=Health.PROGRESSING,
)
QUOTA_EXCEEDED: Final = _scheduling(
    "QuotaExceeded",
    when="a ResourceQuota or LimitRange refuses the pods",
    cure="raise it, or ask for less; where a container lacks a request or a limit, the message names the "
    "container and the field of the spec or the value of the chart that sets it",
)
POD_SECURITY_VIOLATION: Final = _scheduling(
    "PodSecurityViolation",
    when="the namespace's Pod Security level refuses the pods",
    cure="change the labels of the namespace",
    not_provoked="the pods meet the strictest level",
)
POD_CREATE_FAILED: Final = _scheduling(
    "PodCreateFailed",
    when="the cluster refuses to create the pods for another reason",
    cure="as the API server's message says",
)

# --- the fetch container ------------------------------------------------------------------------------
MODEL_NOT_FOUND: Final = _fetch(
    fetch.MODEL_NOT_FOUND,
    when="there is nothing at the address, or not the wanted version",
    cure="correct `spec.model.uri` or `spec.model.version`",
)
MODEL_ACCESS_DENIED: Final = _fetch(
    fetch.MODEL_ACCESS_DENIED,
    when="the model's store refuses access",
    cure="correct `spec.model.credentials`, their permissions, or the signature in the address",
)
MODEL_SOURCE_UNAVAILABLE: Final = _fetch(
    fetch.MODEL_SOURCE_UNAVAILABLE,
    when="the store does not answer, or its certificate is not trusted",
    cure="repair the store, or set `spec.model.caConfigMapRef`; it is retried with back-off",
)
MODEL_TOO_LARGE: Final = _fetch(
    fetch.MODEL_TOO_LARGE,
    when="the model is larger than the limit of the operator's configuration, or than the node's free disk",
    cure="raise `fetch.maxBytes` or `fetch.maxEntries` of the chart, or use a larger disk",
    not_provoked="the limit is part of the operator's configuration and the same for all models",
)
MODEL_DIGEST_MISMATCH: Final = _fetch(
    fetch.MODEL_DIGEST_MISMATCH,
    when="the files are not those that `spec.model.sha256` names",
    cure="correct the digest, or the files",
    retry=False,
)
MODEL_ARTIFACT_REJECTED: Final = _fetch(
    fetch.MODEL_ARTIFACT_REJECTED,
    when="the archive writes outside its folder, holds links, or unpacks to far too much",
    cure="pack it again without them",
)
MODEL_VERSION_SKEW: Final = _fetch(
    fetch.MODEL_VERSION_SKEW,
    when="a replica found another model than the other replicas of its revision, at the same address; one "
    "that started before they were bound to one model is replaced",
    cure="put the model back, or roll the new one out: `spec.model.version`, or a new value of "
    "`spec.rollout.trigger`",
)
CREDENTIALS_NOT_FOUND: Final = _reason(
    "CredentialsNotFound",
    (READY, MODEL_FETCHED, CONVERTED),
    "the Secret or ServiceAccount of `spec.model.credentials` does not exist",
    "create it; no restart is needed",
)
MODEL_INVALID: Final = _fetch(
    fetch.MODEL_INVALID, when="the files are no servable model", cure="export the model again", retry=False
)

# --- the model server ---------------------------------------------------------------------------------
MODEL_LOAD_FAILED: Final = _reason(
    "ModelLoadFailed",
    (MODEL_LOADED,),
    "the server cannot load the model; the message is the server's",
    "as the message says",
    restarts=True,
)
ENGINE_ON_CPU: Final = _reason(
    "EngineOnCpu",
    (ACCELERATOR_IN_USE,),
    "a pod holds a device, but its server runs the model on the CPU",
    "an image with the device's libraries (`images` of the runtime), a driver that fits it, or a model that "
    "the device can run",
    health=Health.HEALTHY,
    not_provoked="it does not affect `Ready`; `AcceleratorInUse` has it for all devices of the lab, "
    "which are fake",
)
DEVICE_UNKNOWN: Final = _reason(
    "DeviceUnknown",
    (ACCELERATOR_IN_USE,),
    "a pod does not report what it runs on, or cannot be reached",
    "send the model a request, or give it warm-up requests: TensorFlow tells it after the first run; let the "
    "operator reach port 8501 of the pods (NetworkPolicy); it is retried with back-off",
    health=Health.HEALTHY,
    not_provoked="it does not affect `Ready`; all pods of the lab can be asked",
)

# --- rollouts -----------------------------------------------------------------------------------------
START_DEADLINE_EXCEEDED: Final = _reason(
    "StartDeadlineExceeded",
    (MODEL_FETCHED, MODEL_LOADED),
    "a pod has had a node for longer than `spec.rollout.startDeadlineSeconds`, its model does not answer, "
    "and no other cause is known",
    "correct the model, or set a longer deadline",
)
ROLLOUT_PAUSED: Final = _reason(
    "RolloutPaused",
    (READY, SCHEDULED),
    "a user paused the Deployment (`spec.paused`), so Kubernetes rolls out no change; the operator does not "
    "take it back",
    "`kubectl rollout resume`, as the message says",
    health=Health.PROGRESSING,
    not_provoked="it is a deliberate act; a test on an API server pauses a Deployment",
)
RUNTIME_CHANGED: Final = _no_failure(
    "RuntimeChanged",
    (UPDATE_AVAILABLE,),
    "the operator or its configuration would make other pods today than those that run",
    "to roll, give `spec.rollout.trigger` a new value",
)

# --- Jobs ---------------------------------------------------------------------------------------------
JOB_FAILED: Final = _job(
    "JobFailed",
    when="a Job that must succeed first failed; the message names the attempt and the stage",
    cure="correct what the message says and change the inputs, which starts another Job",
    not_provoked="a test on an API server plays the Job",
)
JOB_RESULT_LOST: Final = _job(
    "JobResultLost",
    when="a Job is complete, but its pod was deleted before its result was read, or reported none",
    cure="keep the pods of Jobs until their result is in the status; it is retried with back-off",
    not_provoked="a test on an API server plays the Job",
)
JOB_DEADLINE_EXCEEDED: Final = _job(
    "JobDeadlineExceeded",
    when="a Job ran longer than its deadline; the message has its last state",
    cure="correct the cause that the message names, or set a longer deadline",
    not_provoked="a test on an API server plays the Job",
)

# --- objects that belong to the ModelDeployment -------------------------------------------------------
RESOURCE_CONFLICT: Final = _blocked(
    "ResourceConflict",
    when="an object of a name that is needed exists and belongs to someone else",
    cure="rename or remove it, or rename the ModelDeployment",
)
RESOURCE_CONTESTED: Final = _blocked(
    "ResourceContested",
    when="another writer changes fields that the operator applies, again and again; the message names both. "
    "They are put back after pauses that double",
    cure="stop the other writer, such as a HorizontalPodAutoscaler that targets the Deployment instead of "
    "the ModelDeployment",
    not_provoked="the lab has no such writer; a test on an API server plays one",
)
CHILD_REFUSED: Final = _blocked(
    "ChildRefused",
    when="the API server refuses an object that is needed (permissions, a policy, a webhook that denies it "
    "or does not answer)",
    cure="as the message says",
)
REQUEST_FAILED: Final = _blocked(
    "RequestFailed",
    when="requests about an object that is needed fail repeatedly for a cause that may pass: a time-out, "
    "a fault of the API server",
    cure="wait; if it lasts, mend what the message names",
    not_provoked="the lab's API server answers, or does not answer at all",
)
NAMESPACE_TERMINATING: Final = _blocked(
    "NamespaceTerminating",
    when="the namespace is being deleted, so nothing can be created in it",
    health=Health.PROGRESSING,
    not_provoked="the ModelDeployment is deleted with its namespace, usually before a client reads it",
)

REASONS: Final[Mapping[str, Reason]] = MappingProxyType({**_rows, **CONVERSION_ROWS})
"""The table, by name."""

STALLING_REASONS: Final = frozenset(row.name for row in REASONS.values() if not row.retry)
CAPACITY_REASONS: Final = frozenset(row.name for row in REASONS.values() if row.capacity)
IMPOSSIBLE_REASONS: Final = frozenset(row.name for row in REASONS.values() if row.impossible)
BLOCKING_REASONS: Final = frozenset(
    row.name for row in REASONS.values() if row.failure and row.conditions[0] == READY
)
"""Reasons that keep the pods of an object from being made and do not depend on free capacity."""
RESTART_REASONS: Final = frozenset(row.name for row in REASONS.values() if row.restarts)
