"""The pod that serves a model: the fetch init container, the model server, a front, and their volumes.

It meets Pod Security "restricted", has no service account token and a read-only root, and is told to stop
in a way that loses no request: the preStop sleep lets the endpoint's removal reach every node before the
server begins to drain.
"""

from __future__ import annotations

import json
from typing import Any

from serval_contract import devices
from serval_contract import server_flags as flags
from serval_contract.paths import BATCHING_FILE, IMAGE_DIR, MODELS_DIR
from serval_contract.ports import PORT_BEHIND_GRPC, PORT_BEHIND_HTTP, PORT_GRPC, PORT_HTTP
from serval_operator.api.blocks.names import DISABLED
from serval_operator.api.blocks.scheduling import REQUIRED
from serval_operator.api.capabilities import CONCURRENCY_LIMIT, RAW_SCORE
from serval_operator.api.naming import Key, selector
from serval_operator.constants import CONTAINER_SERVER, LABEL_ARCH, LABEL_HOSTNAME, LABEL_REVISION, LABEL_ZONE
from serval_operator.workload.effective_spec import EffectiveSpec
from serval_operator.workload.manifests.containers import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    PRE_STOP_SECONDS,
    TMP_MOUNT,
    container_ports,
    endpoint_flags,
    literal,
    message_limit,
    mount,
)
from serval_operator.workload.manifests.fetch import (
    IMAGE_VOLUME,
    Source,
    fetch_container,
    sources,
)
from serval_operator.workload.manifests.front import LAST_SECONDS, front_container, kept_back
from serval_operator.workload.manifests.probes import facing, liveness, startup

TMP_SIZE = "1Gi"
BEHIND = "behind-"
"""Before the names of the ports of a server that has a front."""


def pod_spec(key: Key, resolved: EffectiveSpec, pin: str) -> dict[str, Any]:
    """Spec of the pod.

    Parameters
    ----------
    key:
        Key of the owner.
    pin:
        Name of the ConfigMap that binds the pod's revision to one model.
    """
    scheduling, credentials = resolved.spec.scheduling, resolved.model.credentials
    reads = sources(resolved.model, image_volume=resolved.image_volume, pin=pin)
    optional = {
        "serviceAccountName": credentials.service_account_name if credentials else "",
        "topologySpreadConstraints": _spread(key, resolved),
        "nodeSelector": dict(resolved.placement.node_selector),
        "affinity": _affinity(resolved),
        "tolerations": [dict(one) for one in resolved.placement.tolerations],
        "imagePullSecrets": [{"name": secret} for secret in _pull_secrets(resolved)],
        "priorityClassName": scheduling.priority_class_name,
        "runtimeClassName": resolved.runtime_class,
        "schedulerName": scheduling.scheduler_name,
    }
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _grace_seconds(resolved),
        "securityContext": POD_SECURITY,
        **_containers(resolved, reads),
        "volumes": _volumes(resolved, reads),
        **{field: value for field, value in optional.items() if value},
    }


def _containers(resolved: EffectiveSpec, reads: list[Source]) -> dict[str, Any]:
    fetch, server = fetch_container(resolved, reads), _server(resolved)
    if resolved.front is None:
        return {"initContainers": [fetch], "containers": [server]}
    front = front_container(resolved, resolved.front)
    return {"initContainers": [fetch, server], "containers": [front]}


def _grace_seconds(resolved: EffectiveSpec) -> int:
    last = LAST_SECONDS if resolved.front else 0
    return PRE_STOP_SECONDS + resolved.runtime.grace_seconds + last


def _pull_secrets(resolved: EffectiveSpec) -> list[str]:
    """Pull secrets; the model's credentials are one where its image is mounted instead of fetched."""
    secrets = [one.name for one in resolved.spec.image_pull_secrets]
    credentials = resolved.model.credentials
    if resolved.image_volume and credentials and credentials.secret_name not in ("", *secrets):
        secrets.append(credentials.secret_name)
    return secrets


