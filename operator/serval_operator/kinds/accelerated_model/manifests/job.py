"""The pod of the Job that converts a model: its stages are containers, one after another.

Only the last one has the credential of the registry, and it executes nothing of the user's. The stages share
a volume, of which each sees no more than it needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from serval_contract import accel_flags as flags
from serval_contract import fetch_flags
from serval_contract.models import WEIGHTS
from serval_contract.paths import CA_DIR, CREDENTIALS_DIR
from serval_contract.ports import PORT_PROGRESS
from serval_contract.quantity import parse_whole
from serval_operator.api.blocks.runtime import Resources
from serval_operator.api.blocks.source import ModelSource
from serval_operator.config import FetchSettings
from serval_operator.config_conversion import ArtifactStore, ConversionSettings
from serval_operator.constants import CONTAINER_FETCH, LABEL_AZURE_IDENTITY
from serval_operator.kinds.accelerated_model.memory import needed_memory, needed_scratch
from serval_operator.kinds.accelerated_model.spec import RANDOM, AcceleratedSpec, TensorSpec
from serval_operator.workload.manifests.containers import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    TMP_MOUNT,
    literal,
    mount,
)
from serval_operator.workload.manifests.deployment import kept_from
from serval_operator.workload.manifests.fetch import (
    SECRET_MODE,
    Source,
    fetcher,
    model_arguments,
    sources,
)

BUILD: Final = "build"
CONVERT: Final = "convert"
PUSH: Final = "push"
WORK_DIR: Final = "/serval/work"
SOURCE: Final = f"{WORK_DIR}/source"
SAVED_MODEL: Final = f"{WORK_DIR}/savedmodel"
ARTIFACT: Final = f"{WORK_DIR}/artifact"
CALIBRATION_DIR: Final = "/serval/calibration"
STORE_DIR: Final = "/serval/store"
CA_KEY: Final = "ca.crt"
"""Key of the ConfigMap with the registry's authorities."""
_WORK: Final = "work"
_WORK_MOUNT: Final = mount(_WORK, WORK_DIR)
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Work:
    """All that a conversion's pod is made of.

    Parameters
    ----------
    repository:
        Where the artifact goes.
    tag:
        Under which it is stored.
    cache_key:
        What the artifact depends on, where that is known before the model is fetched; else empty.
    service_account:
        Identity of the container that fetches; empty for none.
    """

    spec: AcceleratedSpec
    settings: ConversionSettings
    store: ArtifactStore
    fetch: FetchSettings
    repository: str
    tag: str
    cache_key: str = ""

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, in their order."""
        fetches, builds = self.spec.model is not None, self.spec.featurizer is not None
        return (*((CONTAINER_FETCH,) if fetches else ()), *((BUILD,) if builds else ()), CONVERT, PUSH)


def pod_template(work: Work) -> dict[str, Any]:
    """Template of the Job's pod, without the labels that every Job has."""
    spec, model = work.spec, work.spec.model
    reads = sources(model) if model else []
    stages = list(_stages(work, reads))
    credentials = model.credentials if model else None
    optional = {
        "serviceAccountName": credentials.service_account_name if credentials else "",
        "imagePullSecrets": [{"name": secret.name} for secret in spec.image_pull_secrets],
        "priorityClassName": spec.scheduling.priority_class_name,
    }
    labels, annotations = dict(spec.pod_metadata.labels), dict(spec.pod_metadata.annotations)
    if credentials and credentials.service_account_name:
        labels[LABEL_AZURE_IDENTITY] = "true"
        annotations |= kept_from([one for one in work.stages if one != CONTAINER_FETCH])
    return {
        "metadata": {"labels": labels, "annotations": annotations},
        "spec": {
            "enableServiceLinks": False,
            "securityContext": POD_SECURITY,
            "initContainers": stages[:-1],
            "containers": stages[-1:],
            "volumes": [
                # A model is bounded by the fetcher, and lies there about four times.
                {"name": _WORK, "emptyDir": {"sizeLimit": str(4 * work.fetch.max_bytes)}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
                *(one.volume for one in reads),
                *_calibration_volumes(spec),
                *_push_volumes(work.store),
            ],
            **{name: value for name, value in optional.items() if value},
        },
    }


def conversion_resources(spec: AcceleratedSpec, settings: ConversionSettings) -> dict[str, Any]:
    """Requests and limits of the stages that build and convert.

    The memory is a limit and requested as a whole: a conversion that a busy node kills has to begin again.
    Of what the spec names on either side, nothing else counts: a default may be above its limit, or below
    its request.
    """
    memory, asked = needed_memory(spec), spec.conversion.resources
    sides = {side: dict(settings.resources.get(side, {})) for side in ("requests", "limits")}
    for side in sides.values():
        side["memory"] = memory
    sides["requests"]["ephemeral-storage"] = needed_scratch(spec)
    given = _given(asked)
    named = {name for side in given.values() for name in side}
    return {
        side: {name: amount for name, amount in amounts.items() if name not in named} | given[side]
        for side, amounts in sides.items()
    }


def _given(asked: Resources) -> dict[str, dict[str, str]]:
    """Amounts of the spec as texts; memory that is limited is requested too."""
    limits = {name: str(amount) for name, amount in asked.limits.items()}
    requests = {name: str(amount) for name, amount in asked.requests.items()}
    memory = limits.get("memory", requests.get("memory"))
    if memory is not None:
        requests.setdefault("memory", memory)
        limits.setdefault("memory", memory)
    return {"requests": requests, "limits": limits}


def _stages(work: Work, reads: list[Source]) -> Iterator[dict[str, Any]]:
    model = work.spec.model
    if model is not None:
        # The fetcher reads a SavedModel; weights have many forms, which the builder recognises.
        wanted = model if work.spec.featurizer is None else replace(model, framework=WEIGHTS)
        yield _fetch(work.fetch, wanted, reads)
    if work.spec.featurizer is not None:
        yield _converter(work, BUILD, flags.BUILD_PROGRAM, _build_arguments(work), [])
    calibration = [one["name"] for one in _calibration_volumes(work.spec)]
    mounts = [mount(name, CALIBRATION_DIR, read_only=True) for name in calibration]
    yield _converter(work, CONVERT, flags.CONVERT_PROGRAM, _convert_arguments(work), mounts)
    yield _push(work)


def _fetch(fetch: FetchSettings, model: ModelSource, reads: list[Source]) -> dict[str, Any]:
    arguments = model_arguments(model, fetch, SOURCE, reads)
    return fetcher(fetch, arguments, [_WORK_MOUNT, TMP_MOUNT], reads)


def _converter(
    work: Work, name: str, program: str, arguments: list[str], mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "name": name,
        "image": work.settings.image,
        "imagePullPolicy": work.settings.image_pull_policy,
        "command": ["python3", "-m", program],
        "args": [*arguments, flags.PROGRESS_PORT(PORT_PROGRESS)],
        "resources": conversion_resources(work.spec, work.settings),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [_WORK_MOUNT, TMP_MOUNT, *mounts],
    }


def _build_arguments(work: Work) -> list[str]:
    spec = work.spec
    arguments = [flags.FEATURIZER(str(spec.featurizer)), flags.OUT(SAVED_MODEL)]
    if spec.model is None:
        arguments.append(flags.WEIGHTS("random"))
    else:
        arguments.append(flags.WEIGHTS(literal(f"{SOURCE}/{spec.model.name}")))
    changes = {
        "origin": spec.weights if spec.weights != RANDOM else None,
        "resize": spec.preprocessing.resize,
        "shorterSide": spec.preprocessing.shorter_side,
        "interpolation": spec.preprocessing.interpolation,
        "order": spec.preprocessing.order,
        "means": list(spec.preprocessing.means),
        "scales": list(spec.preprocessing.scales),
    }
    given = {name: value for name, value in changes.items() if value}
    return [*arguments, flags.PREPROCESSING(_json(given))] if given else arguments


def _convert_arguments(work: Work) -> list[str]:
    spec, conversion = work.spec, work.spec.conversion
    arguments = [flags.OUT(ARTIFACT), flags.QUANTIZATION(conversion.quantization)]
    if spec.featurizer is not None or spec.model is None:
        arguments.append(flags.SAVED_MODEL(SAVED_MODEL))
    else:
        arguments += [
            flags.SAVED_MODEL(literal(f"{SOURCE}/{spec.model.name}")),
            flags.INPUTS(literal(_json(_tensors(spec.inputs)))),
            flags.OUTPUTS(literal(_json(_tensors(spec.outputs)))),
        ]
    if conversion.calibration is not None:
        folder = conversion.calibration.folder
        arguments.append(flags.CALIBRATION(literal(f"{CALIBRATION_DIR}/{folder}".rstrip("/"))))
    if conversion.accuracy.min_cosine is not None:
        arguments.append(flags.MIN_COSINE(conversion.accuracy.min_cosine))
    if conversion.accuracy.min_agreement is not None:
        arguments.append(flags.MIN_AGREEMENT(conversion.accuracy.min_agreement))
    return arguments


def _tensors(tensors: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    """Tensors as JSON data; a dimension of any size is null."""
    shapes = [[size if size >= 0 else None for size in one.shape] for one in tensors]
    return [
        {"name": one.name, **({"shape": shape} if shape else {})}
        for one, shape in zip(tensors, shapes, strict=True)
    ]


def _push(work: Work) -> dict[str, Any]:
    """The container that pushes. It reads the artifact and nothing else of the volume."""
    store = work.store
    arguments = [
        flags.ARTIFACT(ARTIFACT),
        flags.REPOSITORY(literal(work.repository)),
        flags.TAG(work.tag),
        flags.PROGRESS_PORT(PORT_PROGRESS),
        fetch_flags.MAX_BYTES(work.fetch.max_bytes),
        fetch_flags.MAX_ENTRIES(work.fetch.max_entries),
    ]
    mounts = [
        {**mount(_WORK, ARTIFACT, read_only=True), "subPath": "artifact"},
        TMP_MOUNT,
    ]
    if work.cache_key:
        arguments.append(flags.CACHE_KEY(work.cache_key))
    if store.plain_http:
        arguments.append(flags.PLAIN_HTTP.option)
    if store.push_secret:
        arguments.append(fetch_flags.CREDENTIALS_DIR(CREDENTIALS_DIR))
        mounts.append(mount("push-credentials", CREDENTIALS_DIR, read_only=True))
    if store.ca_config_map:
        arguments.append(fetch_flags.CA_FILE(f"{CA_DIR}/{CA_KEY}"))
        mounts.append(mount("push-ca", CA_DIR, read_only=True))
    if store.claim:
        arguments.append(flags.STORE(STORE_DIR))
        mounts.append(mount("store", STORE_DIR))
    return {
        "name": PUSH,
        "image": work.settings.push_image,
        "imagePullPolicy": work.settings.push_image_pull_policy,
        "command": ["python3", "-m", flags.PUSH_PROGRAM],
        "args": arguments,
        "resources": dict(work.fetch.resources),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": mounts,
    }


def _push_volumes(store: ArtifactStore) -> Iterator[dict[str, Any]]:
    if store.push_secret:
        secret = {"secretName": store.push_secret, "defaultMode": SECRET_MODE, "optional": False}
        yield {"name": "push-credentials", "secret": secret}
    if store.ca_config_map:
        items = [{"key": CA_KEY, "path": CA_KEY}]
        yield {"name": "push-ca", "configMap": {"name": store.ca_config_map, "items": items}}
    if store.claim:
        yield {"name": "store", "persistentVolumeClaim": {"claimName": store.claim}}


def _calibration_volumes(spec: AcceleratedSpec) -> list[dict[str, Any]]:
    calibration = spec.conversion.calibration
    if calibration is None:
        return []
    claim = {"claimName": calibration.claim, "readOnly": True}
    return [{"name": "calibration", "persistentVolumeClaim": claim}]


def memory_limit(spec: AcceleratedSpec, settings: ConversionSettings) -> int:
    """Memory that the stages may use, in bytes."""
    return parse_whole(conversion_resources(spec, settings)["limits"]["memory"])


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
