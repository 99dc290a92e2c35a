"""The init container that fetches a model, and the volumes it reads from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from serval_contract import fetch_flags as flags
from serval_contract.models import TENSORFLOW
from serval_contract.paths import CA_DIR, CREDENTIALS_DIR, IMAGE_DIR, MODELS_DIR, PIN_DIR, SOURCE_DIR
from serval_contract.pin import PIN_FILE
from serval_contract.schemes import PVC
from serval_operator.api.blocks.runtime import Batching
from serval_operator.api.blocks.source import ModelSource
from serval_operator.config import FetchSettings
from serval_operator.constants import CONTAINER_FETCH
from serval_operator.workload.effective_spec import EffectiveSpec
from serval_operator.workload.manifests.containers import (
    CONTAINER_SECURITY,
    MODELS_MOUNT,
    TMP_MOUNT,
    literal,
    mount,
)

IMAGE_VOLUME = "image"
SAVED_MODEL_TAGS = "--saved_model_tags="
"""Flag of TensorFlow Serving and of Serval's own server."""
SECRET_MODE = 0o440
"""Readable for the pod's group, to which the kubelet gives the files, and for no one else."""


@dataclass(frozen=True, slots=True)
class Source:
    """A volume that the fetch container reads from, and the argument that says so."""

    argument: str
    path: str
    volume: dict[str, Any]


def sources(model: ModelSource, *, image_volume: bool = False, pin: str = "") -> list[Source]:
    """What the fetch container reads besides the network.

    Parameters
    ----------
    image_volume:
        Whether the nodes mount the model's image.
    pin:
        Name of the ConfigMap that binds the pod's revision to one model, once it is there; empty for none.
    """
    return list(_sources(model, pin, image_volume=image_volume))


def fetch_container(resolved: EffectiveSpec, reads: list[Source]) -> dict[str, Any]:
    """The init container. It writes one version of the model to the volume `models`."""
    return fetcher(resolved.fetch, _arguments(resolved, reads), [MODELS_MOUNT, TMP_MOUNT], reads)


def fetcher(
    fetch: FetchSettings, arguments: list[str], mounts: list[dict[str, Any]], reads: list[Source]
) -> dict[str, Any]:
    """A container that fetches a model, with these arguments and mounts, and those of what it reads."""
    return {
        "name": CONTAINER_FETCH,
        "image": fetch.image,
        "imagePullPolicy": fetch.image_pull_policy,
        "command": ["python3", "-m", flags.PROGRAM],
        "args": arguments,
        "resources": dict(fetch.resources),
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            *mounts,
            *(mount(one.volume["name"], one.path, read_only=True) for one in reads),
        ],
    }


def _arguments(resolved: EffectiveSpec, reads: list[Source]) -> list[str]:
    arguments = model_arguments(resolved.model, resolved.fetch, MODELS_DIR, reads)
    arguments += _tags(resolved)
    arguments += _batching(resolved.spec.runtime.batching)
    if resolved.fetch.cache_url and resolved.model.sha256 and not _is_mounted(resolved):
        # Without a digest nothing tells whether what the cache has is still the model.
        arguments.append(flags.CACHE(literal(resolved.fetch.cache_url)))
    return arguments


def model_arguments(model: ModelSource, fetch: FetchSettings, folder: str, reads: list[Source]) -> list[str]:
    """Arguments of the fetcher for a model that it brings into a folder."""
    arguments = [
        flags.URI(literal(model.uri)),
        flags.NAME(model.name),
        flags.DEST(folder),
        flags.MAX_BYTES(fetch.max_bytes),
        flags.MAX_ENTRIES(fetch.max_entries),
    ]
    if model.version is not None:
        arguments.append(flags.VERSION(model.version))
    if model.sha256:
        arguments.append(flags.SHA256(model.sha256))
    arguments += [one.argument for one in reads]
    if model.credentials and model.credentials.service_account_name:
        arguments.append(flags.IDENTITY.option)
    if model.framework != TENSORFLOW:
        arguments.append(flags.FRAMEWORK(model.framework))
    return arguments


def _tags(resolved: EffectiveSpec) -> list[str]:
    """The tags of the graph that the server is to load, where an argument of the server says them."""
    every = (*resolved.runtime.args, *resolved.spec.runtime.args)
    given = [one.removeprefix(SAVED_MODEL_TAGS) for one in every if one.startswith(SAVED_MODEL_TAGS)]
    return [flags.SAVED_MODEL_TAGS(literal(given[-1]))] if given else []


def _batching(batching: Batching | None) -> list[str]:
    """Arguments for the file with the batching parameters, which lies beside the model for the server."""
    if batching is None:
        return []
    numbers = {
        flags.BATCH_SIZE: batching.max_batch_size,
        flags.BATCH_TIMEOUT_MICROS: batching.timeout_micros,
        flags.BATCH_ENQUEUED: batching.max_enqueued,
    }
    return [flag(number) for flag, number in numbers.items() if number is not None]


def _is_mounted(resolved: EffectiveSpec) -> bool:
    """Whether the kubelet brings the model's files, so that there is nothing to keep a copy of."""
    return resolved.image_volume or resolved.model.scheme == PVC.name


def _sources(model: ModelSource, pin: str, *, image_volume: bool) -> Iterator[Source]:
    if model.scheme == PVC.name:
        claim = {"claimName": model.claim, "readOnly": True}
        volume = {"name": "source", "persistentVolumeClaim": claim}
        yield Source(flags.PVC_MOUNT(SOURCE_DIR), SOURCE_DIR, volume)
    if model.ca_config_map_ref:
        config_map, key = model.ca_config_map_ref.name, model.ca_config_map_ref.key
        items = [{"key": key, "path": key}]
        volume = {"name": "ca", "configMap": {"name": config_map, "items": items}}
        yield Source(flags.CA_FILE(f"{CA_DIR}/{key}"), CA_DIR, volume)
    if image_volume:
        volume = {"name": IMAGE_VOLUME, "image": _image(model)}
        yield Source(flags.IMAGE_MOUNT(IMAGE_DIR), IMAGE_DIR, volume)
    elif model.credentials and model.credentials.secret_name:
        secret = {"secretName": model.credentials.secret_name, "defaultMode": SECRET_MODE, "optional": False}
        volume = {"name": "credentials", "secret": secret}
        yield Source(flags.CREDENTIALS_DIR(CREDENTIALS_DIR), CREDENTIALS_DIR, volume)
    if model.version is None and pin:
        found = {"name": pin, "optional": True}
        yield Source(flags.PIN_FILE(f"{PIN_DIR}/{PIN_FILE}"), PIN_DIR, {"name": "pin", "configMap": found})


def _image(model: ModelSource) -> dict[str, Any]:
    """An image volume. What a tag means may change, so a node asks again; what a digest means may not."""
    return {"reference": model.image, "pullPolicy": "IfNotPresent" if "@" in model.image else "Always"}
