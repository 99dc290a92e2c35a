"""What the demo applies, as plain objects: its namespace, a model store, and models."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from examples.demo.certificates import ServerCertificate

Manifest = dict[str, Any]

RESOURCE = "modeldeployments.serval.dev"
NAMESPACE = "serval-demo"
NAME = "digits"
LATECOMER = "latecomer"
"""The ModelDeployment of the second act, which comes when all devices are taken."""
GRPC_PORT = 8500
SCORING_PORT = 80
"""Of the Service of a ModelDeployment."""
ACCELERATED = "acceleratedmodels.serval.dev"
INT8 = "digits-int8"
NEXT = "digits-next"
"""The AcceleratedModels of the third act: who holds the device, and who waits for it."""
EDGE_PORT = 50051
"""Of the Service of an AcceleratedModel, where Azure's client calls."""
PROFILE = "emulated-fpga"
PUSH_SECRET, PULL_SECRET = "artifacts-push", "artifacts-pull"
PHOTO_CLAIM = "photos"
CUT = "StatefulPartitionedCall/StatefulPartitionedCall/map/TensorArrayV2Stack/TensorListStack:0"
"""Where the graph of the digits is cut: decoded pixels, before the first convolution."""
OUTPUTS = ("StatefulPartitionedCall:0", "StatefulPartitionedCall:1")
"""The digits' `classes` and `probabilities`."""
CHANGE_ANNOTATION = "example.com/change"
STORE = "model-store"
STORE_TLS = f"{STORE}-tls"
STORE_CA = f"{STORE}-ca"
STORE_FILES = f"{STORE}-files"
STORE_SCRIPT = f"{STORE}-script"
STORE_PORT = 8443
ARCHIVE = "digits.tar.gz"
CA_KEY = "ca.crt"
SCRIPT = Path(__file__).with_name("store_server.py")
LABEL = {"app.kubernetes.io/part-of": "serval-demo"}
CONTENT_ANNOTATION = "serval-demo/content"
USER_ID = 65532


def namespace(name: str = NAMESPACE) -> Manifest:
    """Return a namespace that lets in only pods of the Pod Security level "restricted"."""
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": LABEL | levels}}


def pod_selector(name: str = NAME) -> str:
    """Return the label selector of a ModelDeployment's pods."""
    return f"serval.dev/name={name}"


def change(value: str) -> Manifest:
    """Return a patch that makes new pods of a ModelDeployment necessary, whatever else it says."""
    return {"spec": {"podMetadata": {"annotations": {CHANGE_ANNOTATION: value}}}}


def store_names(namespace: str = NAMESPACE) -> tuple[str, ...]:
    """Return the DNS names of the model store, the one that is used first."""
    return (f"{STORE}.{namespace}.svc", f"{STORE}.{namespace}", STORE)


def store_url(namespace: str = NAMESPACE) -> str:
    """Return where a pod fetches the archive."""
    return f"https://{store_names(namespace)[0]}/{ARCHIVE}"


def model_store(
    archive: bytes, certificate: ServerCertificate, image: str, namespace: str = NAMESPACE
) -> list[Manifest]:
    """Return the objects of a model store: one pod that serves the archive over HTTPS.

    Parameters
    ----------
    archive:
        The packed model.
    certificate:
        For the names of `store_names`.
    image:
        Any image with python3; the operator's is on the nodes already.
    """
    script = SCRIPT.read_text(encoding="utf-8")
    secret = {"tls.crt": certificate.certificate, "tls.key": certificate.key}
    content = hashlib.sha256(json.dumps([script, secret]).encode() + archive).hexdigest()
    return [
        _object("v1", "ConfigMap", STORE_CA, namespace, data={CA_KEY: certificate.authority}),
        _object("v1", "ConfigMap", STORE_SCRIPT, namespace, data={SCRIPT.name: script}),
        _object("v1", "ConfigMap", STORE_FILES, namespace, binaryData={ARCHIVE: _base64(archive)}),
        _object(
            "v1",
            "Secret",
            STORE_TLS,
            namespace,
            type="kubernetes.io/tls",
            data={name: _base64(text.encode()) for name, text in secret.items()},
        ),
        _object("v1", "Service", STORE, namespace, spec=_service_spec()),
        _object("apps/v1", "Deployment", STORE, namespace, spec=_deployment_spec(image, content)),
    ]


