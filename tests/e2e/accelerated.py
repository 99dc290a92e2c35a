"""AcceleratedModels on the lab's nodes: the operator's configuration for them, and short ways to act."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from examples.demo.model import TrainedModel

from e2e.stand import Stand
from serval_lab import Lab
from serval_lab.images import Images
from serval_lab.push_registry import PushRegistry
from serval_lab.spec import EMULATED_FPGA_RESOURCE
from support.chart import CHART, NAMESPACE, RELEASE
from support.cluster import Object, condition
from support.models import accelerated_model
from support.registry import CONFIG, MANIFEST, Registry

KIND = "AcceleratedModel"
PROFILE = "emulated-fpga"
NODE = "fpga-0"
PUSH_SECRET, PULL_SECRET = "artifacts-push", "artifacts-pull"
SHARED = "shared"
"""Account and first part of the repositories of artifacts that a CI would make."""
CLAIM = "calibration"
CLAIM_NODE = "cpu-0"
CALIBRATED = 100
"""Images that calibrate the conversion; those that are scored come after them."""
CONVERTED_LIMIT = 300.0
READY_LIMIT = 120.0
RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
CUT = "StatefulPartitionedCall/StatefulPartitionedCall/map/TensorArrayV2Stack/TensorListStack:0"
"""Where the digits' graph is cut: decoded pixels, before the first convolution."""
OUTPUTS = ("StatefulPartitionedCall:0", "StatefulPartitionedCall:1")
"""The digits' `classes` and `probabilities`."""


def enable(lab: Lab, images: Images, registry: PushRegistry) -> None:
    """Upgrade the chart so that AcceleratedModels are converted, stored in the registry and emulated.

    Parameters
    ----------
    registry:
        One without TLS, whose artifacts nodes mount. Those of a registry with its own authority are fetched.
    """
    tag = images.converter.rpartition(":")[2]
    artifacts = {
        "repositoryPrefix": registry.host,
        "pushSecret": PUSH_SECRET,
        "pullSecret": PULL_SECRET,
        "plainHttp": True,
    }
    profile = {
        "description": "An FPGA that does not exist",
        "resourceName": EMULATED_FPGA_RESOURCE,
        "engine": "emulator",
        "engineOptions": {"programming_seconds": 1},
    }
    values = {
        "converterImage": {"registry": lab.registry, "tag": tag},
        "conversion": {"resources": {"requests": {"cpu": "200m"}}, "artifacts": artifacts},
        "profiles": {PROFILE: profile},
        "runtimes": {"serval": {"images": {PROFILE: {"Accelerated": images.server}}}},
    }
    lab.helm(
        *("upgrade", RELEASE, str(CHART), f"--namespace={NAMESPACE}", "--reuse-values"),
        *("--wait", "--timeout=180s", "--values=-"),
        stdin=json.dumps(values),
    )


def kill_operator(lab: Lab) -> None:
    """Kill the operator's pod; its Deployment makes another one."""
    lab.kubectl(
        *("delete", "pod", f"--namespace={NAMESPACE}", f"--selector=app.kubernetes.io/instance={RELEASE}"),
        *("--grace-period=0", "--force", "--wait=false"),
    )


def let_push(stand: Stand, registry: PushRegistry) -> None:
    """Give a namespace its account of the registry, which also pulls what is shared."""
    account = registry.account(stand.namespace, push=[f"{stand.namespace}/"], pull=[f"{SHARED}/"])
    for secret in (PUSH_SECRET, PULL_SECRET):
        stand.cluster.create(account.secret(secret, stand.namespace))


@contextmanager
def calibration(stand: Stand, model: TrainedModel) -> Iterator[None]:
    """A claim with the photos that calibrate, on one node, for a while."""
    name = f"{CLAIM}-{stand.namespace}"
    folder = stand.lab.node(CLAIM_NODE).folder / "log" / name
    _write_photos(folder, model)
    where = {"key": "kubernetes.io/hostname", "operator": "In", "values": [CLAIM_NODE]}
    shared = {"accessModes": ["ReadOnlyMany"], "storageClassName": name}
    volume = {
        **shared,
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": f"/var/log/{name}"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [where]}]}},
    }
    stand.cluster.create(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume}
    )
    stand.cluster.create(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": CLAIM, "namespace": stand.namespace},
            "spec": {**shared, "resources": {"requests": {"storage": "1Gi"}}},
        }
    )
    try:
        yield
    finally:
        stand.cluster.delete("PersistentVolume", None, name)
        shutil.rmtree(folder)


