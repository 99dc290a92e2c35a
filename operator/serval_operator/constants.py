"""Every name that users, other tools or the API server see. One place, so that nothing is spelled twice."""

from __future__ import annotations

from typing import Final

# --- identity -----------------------------------------------------------------------------------------
GROUP: Final = "serval.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
MODEL_DEPLOYMENT: Final = "ModelDeployment"
FIELD_MANAGER: Final = "serval-operator"
EVENT_COMPONENT: Final = "serval-operator"
CONFIG_API_VERSION: Final = "config.serval.dev/v1alpha1"
CONFIG_KIND: Final = "OperatorConfiguration"

# --- labels and annotations ---------------------------------------------------------------------------
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_NAME: Final = "serval.dev/name"
LABEL_REVISION: Final = "serval.dev/revision"
LABEL_ZONE: Final = "topology.kubernetes.io/zone"
LABEL_REGION: Final = "topology.kubernetes.io/region"
LABEL_HOSTNAME: Final = "kubernetes.io/hostname"
LABEL_ARCH: Final = "kubernetes.io/arch"
ANNOTATION_APPLIED: Final = "serval.dev/applied-hash"
ANNOTATION_FAILED_REASON: Final = "serval.dev/failed-reason"
ANNOTATION_FAILED_MESSAGE: Final = "serval.dev/failed-message"
"""On a ControllerRevision: why its rollout was given up."""
ANNOTATION_SERVED: Final = "serval.dev/served"
"""On a ControllerRevision: all replicas of this revision once answered."""
LABEL_ALLOWED: Final = "serval.dev/allowed"
"""On a ServiceAccount, with the value `true`: ModelDeployments of its namespace may fetch models as it."""
LABEL_AZURE_IDENTITY: Final = "azure.workload.identity/use"
ANNOTATION_AZURE_SKIP: Final = "azure.workload.identity/skip-containers"
ANNOTATION_AWS_SKIP: Final = "eks.amazonaws.com/skip-containers"
"""Containers that the clouds' webhooks shall not give the pod's identity to."""
MANAGED_BY: Final = "serval-operator"
COMPONENT_SERVER: Final = "model-server"
CHILD_SELECTOR: Final = f"{LABEL_MANAGED_BY}={MANAGED_BY}"
RESERVED_METADATA_DOMAINS: Final = (
    "kubernetes.io",
    "k8s.io",
    "serval.dev",
    "argoproj.io",
    "helm.sh",
    "toolkit.fluxcd.io",
    "kopf.dev",
    "kopf.zalando.org",
    "azure.workload.identity",
)

SYSTEM_PRIORITY: Final = "system-"
"""Start of the names of Kubernetes' own PriorityClasses."""

AUTOSCALER_NAMESPACE: Final = "kube-system"
AUTOSCALER_STATUS: Final = "cluster-autoscaler-status"
"""ConfigMap in which the cluster autoscaler says how its node groups are."""

# --- the pod ------------------------------------------------------------------------------------------
CONTAINER_FETCH: Final = "fetch"
CONTAINER_SERVER: Final = "server"
CONTAINER_FRONT: Final = "front"
PORT_GRPC: Final = 8500
PORT_HTTP: Final = 8501
PORT_BEHIND_GRPC: Final = 8510
PORT_BEHIND_HTTP: Final = 8511
"""Where the runtime's server listens behind a front, which has the pod's own ports."""
PORT_SCORING: Final = 80
MODELS_DIR: Final = "/models"
MONITORING_FILE: Final = "monitoring.config"
BATCHING_FILE: Final = "batching.config"
"""Files that the fetch container writes to `MODELS_DIR`, beside the model's folder."""
SOURCE_DIR: Final = "/serval/source"
CA_DIR: Final = "/serval/ca"
CREDENTIALS_DIR: Final = "/serval/credentials"
PIN_DIR: Final = "/serval/pin"
PIN_FILE: Final = "pin.json"
IMAGE_DIR: Final = "/serval/image"
HEADLESS_SUFFIX: Final = "-headless"
PIN_SUFFIX: Final = "-pin"

