"""Makes ordinary OCI images of layers: https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md.

An image with a configuration and layers of tar is what every node mounts as a volume and every registry
stores. A pure artifact (empty configuration, layers of any type) is refused by nodes or mounts empty. What
people want to know of an artifact stands in the manifest's annotations and its ``artifactType``, which nodes
ignore.

The same layers, annotations and time give the same digest.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from serval_contract.models import DIGEST
from serval_serving.artifacts.errors import ArtifactFailure, registry_rejected
from serval_serving.artifacts.layer import GZIP, TAR, Blob, Layer, bytes_blob, sha256_of

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
ARTIFACT_TYPE: Final = "application/vnd.serval.model.v1"
CREATED: Final = "org.opencontainers.image.created"
PREFIX: Final = "dev.serval."
CACHE_KEY: Final = f"{PREFIX}cache-key"
NETWORK: Final = f"{PREFIX}network"
WEIGHTS: Final = f"{PREFIX}weights"
QUANTIZATION: Final = f"{PREFIX}quantization"
SOURCE_DIGEST: Final = f"{PREFIX}source-digest"
CONVERTER: Final = f"{PREFIX}converter"
LAYER: Final = f"{PREFIX}layer"
"""On a layer: `FILES` or `REPORT`."""
FILES: Final = "files"
REPORT: Final = "report"
MAX_ANNOTATION: Final = 256
"""Characters; a conversion's texts are longer only by mistake."""
_EPOCH: Final = "1970-01-01T00:00:00Z"
_LAST_SECOND: Final = 253402300799.0
"""Of the year 9999."""
_DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_DOCKER_LAYERS: Final = {
    TAR: "application/vnd.docker.image.rootfs.diff.tar",
    GZIP: "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
_PLATFORM: Final = {"architecture": "amd64", "os": "linux"}
"""An artifact runs nowhere. Nodes of other platforms mount it, since it is no index to choose from."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that can be stored.

    Attributes
    ----------
    media_type:
        Of the manifest.
    manifest:
        Its bytes.
    config:
        The configuration.
    layers:
        Layers that were made here, the lowest first.
    inherited:
        Entries of the layers of a base image, which are below `layers`. They have to be in the repository.
    """

    media_type: str
    manifest: bytes
    config: Blob
    layers: tuple[Layer, ...]
    inherited: tuple[Mapping[str, Any], ...] = ()

    @property
    def digest(self) -> str:
        """Return the digest of the manifest, by which pods name the image."""
        return sha256_of((self.manifest,))[0]

    @property
    def size(self) -> int:
        """Return the bytes of everything that was made here."""
        blobs = (self.config, *(layer.blob for layer in self.layers))
        return len(self.manifest) + sum(blob.size for blob in blobs)


def make_image(
    layers: Sequence[Layer], annotations: Mapping[str, str] | None = None, artifact_type: str = ARTIFACT_TYPE
) -> Image:
    """Make an image of layers, the lowest first.

    Parameters
    ----------
    annotations:
        Of the manifest.
    artifact_type:
        What the image is, for people and registries.
    """
    config = {
        **_PLATFORM,
        "created": _EPOCH,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [_history(layer) for layer in layers],
    }
    blob = bytes_blob(CONFIG, _dump(config))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": artifact_type,
        "config": blob.descriptor(),
        "layers": [layer.blob.descriptor() for layer in layers],
    }
    if annotations:
        manifest["annotations"] = dict(annotations)
    return Image(MANIFEST, _dump(manifest), blob, tuple(layers))


