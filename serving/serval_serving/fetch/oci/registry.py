"""Reads an image from a registry, by the HTTP API of the OCI distribution specification."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from serval_contract.models import DIGEST
from serval_contract.reasons import MODEL_DIGEST_MISMATCH
from serval_serving.fetch.errors import FetchError, not_found, rejected
from serval_serving.fetch.https import Downloader
from serval_serving.fetch.oci.access import RegistryAccess
from serval_serving.fetch.oci.login import read_login
from serval_serving.fetch.oci.reference import ACCEPT, MAX_MANIFEST_BYTES, ImageReference
from serval_serving.fetch.safety.transport import Transport
from serval_serving.fetch.settings import FetchContext

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_TITLES: Final = ("org.opencontainers.image.title", "org.cncf.model.filepath", "org.cnai.model.filepath")
"""Annotations with the name of the file that a layer is: OCI's, CNCF ModelPack's, its predecessor's."""
_UNPACK: Final = "io.deis.oras.content.unpack"
_MODEL_PACK_TAR: Final = re.compile(r"application/vnd\.(cncf|cnai)\.model\..*\.tar(\+\w+)?")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image.

    Attributes
    ----------
    digest:
        ``sha256:<hex>`` of its bytes.
    size:
        Bytes.
    title:
        Name of the file or folder that it was made of; empty in images.
    packed:
        Whether the manifest says that a titled layer is an archive of what the title names. oras says so by
        an annotation, ModelPack by the media type. Others say nothing: oras calls every file a tar.
    """

    digest: str
    size: int
    title: str
    packed: bool


class Registry:
    """The repository of one image.

    Parameters
    ----------
    context:
        The fetch under way.
    source:
        The image.
    """

    def __init__(self, context: FetchContext, source: ImageReference) -> None:
        self._source = source
        transport: Transport = context.transport()
        login = read_login(context.settings.credentials_dir, source.registry)
        self._downloader = Downloader(
            transport,
            max_bytes=context.settings.max_bytes,
            deadline=context.deadline,
            progress=context.progress,
            sleep=context.environment.sleep,
        )
        self._access = RegistryAccess(
            source.registry,
            login,
            transport,
            self._downloader,
            deadline=context.deadline,
            sleep=context.environment.sleep,
        )
        self._repository = self._access.repository(source.repository)

    def layers(self) -> list[Layer]:
        """Return the layers of the image for this platform, the lowest first.

        Raises
        ------
        FetchError
            If there is no such image, or it is none that can be read.
        """
        manifest = self._manifest(self._source.reference)
        if "manifests" in manifest:
            manifest = self._manifest(_choose(manifest, self._source))
        try:
            return [_layer(one) for one in manifest["layers"]]
        except (LookupError, TypeError, AttributeError) as error:
            raise rejected(f"{self._source.uri}: its manifest lists no layers") from error

    def download(self, layer: Layer, to: Path) -> None:
        """Write one layer to `to`, checked.

        Raises
        ------
        FetchError
            If it cannot be had, or is not what the manifest says.
        """
        path = f"blobs/{layer.digest}"
        where = self._access.at(f"/v2/{self._repository}/{path}")
        download = self._downloader.download(where, to, headers=self._headers(), max_bytes=layer.size)
        self._compare(path, download.sha256, layer.digest)

    def _manifest(self, reference: str) -> dict[str, Any]:
        path = f"manifests/{reference}"
        where = self._access.at(f"/v2/{self._repository}/{path}")
        data = self._downloader.read(where, headers=self._headers(), max_bytes=MAX_MANIFEST_BYTES)
        if DIGEST.fullmatch(reference):
            self._compare(path, hashlib.sha256(data).hexdigest(), reference)
        try:
            manifest = json.loads(data)
        except (ValueError, RecursionError):
            manifest = None
        if not isinstance(manifest, dict):
            raise rejected(f"{self._source.uri}: its manifest is damaged")
        return manifest

    def _compare(self, path: str, sha256: str, digest: str) -> None:
        if f"sha256:{sha256}" != digest:
            text = f"{self._source.uri}: sha256 of {path} is {sha256}"
            raise FetchError(MODEL_DIGEST_MISMATCH, text, permanent=True)

    def _headers(self) -> dict[str, str]:
        scope = f"repository:{self._repository}:pull"
        return {"Accept": ACCEPT} | self._access.authorization(scope)


def _choose(index: Mapping[str, Any], source: ImageReference) -> str:
    """Return the digest of the manifest for this platform; that of the only one where it names none."""
    wanted = ("linux", _ARCHITECTURES.get(platform.machine(), platform.machine()))
    try:
        entries = [(one.get("platform") or {}, str(one["digest"])) for one in index["manifests"]]
        fitting = [d for p, d in entries if (p.get("os"), p.get("architecture")) == wanted]
        anywhere = [d for p, d in entries if not p]
    except (LookupError, TypeError, AttributeError) as error:
        raise rejected(f"{source.uri}: its index is damaged") from error
    chosen = next(iter(fitting or anywhere), "")
    if not chosen:
        raise not_found(f"{source.uri} is not there for {'/'.join(wanted)}")
    if not DIGEST.fullmatch(chosen):
        raise rejected(f"{source.uri}: its index is damaged")
    return chosen


def _layer(entry: Mapping[str, Any]) -> Layer:
    """Read one entry of a manifest's layers."""
    digest, size = str(entry["digest"]), entry["size"]
    notes = entry.get("annotations") or {}
    if not DIGEST.fullmatch(digest) or not isinstance(size, int) or size < 0:
        raise rejected("a layer of the image has no sha256 or no size")
    packed = (
        notes.get(_UNPACK) == "true" or _MODEL_PACK_TAR.fullmatch(str(entry.get("mediaType"))) is not None
    )
    title = next((str(notes[name]) for name in _TITLES if notes.get(name)), "")
    return Layer(digest, size, title, packed)