def model_deployment(
    sha256: str,
    *,
    namespace: str = NAMESPACE,
    name: str = NAME,
    replicas: int = 2,
    profile: str = "nvidia-gpu",
) -> Manifest:
    """Return a ModelDeployment of the archive in the model store, with one accelerator for each replica."""
    spec = {
        "model": {
            "uri": store_url(namespace),
            "sha256": sha256,
            "caConfigMapRef": {"name": STORE_CA, "key": CA_KEY},
        },
        "replicas": replicas,
        "resources": {"requests": {"cpu": "250m", "memory": "768Mi"}, "limits": {"memory": "2Gi"}},
        "accelerator": {"profile": profile, "count": 1},
    }
    return _object("serval.dev/v1alpha1", "ModelDeployment", name, namespace, spec=spec)


def accelerated_model(sha256: str, namespace: str = NAMESPACE) -> Manifest:
    """Return an AcceleratedModel of the archive in the model store, which a Job converts to int8."""
    spec = {
        "model": {
            "uri": store_url(namespace),
            "sha256": sha256,
            "caConfigMapRef": {"name": STORE_CA, "key": CA_KEY},
        },
        "inputs": [{"name": CUT, "shape": [-1, 8, 8, 1]}],
        "outputs": [{"name": name} for name in OUTPUTS],
        "conversion": {"calibration": {"uri": f"pvc://{PHOTO_CLAIM}"}},
        **_on_a_device(),
    }
    return _object("serval.dev/v1alpha1", "AcceleratedModel", INT8, namespace, spec=spec)


def converted_model(artifact: str, namespace: str = NAMESPACE) -> Manifest:
    """Return an AcceleratedModel of an artifact, whose address ends with its digest."""
    spec = {"artifact": {"uri": artifact, "secretRef": {"name": PULL_SECRET}}, **_on_a_device()}
    return _object("serval.dev/v1alpha1", "AcceleratedModel", NEXT, namespace, spec=spec)


def _on_a_device() -> Manifest:
    return {
        "accelerator": {"profile": PROFILE},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
    }


def photo_volume(path: str, node: str, namespace: str = NAMESPACE) -> list[Manifest]:
    """Return a volume of a folder on one node, and a claim of it.

    Parameters
    ----------
    path:
        The folder, as the node sees it.
    """
    name = f"{namespace}-{PHOTO_CLAIM}"
    where = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    # The name stands for no StorageClass. It ties the claim to this volume.
    shared = {"accessModes": ["ReadOnlyMany"], "storageClassName": name}
    volume = {
        **shared,
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": path},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [where]}]}},
    }
    claim = {**shared, "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": name, "labels": dict(LABEL)}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": volume},
        _object("v1", "PersistentVolumeClaim", PHOTO_CLAIM, namespace, spec=claim),
    ]


def _object(api_version: str, kind: str, name: str, namespace: str, **fields: Any) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "labels": dict(LABEL)}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _service_spec() -> Manifest:
    ports = [{"name": "https", "port": 443, "targetPort": "https", "protocol": "TCP"}]
    return {"selector": {"app.kubernetes.io/name": STORE}, "ports": ports}


def _deployment_spec(image: str, content: str) -> Manifest:
    labels = {"app.kubernetes.io/name": STORE} | LABEL
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_store_container(image)],
        "volumes": [
            {"name": "script", "configMap": {"name": STORE_SCRIPT}},
            {"name": "files", "configMap": {"name": STORE_FILES}},
            {"name": "tls", "secret": {"secretName": STORE_TLS, "defaultMode": 0o440}},
        ],
    }
    return {
        "replicas": 1,
        "selector": {"matchLabels": {"app.kubernetes.io/name": STORE}},
        # The pod is replaced when what it serves, or its certificate, changes.
        "template": {
            "metadata": {"labels": labels, "annotations": {CONTENT_ANNOTATION: content}},
            "spec": pod,
        },
    }


def _store_container(image: str) -> Manifest:
    return {
        "name": "server",
        "image": image,
        "command": ["python3", f"/serve/script/{SCRIPT.name}", "/serve/files", "/serve/tls", str(STORE_PORT)],
        "ports": [{"name": "https", "containerPort": STORE_PORT, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "readinessProbe": {"httpGet": {"path": "/", "port": "https", "scheme": "HTTPS"}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": name, "mountPath": f"/serve/{name}", "readOnly": True}
            for name in ("script", "files", "tls")
        ],
    }
