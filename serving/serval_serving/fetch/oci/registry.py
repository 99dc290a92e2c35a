"""Reads an image from a registry, by the HTTP API of the OCI distribution specification."""

from __future__ import annotations

import base64
import binascii
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from serval_contract.models import DIGEST
from serval_contract.reasons import MODEL_DIGEST_MISMATCH
from serval_contract.schemes import OCI
from serval_serving.fetch.errors import (
    FetchError,
    denied,
    not_found,
    rejected,
    unavailable,
)
from serval_serving.fetch.https import Downloader, judge
from serval_serving.fetch.retry import retrying
from serval_serving.fetch.safety.transport import Transport
from serval_serving.fetch.settings import FetchContext
from serval_serving.fetch.sources import HttpsSource, parse_https

MAX_MANIFEST_BYTES: Final = 4 << 20
"""What registries accept at most."""
PULL_SECRET: Final = ".dockerconfigjson"
MAX_SECRET_BYTES: Final = 1 << 20
DOCKER_HUB: Final = "docker.io"
_HUB_API: Final = "registry-1.docker.io"
_HUB_NAMES: Final = frozenset({DOCKER_HUB, f"index.{DOCKER_HUB}", _HUB_API})
_ACCEPT: Final = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')
_TITLES: Final = ("org.opencontainers.image.title", "org.cncf.model.filepath", "org.cnai.model.filepath")
"""Annotations with the name of the file that a layer is: OCI's, CNCF ModelPack's, its predecessor's."""
_UNPACK: Final = "io.deis.oras.content.unpack"
_MODEL_PACK_TAR: Final = re.compile(r"application/vnd\.(cncf|cnai)\.model\..*\.tar(\+\w+)?")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image in a registry.

    Attributes
    ----------
    registry:
        Host, and port where there is one.
    repository:
        Path of the repository.
    tag:
        Tag; empty where only the digest is given.
    digest:
        ``sha256:<hex>`` of the manifest; empty where only the tag is given.
    """

    registry: str
    repository: str
    tag: str
    digest: str

    @property
    def reference(self) -> str:
        """Return what the registry is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag

    @property
    def uri(self) -> str:
        """Return the whole, for messages."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{OCI.prefix}{self.registry}/{self.repository}{tag}{digest}"


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
    folder:
        Where manifests are put for a moment.
    """

    def __init__(self, context: FetchContext, source: ImageReference, folder: Path) -> None:
        hub = source.registry in _HUB_NAMES
        self._host = _HUB_API if hub else source.registry
        library = hub and "/" not in source.repository
        self._repository = f"library/{source.repository}" if library else source.repository
        self._source = source
        self._context = context
        self._folder = folder
        self._transport: Transport = context.transport()
        self._login = read_login(context.settings.credentials_dir, source.registry)
        self._downloader = Downloader(
            self._transport,
            max_bytes=context.settings.max_bytes,
            deadline=context.deadline,
            progress=context.progress,
            sleep=context.environment.sleep,
        )
        self._challenge = retrying(self._ask, context.deadline, context.environment.sleep)

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
        self._save(f"blobs/{layer.digest}", to, layer.digest, layer.size)

    def _manifest(self, reference: str) -> dict[str, Any]:
        file = self._folder / "manifest"
        digest = reference if DIGEST.fullmatch(reference) else None
        self._save(f"manifests/{reference}", file, digest, MAX_MANIFEST_BYTES)
        try:
            manifest = json.loads(file.read_bytes())
        except ValueError:
            manifest = None
        file.unlink()
        if not isinstance(manifest, dict):
            raise rejected(f"{self._source.uri}: its manifest is damaged")
        return manifest

    def _save(self, path: str, to: Path, digest: str | None, most: int) -> None:
        where = self._at(f"/v2/{self._repository}/{path}")
        headers = {"Accept": _ACCEPT} | self._authorization()
        download = self._downloader.download(where, to, headers=headers, max_bytes=most)
        if digest is not None and f"sha256:{download.sha256}" != digest:
            text = f"{self._source.uri}: sha256 of {path} is {download.sha256}"
            raise FetchError(MODEL_DIGEST_MISMATCH, text, permanent=True)

    def _at(self, path: str) -> HttpsSource:
        return parse_https(f"https://{self._host}{path}")

    def _ask(self) -> str:
        """Return what the registry wants to be told before it answers; empty for nothing."""
        with self._transport.get(self._at("/v2/")) as reply:
            if reply.status == 401:
                return str(reply.headers.get("WWW-Authenticate", ""))
            judge(reply.status, f"the registry {self._host}")
            return ""

    def _authorization(self) -> dict[str, str]:
        """Return the header that lets us in; with a fresh token, since they are short-lived."""
        kind, _, rest = self._challenge.partition(" ")
        if kind.lower() == "bearer":
            return {"Authorization": f"Bearer {self._token(dict(_PARAMETER.findall(rest)))}"}
        if kind.lower() == "basic" and self._login is None:
            raise denied(f"the registry {self._host} wants a user name and a password")
        return _basic(self._login) if kind else {}

    def _token(self, parameters: Mapping[str, str]) -> str:
        """Ask the registry's own authority for a token."""
        realm = parameters.get("realm", "")
        if not realm.startswith("https://"):
            raise unavailable(f"the registry {self._host} names no authority with https://", again=False)
        scope = f"repository:{self._repository}:pull"
        query = urlencode({"service": parameters.get("service", ""), "scope": scope})
        file = self._folder / "token"
        where = parse_https(f"{realm}{'&' if '?' in realm else '?'}{query}")
        self._downloader.download(where, file, headers=_basic(self._login), max_bytes=MAX_MANIFEST_BYTES)
        try:
            answer = json.loads(file.read_bytes())
            token = answer.get("token") or answer["access_token"]
        except (ValueError, LookupError, AttributeError) as error:
            raise unavailable(f"the authority of the registry {self._host} gives no token") from error
        finally:
            file.unlink()
        return str(token)


def read_login(folder: Path | None, registry: str) -> tuple[str, str] | None:
    """Read user name and password for `registry` out of a pull secret; None where there are none.

    Raises
    ------
    FetchError
        ``ModelAccessDenied`` if the Secret is no pull secret.
    """
    if folder is None:
        return None
    try:
        with (folder / PULL_SECRET).open("rb") as file:
            auths = json.loads(file.read(MAX_SECRET_BYTES))["auths"]
        wanted = _HUB_NAMES if registry in _HUB_NAMES else {registry}
        entry = next((entry for name, entry in auths.items() if _bare_host(name) in wanted), None)
        return None if entry is None else _login(entry)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, binascii.Error) as error:
        raise denied(f"the Secret has no readable {PULL_SECRET}, as pull secrets do") from error


def _login(entry: Mapping[str, str]) -> tuple[str, str]:
    if entry.get("username"):
        return entry["username"], entry["password"]
    user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    return user, password


def _bare_host(name: str) -> str:
    """Return the host of an entry, which may be written as an address."""
    return name.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _basic(login: tuple[str, str] | None) -> dict[str, str]:
    if login is None:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(":".join(login).encode()).decode()}


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