# --- condition types ----------------------------------------------------------------------------------
READY: Final = "Ready"
"""The newest spec is fully rolled out and every replica answers."""
AVAILABLE: Final = "Available"
"""At least one replica, of whatever revision, answers now."""
ACCELERATOR_AVAILABLE: Final = "AcceleratorAvailable"
"""Every pod has, or could have now, the devices that it asks for. Only where a spec asks for devices."""
SCHEDULED: Final = "Scheduled"
"""Every pod of the newest revision has a node."""
MODEL_FETCHED: Final = "ModelFetched"
"""Every pod of the newest revision holds the model's files, checked."""
MODEL_LOADED: Final = "ModelLoaded"
"""The model answers in every pod of the newest revision."""
ENDPOINT_READY: Final = "EndpointReady"
"""The Service exists and at least one pod stands behind it."""
ACCELERATOR_IN_USE: Final = "AcceleratorInUse"
"""Every ready pod of the newest revision runs the model on the device that it holds, and not on the CPU. Only
where a spec asks for devices and the runtime reports what it runs on, once a pod is ready."""
UPDATE_AVAILABLE: Final = "UpdateAvailable"
"""Present, and True, only while the operator would render other pods than those of the newest revision."""
RECONCILING: Final = "Reconciling"
"""Present, and True, only while the operator or the cluster still works on the newest spec (kstatus)."""
STALLED: Final = "Stalled"
"""Present, and True, only when no retry can help and the spec or the model must change (kstatus)."""

# --- reasons: good ------------------------------------------------------------------------------------
SERVING: Final = "Serving"
"""All replicas of the newest revision answer."""
SUSPENDED: Final = "Suspended"
"""`spec.suspend` is true and no pod runs. Set it to false to serve again."""
SCALED_TO_ZERO: Final = "ScaledToZero"
"""`spec.replicas` is 0 and no pod runs. Scale up to serve again."""
AVAILABLE_REASON: Final = "ModelAnswers"
"""Used by `Available`: so many pods answer."""
DONE: Final = "Done"
"""Used by the steps on the way to Ready: this step is complete in every pod."""

# --- reasons: on the way ------------------------------------------------------------------------------
PROGRESSING: Final = "Progressing"
"""Nothing is wrong; the message says which step is running."""

# --- reasons: spec ------------------------------------------------------------------------------------
INVALID_SPEC: Final = "InvalidSpec"
"""The spec contradicts itself or names something impossible. Cure: edit the spec as the message says."""
UNSUPPORTED_SPEC: Final = "UnsupportedSpec"
"""The spec is sound, but this operator's configuration cannot serve it. Cure: the message names the
runtime or profile to use, or what an administrator would have to add."""
REFERENCE_NOT_PERMITTED: Final = "ReferenceNotPermitted"
"""The ServiceAccount that the spec names does not allow it. Cure: its label `serval.dev/allowed: "true"`,
set by whoever owns the ServiceAccount."""
UNKNOWN_RUNTIME: Final = "UnknownRuntime"
"""`spec.runtime.name` is not in the operator's configuration. Cure: use one of those listed."""
UNKNOWN_PROFILE: Final = "UnknownProfile"
"""`spec.accelerator.profile` is not in the operator's configuration. Cure: use one of those listed."""

# --- reasons: capacity --------------------------------------------------------------------------------
FITS: Final = "DeviceFree"
"""Used by `AcceleratorAvailable`: a node has what one more pod asks for. Nothing is to be cured."""
ACCELERATOR_BUSY: Final = "AcceleratorBusy"
"""Nodes could take the pod, but their devices are held; the message and `status.accelerator` say by whom.
Cure: scale one of the holders down, or add a node. It heals when a device is released."""
DEVICE_NOT_READY: Final = "DeviceNotReady"
"""A node is meant to take the pod, but cannot now: it is cordoned or not ready, or its device plugin or
driver offers fewer devices than it has. Cure: that node, as the message says."""
SCALE_UP_PENDING: Final = "ScaleUpPending"
"""A node is on its way, or an autoscaler may add one. Cure: none is needed."""
SCALE_UP_BLOCKED: Final = "ScaleUpBlocked"
"""The autoscaler adds no node; the message is its own. Cure: its limits, the quota, or the request."""
UNTOLERATED_TAINT: Final = "UntoleratedTaint"
"""Nodes with the device have a taint that the pod does not tolerate. Cure: `spec.scheduling.tolerations` or
the profile's; the message names the taint."""
SELECTOR_MISMATCH: Final = "SelectorMismatch"
"""Nodes have the device, but not the labels that the pod asks for. Cure: `spec.scheduling.nodeSelector`, the
profile's, or for `kubernetes.io/arch` the runtime's `architectures`; the message says what the nodes have."""
REQUEST_EXCEEDS_NODE: Final = "RequestExceedsNode"
"""One pod asks for more devices than any node has. Cure: a smaller `spec.accelerator.count`, or a larger
node."""
NO_NODE_OFFERS_RESOURCE: Final = "NoNodeOffersResource"
"""No node of the cluster offers the resource. Cure: a node with the device and its device plugin, or another
resource; the message says what the nodes offer."""
CAPACITY_UNKNOWN: Final = "CapacityUnknown"
"""What is free cannot be told: the operator may not read nodes or the pods of all namespaces, or the devices
are allocated by other means than device plugins. Cure: the ClusterRole of the chart, where it is wanted."""

