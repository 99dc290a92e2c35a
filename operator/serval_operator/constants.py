"""Every name that users, other tools or the API server see. One place, so that nothing is spelled twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

# --- identity -----------------------------------------------------------------------------------------
GROUP: Final = "serval.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
MODEL_DEPLOYMENT: Final = "ModelDeployment"
ACCELERATED_MODEL: Final = "AcceleratedModel"
FIELD_MANAGER: Final = "serval-operator"
EVENT_COMPONENT: Final = "serval-operator"
CONFIG_API_VERSION: Final = "config.serval.dev/v1alpha1"
CONFIG_KIND: Final = "OperatorConfiguration"

# --- labels and annotations ---------------------------------------------------------------------------
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_KIND: Final = "serval.dev/kind"
"""Kind of the custom resource that an object or pod belongs to, as its manifest spells it."""
LABEL_NAME: Final = "serval.dev/name"
LABEL_OWNER_NAME: Final = "serval.dev/owner-name"
"""On Jobs and their pods, in place of `LABEL_NAME`, by which Services and Deployments select pods."""
LABEL_OWNER_UID: Final = "serval.dev/owner-uid"
"""On pods, and in no selector: uid of the custom resource. A pod of a deleted predecessor has another one."""
LABEL_REVISION: Final = "serval.dev/revision"
LABEL_JOB: Final = "serval.dev/job"
"""On Jobs and their pods: name of the plan that the Job carries out, unique within its custom resource."""
LABEL_INPUTS: Final = "serval.dev/inputs"
"""On Jobs and their pods: digest of what the result depends on."""
LABEL_ATTEMPT: Final = "serval.dev/attempt"
"""On Jobs and their pods: how often the same inputs were tried, this time included."""
LABEL_JOB_NAME: Final = "batch.kubernetes.io/job-name"
"""On the pods of Jobs, by Kubernetes: name of the Job."""
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
COMPONENT_JOB: Final = "job"
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
CONVERTED: Final = "Converted"
"""The artifact that the newest spec asks for exists. Only of AcceleratedModels."""
DEVICE_PROGRAMMED: Final = "DeviceProgrammed"
"""Every pod of the newest revision has programmed its device with the model. Only of AcceleratedModels."""
ENDPOINT_READY: Final = "EndpointReady"
"""The Service exists and at least one pod stands behind it."""
ACCELERATOR_IN_USE: Final = "AcceleratorInUse"
"""Every ready pod of the newest revision runs the model on the device that it holds, and not on the CPU. Only
where a spec asks for devices and the runtime reports what it runs on, once a pod is ready."""
UPDATE_AVAILABLE: Final = "UpdateAvailable"
"""True while the operator would render other pods than those of the newest revision; False while it could
render none, because the configuration lacks what the spec names; else absent."""
RECONCILING: Final = "Reconciling"
"""Present, and True, only while the operator or the cluster still works on the newest spec (kstatus)."""
STALLED: Final = "Stalled"
"""Present, and True, only when no retry can help and the spec or the model must change (kstatus)."""

# --- event reasons that are not condition reasons ------------------------------------------------------
EVENT_RECOVERED: Final = "Recovered"
EVENT_RANDOM_WEIGHTS: Final = "RandomWeights"
EVENT_POD_MOVED: Final = "PodMoved"
EVENT_STATUS_REFUSED: Final = "StatusRefused"

# --- limits -------------------------------------------------------------------------------------------
MAX_MESSAGE: Final = 1024
"""Characters of a condition's message; what containers say is cut to this."""
MAX_NAME: Final = 53
"""Longest name of a custom resource: `<name>-headless` and the pods' names must fit 63 characters."""
ROOM_GIVEN_WITHIN: Final = timedelta(seconds=3)
"""How long after a pod's end the scheduler may take to give its place to the successor."""
MAX_LEASE_SECONDS: Final = 600
"""Longest that a Lease may stand without a renewal; a record that claims more was not written by us."""
