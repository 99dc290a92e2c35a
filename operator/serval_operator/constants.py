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
ANNOTATION_APPLIED: Final = "serval.dev/applied-hash"
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

# --- the pod ------------------------------------------------------------------------------------------
CONTAINER_FETCH: Final = "fetch"
CONTAINER_SERVER: Final = "server"
PORT_GRPC: Final = 8500
PORT_HTTP: Final = 8501
PORT_SCORING: Final = 80
MODELS_DIR: Final = "/models"
SOURCE_DIR: Final = "/serval/source"
CA_DIR: Final = "/serval/ca"
HEADLESS_SUFFIX: Final = "-headless"

# --- condition types ----------------------------------------------------------------------------------
READY: Final = "Ready"
"""The newest spec is fully rolled out and every replica answers."""
AVAILABLE: Final = "Available"
"""At least one replica, of whatever revision, answers now."""
SCHEDULED: Final = "Scheduled"
"""Every pod of the newest revision has a node."""
MODEL_FETCHED: Final = "ModelFetched"
"""Every pod of the newest revision holds the model's files, checked."""
MODEL_LOADED: Final = "ModelLoaded"
"""The model answers in every pod of the newest revision."""
ENDPOINT_READY: Final = "EndpointReady"
"""The Service exists and at least one pod stands behind it."""
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
UNKNOWN_RUNTIME: Final = "UnknownRuntime"
"""`spec.runtime.name` is not in the operator's configuration. Cure: use one of those listed."""
UNKNOWN_PROFILE: Final = "UnknownProfile"
"""`spec.accelerator.profile` is not in the operator's configuration. Cure: use one of those listed."""

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
# --- reasons: load ------------------------------------------------------------------------------------
MODEL_INVALID: Final = "ModelInvalid"
"""The files are no servable model (no SavedModel, no signature). Cure: export the model anew."""
MODEL_LOAD_FAILED: Final = "ModelLoadFailed"
"""The server cannot load the model; its own words are in the message. Cure: as they say."""

FETCH_REASONS: Final = frozenset(
    {
        MODEL_NOT_FOUND,
        MODEL_ACCESS_DENIED,
        MODEL_SOURCE_UNAVAILABLE,
        MODEL_TOO_LARGE,
        MODEL_DIGEST_MISMATCH,
        MODEL_ARTIFACT_REJECTED,
        MODEL_INVALID,
    }
)
"""What the fetch container may name as its reason; anything else it says is not believed."""

# --- reasons: children --------------------------------------------------------------------------------
RESOURCE_CONFLICT: Final = "ResourceConflict"
"""An object of the name we need exists and is not ours. Cure: rename or remove it, or rename the CR."""
CHILD_REFUSED: Final = "ChildRefused"
"""The API server refuses an object that we need (RBAC, a policy, a webhook). Cure: as the message says."""

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
CAP_RAW_SCORE: Final = "raw-score"
CAP_CONCURRENCY_LIMIT: Final = "concurrency-limit"
CAPABILITIES: Final = frozenset(
    {"grpc-predict", "rest-predict", CAP_RAW_SCORE, "metrics", CAP_CONCURRENCY_LIMIT}
)

# --- limits -------------------------------------------------------------------------------------------
MAX_MESSAGE: Final = 1024
"""Characters of a condition's message; what containers say is cut to this."""
MAX_NAME: Final = 53
"""Longest name of a custom resource: `<name>-headless` and the pods' names must fit 63 characters."""