def _affinity(resolved: EffectiveSpec) -> dict[str, Any]:
    """Keep the pods on nodes for which the runtime has images; a node selector cannot name several values."""
    architectures = resolved.placement.architectures
    if not architectures:
        return {}
    expression = {"key": LABEL_ARCH, "operator": "In", "values": list(architectures)}
    terms = [{"matchExpressions": [expression]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"nodeAffinity": required}


def _spread(key: Key, resolved: EffectiveSpec) -> list[dict[str, Any]]:
    """Spread the pods of a revision over nodes and zones.

    Zones are never more than a preference: a hard constraint would shut out every node without a zone.
    """
    spread = resolved.spec.scheduling.topology_spread
    if spread == DISABLED:
        return []
    return [
        _constraint(key, LABEL_HOSTNAME, "DoNotSchedule" if spread == REQUIRED else "ScheduleAnyway"),
        _constraint(key, LABEL_ZONE, "ScheduleAnyway"),
    ]


def _constraint(key: Key, topology: str, otherwise: str) -> dict[str, Any]:
    """Nodes whose taints keep the pods away count for nothing, else they would look like room left free."""
    return {
        "maxSkew": 1,
        "topologyKey": topology,
        "whenUnsatisfiable": otherwise,
        "nodeTaintsPolicy": "Honor",
        "labelSelector": {"matchLabels": selector(key)},
        "matchLabelKeys": [LABEL_REVISION],
    }


def _server(resolved: EffectiveSpec) -> dict[str, Any]:
    spec, runtime = resolved.spec, resolved.runtime
    env = {**dict(runtime.env), **{one.name: literal(one.value) for one in spec.runtime.env}}
    return {
        "name": CONTAINER_SERVER,
        "image": resolved.image,
        "imagePullPolicy": runtime.image_pull_policy,
        "args": _server_args(resolved),
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "resources": _resources(resolved),
        **(_behind(resolved) if resolved.front else facing(resolved)),
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _server_mounts(resolved),
    }


def _behind(resolved: EffectiveSpec) -> dict[str, Any]:
    """What makes it the server that the front reaches: its readiness is the front's to ask.

    The startup probe keeps the liveness probe away until the model is loaded, before which the port is shut.
    The front starts after it, ends before it, and brings all requests, so it has nothing to wait for itself.
    """
    return {
        "restartPolicy": "Always",
        "ports": container_ports(grpc=PORT_BEHIND_GRPC, http=PORT_BEHIND_HTTP, prefix=BEHIND),
        "startupProbe": startup(resolved, f"{BEHIND}http"),
        "livenessProbe": liveness(resolved, f"{BEHIND}grpc"),
    }


def _server_args(resolved: EffectiveSpec) -> list[str]:
    spec, runtime, fronted = resolved.spec, resolved.runtime, resolved.front is not None
    args = [
        flags.PORT(PORT_BEHIND_GRPC if fronted else PORT_GRPC),
        flags.REST_API_PORT(PORT_BEHIND_HTTP if fronted else PORT_HTTP),
        flags.MODEL_NAME(resolved.model.name),
        flags.MODEL_BASE_PATH(f"{MODELS_DIR}/{resolved.model.name}"),
        *runtime.args,
        *_device_args(resolved),
    ]
    if spec.runtime.batching:
        args += [flags.ENABLE_BATCHING(True), flags.BATCHING_PARAMETERS_FILE(f"{MODELS_DIR}/{BATCHING_FILE}")]
    if CONCURRENCY_LIMIT.name in runtime.capabilities:
        args += message_limit(spec.resources.limits, runtime.args)
    args += endpoint_flags(spec.endpoint, limits=not fronted, scores=RAW_SCORE.name in runtime.capabilities)
    fronts = kept_back(runtime) if fronted else ()
    return [*args, *(literal(arg) for arg in spec.runtime.args if not arg.startswith(fronts))]


def _device_args(resolved: EffectiveSpec) -> list[str]:
    """Flags for the device that a server of artifacts programs and runs."""
    device = resolved.device
    if device is None:
        return []
    args = [devices.DEVICE_ENGINE(device.engine), devices.DEVICE_RESOURCE(resolved.placement.resource_name)]
    if device.options:
        text = json.dumps(device.options, sort_keys=True, separators=(",", ":"))
        args.append(devices.DEVICE_OPTIONS(literal(text)))
    if device.lock_dir:
        args.append(devices.DEVICE_LOCK_DIR(literal(device.lock_dir)))
    if device.allow_emulation:
        args.append(devices.DEVICE_ALLOW_EMULATION(True))
    return args


def _server_mounts(resolved: EffectiveSpec) -> list[dict[str, Any]]:
    mounts = [mount("models", MODELS_DIR, read_only=True), TMP_MOUNT]
    if resolved.image_volume:
        # The fetch container leaves links into the image, at the same place.
        mounts.append(mount(IMAGE_VOLUME, IMAGE_DIR, read_only=True))
    return mounts


def _resources(resolved: EffectiveSpec) -> dict[str, Any]:
    """Requests and limits; an extended resource must stand in both, with the same count.

    Quantities become texts, as the API server writes them: 2 and "2" are one revision.
    """
    resources = resolved.spec.resources
    asked = {
        side: {name: str(amount) for name, amount in values.items()}
        for side, values in (("requests", resources.requests), ("limits", resources.limits))
        if values
    }
    if resolved.placement.resource_name:
        for side in ("requests", "limits"):
            asked.setdefault(side, {})[resolved.placement.resource_name] = str(resolved.placement.count)
    return asked


def _volumes(resolved: EffectiveSpec, reads: list[Source]) -> list[dict[str, Any]]:
    # Twice the cap: an archive and what it unpacks to lie side by side for a moment.
    size = str(2 * resolved.fetch.max_bytes)
    return [
        {"name": "models", "emptyDir": {"sizeLimit": size}},
        {"name": "tmp", "emptyDir": {"sizeLimit": TMP_SIZE}},
        *(one.volume for one in reads),
    ]