def append_layers(
    manifest: bytes,
    config: bytes,
    layers: Sequence[Layer],
    *,
    entrypoint: Sequence[str] | None = None,
    arguments: Sequence[str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Image:
    """Return a base image with layers on top, such as a server with its model.

    Parameters
    ----------
    manifest, config:
        Bytes of the base image's manifest, which must be no index, and of its configuration.
    entrypoint:
        Takes the place of the base image's entrypoint.
    arguments:
        Take the place of the base image's ``Cmd``.
    annotations:
        In addition to those of the base image.

    Raises
    ------
    ArtifactFailure
        ``RegistryRejected`` if the base is no image, or the configuration is that of another one.
    """
    try:
        made, of = json.loads(manifest), json.loads(config)
        if sha256_of((config,))[0] != made["config"]["digest"]:
            raise registry_rejected("the base image's configuration is not the one that its manifest names")
        inherited = [dict(entry) for entry in made["layers"]]
        if len(of["rootfs"]["diff_ids"]) != len(inherited):
            raise registry_rejected("the base image's configuration has other layers than its manifest")
        return _appended(made, of, inherited, layers, entrypoint, arguments, annotations or {})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _no_image() from error


def _appended(
    manifest: dict[str, Any],
    config: dict[str, Any],
    inherited: Sequence[Mapping[str, Any]],
    layers: Sequence[Layer],
    entrypoint: Sequence[str] | None,
    arguments: Sequence[str] | None,
    annotations: Mapping[str, str],
) -> Image:
    media_type = str(manifest.get("mediaType", MANIFEST))
    process = dict(config.get("config") or {})
    if entrypoint is not None:
        process["Entrypoint"] = list(entrypoint)
    if arguments is not None:
        process["Cmd"] = list(arguments)
    rootfs = {
        **config["rootfs"],
        "diff_ids": [*config["rootfs"]["diff_ids"], *(one.diff_id for one in layers)],
    }
    history = [*(config.get("history") or []), *(_history(layer) for layer in layers)]
    blob = bytes_blob(
        str(manifest["config"]["mediaType"]),
        _dump({**config, "config": process, "rootfs": rootfs, "history": history}),
    )
    names = _DOCKER_LAYERS if media_type == _DOCKER_MANIFEST else {}
    entries = [
        {**entry, "mediaType": names.get(entry["mediaType"], entry["mediaType"])}
        for entry in (layer.blob.descriptor() for layer in layers)
    ]
    changed = {**manifest, "config": blob.descriptor(), "layers": [*inherited, *entries]}
    if annotations:
        changed["annotations"] = {**(manifest.get("annotations") or {}), **annotations}
    return Image(media_type, _dump(changed), blob, tuple(layers), tuple(inherited))


@dataclass(frozen=True, slots=True)
class Entry:
    """A blob that a manifest names.

    Attributes
    ----------
    media_type, digest, size, annotations:
        As the manifest says.
    """

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a stored manifest says of an image.

    Attributes
    ----------
    digest:
        Of the manifest's bytes.
    length:
        Bytes of the manifest.
    artifact_type:
        Empty if there is none.
    config:
        The configuration.
    layers:
        The lowest first.
    annotations:
        The user who pushed the image wrote them. They prove nothing.
    """

    digest: str
    length: int
    artifact_type: str
    config: Entry
    layers: tuple[Entry, ...]
    annotations: Mapping[str, str]

    @property
    def size(self) -> int:
        """Return the bytes of manifest, configuration and layers."""
        return self.length + self.config.size + sum(layer.size for layer in self.layers)


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest.

    Raises
    ------
    ArtifactFailure
        ``RegistryRejected`` if it is none of an image.
    """
    try:
        fields = json.loads(data)
        return Manifest(
            digest=sha256_of((data,))[0],
            length=len(data),
            artifact_type=_text(fields.get("artifactType") or ""),
            config=_entry(fields["config"]),
            layers=tuple(_entry(entry) for entry in fields["layers"]),
            annotations=_annotations(fields),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _no_image() from error


def annotation(text: str) -> str:
    """Return a text as an annotation may have it: printable and short."""
    return "".join(character for character in text if character.isprintable())[:MAX_ANNOTATION]


def created(seconds: float) -> str:
    """Return a time, in seconds since the epoch, as the annotation `CREATED` has it."""
    within = int(min(max(seconds, 0.0), _LAST_SECOND))
    return dt.datetime.fromtimestamp(within, tz=dt.UTC).isoformat().replace("+00:00", "Z")


def _entry(fields: Mapping[str, Any]) -> Entry:
    digest, size = _text(fields["digest"]), fields["size"]
    if not DIGEST.fullmatch(digest) or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError("a descriptor has no sha256 or no size")
    return Entry(_text(fields["mediaType"]), digest, size, _annotations(fields))


def _annotations(fields: Mapping[str, Any]) -> dict[str, str]:
    found = fields.get("annotations") or {}
    return {str(name): annotation(value) for name, value in found.items() if isinstance(value, str)}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is required")
    return value


def _history(layer: Layer) -> dict[str, str]:
    return {"created": _EPOCH, "created_by": layer.made_by}


def _no_image() -> ArtifactFailure:
    return registry_rejected("the manifest or the configuration is none of an image")


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