CAPACITY_REASONS: Final = frozenset(
    {
        ACCELERATOR_BUSY,
        DEVICE_NOT_READY,
        SCALE_UP_PENDING,
        SCALE_UP_BLOCKED,
        UNTOLERATED_TAINT,
        SELECTOR_MISMATCH,
        REQUEST_EXCEEDS_NODE,
        NO_NODE_OFFERS_RESOURCE,
        CAPACITY_UNKNOWN,
    }
)
"""Why a pod waits for a device: whoever has one of these looks again when nodes change."""

# --- reasons: pods ------------------------------------------------------------------------------------
UNSCHEDULABLE: Final = "Unschedulable"
"""No node takes the pod; the message is the scheduler's. Cure: free or add what it names as missing."""
IMAGE_PULL_FAILED: Final = "ImagePullFailed"
"""A node cannot pull a container image. Cure: the image name, the pull secret, or the registry."""
SANDBOX_FAILED: Final = "SandboxFailed"
"""The node cannot set up the pod's network or sandbox. Cure: the node, as the message says."""
VOLUME_FAILED: Final = "VolumeFailed"
"""A volume, ConfigMap or Secret that the pod mounts is missing or cannot be mounted. Cure: create it."""
CREATE_CONTAINER_ERROR: Final = "CreateContainerError"
"""The node cannot create or start a container. Cure: as the message says."""
CRASH_LOOP: Final = "CrashLoop"
"""A container ends again and again; exit code and last words are in the message. Cure: as they say."""
OUT_OF_MEMORY: Final = "OutOfMemory"
"""A container was killed for using more memory than its limit. Cure: raise `spec.resources` memory."""
DEVICE_ALLOCATION_FAILED: Final = "DeviceAllocationFailed"
"""The node's device plugin refused to hand out the accelerator. Cure: the device or its plugin."""
POD_REFUSED: Final = "PodRefused"
"""The node refused or evicted the pod; the message is the kubelet's. Cure: as it says."""
NODE_NOT_READY: Final = "NodeNotReady"
"""The node that runs the pod stopped reporting. Cure: the node; the pod moves when it is given up."""
QUOTA_EXCEEDED: Final = "QuotaExceeded"
"""A ResourceQuota or LimitRange of the namespace refuses the pods. Cure: raise it or ask for less."""
POD_SECURITY_VIOLATION: Final = "PodSecurityViolation"
"""The namespace's Pod Security level refuses the pods. Cure: the namespace's labels."""
POD_CREATE_FAILED: Final = "PodCreateFailed"
"""The cluster refuses to create the pods for another reason; the message is the API server's."""

# --- reasons: fetch -----------------------------------------------------------------------------------
MODEL_NOT_FOUND: Final = "ModelNotFound"
"""There is nothing at `spec.model.uri`, or not the wanted version. Cure: the address or the version."""
MODEL_ACCESS_DENIED: Final = "ModelAccessDenied"
"""The model's store refuses access. Cure: credentials or permissions."""
MODEL_SOURCE_UNAVAILABLE: Final = "ModelSourceUnavailable"
"""The model's store does not answer, or its certificate is not trusted. Retried with back-off."""
MODEL_TOO_LARGE: Final = "ModelTooLarge"
"""The model is larger than the configured cap or the node's disk. Cure: `fetch.maxBytes`, or a disk."""
MODEL_DIGEST_MISMATCH: Final = "ModelDigestMismatch"
"""The files are not those that `spec.model.sha256` names. Cure: the right digest or the right files."""
MODEL_ARTIFACT_REJECTED: Final = "ModelArtifactRejected"
"""The archive tries to write outside its folder, holds links, or unpacks to far too much."""
MODEL_VERSION_SKEW: Final = "ModelVersionSkew"
"""A replica found another model than the replicas before it, at the same address. Cure: put the model back,
or roll the new one out to all replicas: `spec.model.version`, or a new value of `spec.rollout.trigger`."""
CREDENTIALS_NOT_FOUND: Final = "CredentialsNotFound"
"""The Secret or ServiceAccount of `spec.model.credentials` does not exist. Cure: create it; nothing needs to
be restarted."""

