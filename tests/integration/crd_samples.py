"""ModelDeployments and a status that the tests of the CRD share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support import gen
from support.plane import kubectl
from support.wait import until

CRD_FILE = Path(__file__).parents[2] / "crds" / "serval.dev_modeldeployments.yaml"
CRD_NAME = "modeldeployments.serval.dev"
NAMESPACE = "crd-test"
Document = dict[str, Any]


def document(name: str = "resnet50", **spec: Any) -> Document:
    """The smallest ModelDeployment, with more fields of its spec."""
    return {
        "apiVersion": "serval.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"model": {"uri": "pvc://models/resnet50"}, **spec},
    }


def install_crd(control_plane: Any) -> None:
    """Apply the CRD as a user would, wait for it, and make the namespace that the tests use."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    _succeed(control_plane, "apply", "-f", str(CRD_FILE))
    _succeed(control_plane, "wait", "--for=condition=Established", f"crd/{CRD_NAME}", "--timeout=20s")
    _succeed(control_plane, "apply", "-f", "-", stdin=json.dumps(namespace))


def _succeed(control_plane: Any, *arguments: str, stdin: str | None = None) -> None:
    """Run kubectl until it succeeds: an API server that has just started may need a moment for a new kind."""
    refused: list[str] = []

    def succeeds() -> bool:
        done = kubectl(control_plane, *arguments, stdin=stdin)
        refused.append(done.stderr)
        return done.returncode == 0

    try:
        until(f"kubectl {arguments[0]}", succeeds)
    except AssertionError as error:
        raise AssertionError(refused[-1]) from error


EVERYTHING = document(
    model={
        "uri": "https://models.example.com:8443/vision/resnet50.tar.gz?sig=a%2Bb%2Fc%3D",
        "name": "ResNet_50.v1-5",
        "version": 3,
        "framework": "TensorFlow",
        "sha256": "0" * 64,
        "caConfigMapRef": {"name": "store-ca", "key": "ca.pem"},
        "credentials": {"secretRef": {"name": "store.keys"}},
    },
    runtime={
        "name": "tensorflow-serving",
        "args": ["--rest_api_num_threads=4", "--prefer_tflite_model"],
        "env": [{"name": "TF_CPP_MIN_LOG_LEVEL", "value": "1"}, {"name": "OMP_NUM_THREADS", "value": ""}],
        "batching": {"maxBatchSize": 64, "timeoutMicros": 0, "maxEnqueued": 100},
    },
    replicas=0,
    resources={
        "requests": {"cpu": 2, "memory": "4Gi", "ephemeral-storage": "500M"},
        "limits": {"cpu": "2000m", "memory": "4Gi"},
    },
    accelerator={
        "resourceName": "nvidia.com/mig-1g.10gb",
        "count": 2,
        "whenUnavailable": "Wait",
        "whenBusy": "Replace",
    },
    scheduling={
        "nodeSelector": {"kubernetes.azure.com/accelerator": "nvidia", "pool": ""},
        "tolerations": [
            {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
            {"key": "nvidia.com/gpu", "operator": "Exists"},
            {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
        ],
        "topologySpread": "Required",
        "priorityClassName": "serving-high",
        "runtimeClassName": "nvidia",
        "schedulerName": "volcano",
    },
    endpoint={"rawBytes": "Disabled", "timeoutSeconds": 60, "maxConcurrentRequests": 8},
    probes={
        "startup": {"periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 900},
        "readiness": {"periodSeconds": 5},
        "liveness": {"failureThreshold": 6},
    },
    suspend=False,
    rollout={
        "strategy": "Surge",
        "startDeadlineSeconds": 600,
        "minReadySeconds": 10,
        "onFailure": "Revert",
        "trigger": "2026-11-28, for the new driver",
    },
    autoscaling={
        "minReplicas": 2,
        "maxReplicas": 8,
        "metrics": [{"type": "RequestsInFlight", "targetUtilization": 60}, {"type": "CPU"}],
    },
    disruption={"maxUnavailable": "25%"},
    imagePullSecrets=[{"name": "registry"}, {"name": "mirror.example"}],
    podMetadata={
        "labels": {"team": "vision", "example.com/cost-centre": "42"},
        "annotations": {"prometheus.io/scrape": "true", "note": "free text, even with: signs"},
    },
)


def condition(kind: str, status: str, reason: str) -> Document:
    return {
        "type": kind,
        "status": status,
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
        "reason": reason,
        "message": "1 of 2 pods: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    }


STATUS: Document = {
    "observedGeneration": 1,
    "replicas": 2,
    "readyReplicas": 1,
    "updatedReplicas": 2,
    "replicasSummary": "1/2",
    "modelSummary": "resnet50/3",
    "selector": ",".join(f"{name}={value}" for name, value in sorted(gen.labels("shown").items())),
    "revision": "6d4b75cb6d",
    "servingRevision": "0a1b2c3d4e",
    "endpoints": {
        "scoring": "http://shown.crd-test.svc/score",
        "rest": "http://shown.crd-test.svc:8501/v1/models/resnet50",
        "grpc": "shown.crd-test.svc:8500",
    },
    "model": {
        "name": "resnet50",
        "version": 3,
        "digest": "sha256:" + "0f" * 32,
        "pinned": True,
        "inputs": [{"name": "images", "dtype": "DT_STRING", "shape": [-1]}],
        "outputs": [{"name": "classes", "dtype": "DT_INT64", "shape": []}, {"name": "any"}],
    },
    "effective": {
        "runtime": "serval",
        "image": "registry/serval-server:1",
        "strategy": "InPlace",
        "accelerator": "nvidia-gpu",
    },
    "accelerator": {
        "resourceName": "nvidia.com/gpu",
        "requested": 2,
        "free": 0,
        "holders": [
            {"namespace": "vision", "name": "vgg16", "node": "gpu-0", "count": 1},
            {"count": 1},
        ],
    },
    "placement": [{"node": "gpu-0", "zone": "a", "region": "b", "replicas": 1}],
    "lastFailure": {
        "reason": "CrashLoop",
        "message": "out of luck",
        "pod": "shown-6d4b75cb6d-x2x4z",
        "exitCode": 137,
        "time": "2026-01-02T03:04:05Z",
    },
    "conditions": [
        condition("Ready", "False", "Unschedulable"),
        condition("Available", "True", "ModelAnswers"),
        condition("UpdateAvailable", "True", "RuntimeChanged"),
        condition("Reconciling", "True", "Progressing"),
    ],
}