def _write_photos(folder: Path, model: TrainedModel) -> None:
    """Lay photos where a node sees them, readable for every user."""
    folder.mkdir()
    folder.chmod(0o755)
    for image in model.images[:CALIBRATED]:
        (folder / image.name).write_bytes(image.data)
        (folder / image.name).chmod(0o644)


def publish(registry: PushRegistry, folder: Path) -> str:
    """Push an artifact as the image that it is; return its address by digest."""
    repository, client = _shared(registry)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name, filter=_readable)
    layer = client.blob(repository, "application/vnd.oci.image.layer.v1.tar", packed.getvalue())
    config = {
        "architecture": "amd64",
        "os": "linux",
        # Without it the image is pulled, and mounts nothing.
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    entry = client.blob(repository, CONFIG, json.dumps(config).encode())
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": entry, "layers": [layer]}
    return f"oci://{registry.host}/{repository}@{client.manifest(repository, '1', manifest)}"


def publish_pure(registry: PushRegistry) -> str:
    """Push what other tools call an artifact: nodes mount it without an error, and without a file."""
    repository, client = _shared(registry)
    digest = client.push(repository, "pure", ("application/vnd.example.model", b"{}"))
    return f"oci://{registry.host}/{repository}@{digest}"


def _shared(registry: PushRegistry) -> tuple[str, Registry]:
    """Return the repository of shared artifacts, and a client that may push there."""
    repository = f"{SHARED}/small"
    token = registry.token(registry.account(SHARED), repository)
    return repository, Registry(registry.host, registry.ca, {"Authorization": f"Bearer {token}"}, "http")


def _readable(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mode = 0o644
    return member


def create_converted(stand: Stand, name: str, uri: str, **spec: Any) -> Object:
    """Create an AcceleratedModel of an artifact that was converted elsewhere."""
    whole = {
        "artifact": {"uri": uri, "secretRef": {"name": PULL_SECRET}},
        "accelerator": {"profile": PROFILE},
        "resources": RESOURCES,
        **spec,
    }
    return stand.cluster.create(accelerated_model(name, stand.namespace, **whole))


def create(stand: Stand, name: str, **spec: Any) -> Object:
    """Create an AcceleratedModel of the digits in TensorFlow, which decodes images in its graph."""
    whole = {
        "model": stand.tensorflow(),
        "inputs": [{"name": CUT, "shape": [-1, 8, 8, 1]}],
        "outputs": [{"name": one} for one in OUTPUTS],
        "conversion": {"calibration": {"uri": f"pvc://{CLAIM}"}},
        "accelerator": {"profile": PROFILE},
        "resources": RESOURCES,
        **spec,
    }
    return stand.cluster.create(accelerated_model(name, stand.namespace, **whole))


def until(stand: Stand, name: str, kind: str, status: str, reason: str | None, limit: float) -> Object:
    """Wait for a condition of an AcceleratedModel."""
    return stand.cluster.until_condition(stand.namespace, name, kind, status, reason, limit, of=KIND)


def serving(stand: Stand, name: str, limit: float = CONVERTED_LIMIT + READY_LIMIT) -> Object:
    """Wait until an AcceleratedModel serves."""
    return until(stand, name, "Ready", "True", "Serving", limit)


def says(stand: Stand, name: str, words: str, limit: float = CONVERTED_LIMIT + READY_LIMIT) -> Object:
    """Wait until an AcceleratedModel is not ready, and its message holds some words."""

    def holds(cr: Object) -> bool:
        ready = condition(cr, "Ready")
        return ready.get("status") == "False" and words in ready.get("message", "")

    return stand.cluster.until(f"{name}: {words}", KIND, stand.namespace, name, holds, limit)


def written(lab: Lab, resource: str, namespace: str, prefix: str) -> list[tuple[datetime, str, str]]:
    """Return when, how and by whom objects were written whose name begins so, from the audit log."""
    found = []
    for line in lab.audit_log.read_text().splitlines():
        event = json.loads(line)
        place = event.get("objectRef", {})
        if (
            event["verb"] in ("create", "update", "patch", "delete")
            and (place.get("resource"), place.get("namespace")) == (resource, namespace)
            and not place.get("subresource")
            and place.get("name", "").startswith(prefix)
        ):
            when = datetime.fromisoformat(event["requestReceivedTimestamp"])
            found.append((when, event["verb"], event["user"]["username"]))
    return sorted(found)