# --- reasons: load ------------------------------------------------------------------------------------
MODEL_INVALID: Final = "ModelInvalid"
"""The files are no servable model (no SavedModel, no signature). Cure: export the model anew."""
MODEL_LOAD_FAILED: Final = "ModelLoadFailed"
"""The server cannot load the model; its own words are in the message. Cure: as they say."""

ENGINE_ON_CPU: Final = "EngineOnCpu"
"""Of `AcceleratorInUse`: a pod holds a device, but its engine runs the model on the CPU. Cure: an image with
the device's libraries (the runtime's `images`), a driver that fits it, or a model that the device can run."""
DEVICE_UNKNOWN: Final = "DeviceUnknown"
"""Of `AcceleratorInUse`: a pod could not be asked what it runs on, or does not say. Cure: let the operator
reach the pods' HTTP port (NetworkPolicy); it is tried again with back-off."""

FETCH_REASONS: Final = frozenset(
    {
        MODEL_NOT_FOUND,
        MODEL_ACCESS_DENIED,
        MODEL_SOURCE_UNAVAILABLE,
        MODEL_TOO_LARGE,
        MODEL_DIGEST_MISMATCH,
        MODEL_ARTIFACT_REJECTED,
        MODEL_INVALID,
        MODEL_VERSION_SKEW,
    }
)
"""What the fetch container may name as its reason; anything else it says is not believed."""

# --- reasons: rollout ---------------------------------------------------------------------------------
START_DEADLINE_EXCEEDED: Final = "StartDeadlineExceeded"
"""A pod has had a node for longer than `spec.rollout.startDeadlineSeconds`, its model does not answer, and no
other failure is known. Cure: the model, or a longer deadline."""
RUNTIME_CHANGED: Final = "RuntimeChanged"
"""Used by `UpdateAvailable`: the operator or its configuration would render other pods today than those that
run. Cure: a new value of `spec.rollout.trigger` rolls them."""

# --- reasons: children --------------------------------------------------------------------------------
RESOURCE_CONFLICT: Final = "ResourceConflict"
"""An object of the name we need exists and is not ours. Cure: rename or remove it, or rename the CR."""
CHILD_REFUSED: Final = "ChildRefused"
"""The API server refuses an object that we need (RBAC, a policy, a webhook). Cure: as the message says."""
NAMESPACE_TERMINATING: Final = "NamespaceTerminating"
"""The namespace is being deleted, so nothing can be made in it any more. Cure: none is needed."""

STALLING_REASONS: Final = frozenset(
    {
        INVALID_SPEC,
        UNSUPPORTED_SPEC,
        UNKNOWN_RUNTIME,
        UNKNOWN_PROFILE,
        MODEL_DIGEST_MISMATCH,
        MODEL_INVALID,
    }
)
"""What no retry can cure: these set `Stalled`."""

# --- event reasons that are not condition reasons ------------------------------------------------------
EVENT_RECOVERED: Final = "Recovered"

# --- names of capabilities that a runtime may have -----------------------------------------------------
CAP_GRPC_PREDICT: Final = "grpc-predict"
CAP_REST_PREDICT: Final = "rest-predict"
CAP_RAW_SCORE: Final = "raw-score"
CAP_CONCURRENCY_LIMIT: Final = "concurrency-limit"
CAP_BATCHING: Final = "batching"
CAP_DEVICE_REPORT: Final = "device-report"
CAPABILITIES: Final = frozenset(
    {
        CAP_GRPC_PREDICT,
        CAP_REST_PREDICT,
        CAP_RAW_SCORE,
        "metrics",
        CAP_CONCURRENCY_LIMIT,
        CAP_BATCHING,
        CAP_DEVICE_REPORT,
    }
)
FRONT_ADDS: Final = frozenset({CAP_RAW_SCORE, CAP_CONCURRENCY_LIMIT})
"""What a front adds to a runtime that lacks it."""
FRONT_STANDS_ON: Final = frozenset({CAP_GRPC_PREDICT, CAP_REST_PREDICT})
"""What a runtime must have for our server to stand before its own."""

# --- limits -------------------------------------------------------------------------------------------
MAX_MESSAGE: Final = 1024
"""Characters of a condition's message; what containers say is cut to this."""
MAX_NAME: Final = 53
"""Longest name of a custom resource: `<name>-headless` and the pods' names must fit 63 characters."""
MAX_LEASE_SECONDS: Final = 600
"""Longest that a Lease may stand without a renewal; a record that claims more was not written by us."""
