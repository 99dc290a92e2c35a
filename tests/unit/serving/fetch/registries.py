"""Images for tests, behind the test site, as a registry has them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from unit.serving.fetch.tls import HOST, Answer, Site, content, status

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
ORAS_DEFAULT = "application/vnd.oci.image.layer.v1.tar"
"""The type that oras gives every file, whatever it is."""
TITLE = "org.opencontainers.image.title"
TAR = "application/vnd.docker.image.rootfs.diff.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer_tar(entries: Mapping[str, bytes | tarfile.TarInfo], mode: str = "w:") -> bytes:
    """A layer: files by name, and whatever else as members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, entry in entries.items():
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(entry)
                archive.addfile(info, io.BytesIO(entry))
    return out.getvalue()


@dataclass
class Registry:
    """A repository ``team/digits`` on the test site.

    Attributes
    ----------
    login:
        User name and password that the token is given for; None for everybody.
    basic:
        Whether it asks for the password at each request instead of for a token.
    tokens:
        How many tokens were given out.
    scopes:
        What they were asked for.
    """

    site: Site
    login: tuple[str, str] | None = None
    basic: bool = False
    tokens: int = 0
    scopes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.site.serve("/v2/", self._guarded(content(b"{}")))
        self.site.serve("/token", self._token)

    @property
    def host(self) -> str:
        return f"{HOST}:{self.site.port}"

    def uri(self, reference: str = ":v1") -> str:
        return f"oci://{self.host}/team/digits{reference}"

    def blob(self, data: bytes, answer: Answer | None = None) -> dict[str, Any]:
        digest = sha256(data)
        self.site.serve(f"/v2/team/digits/blobs/{digest}", self._guarded(answer or content(data)))
        return {"digest": digest, "size": len(data)}

    def manifest(self, document: Mapping[str, Any], *tags: str) -> str:
        data = json.dumps(document).encode()
        for reference in (sha256(data), *tags):
            self.site.serve(f"/v2/team/digits/manifests/{reference}", self._guarded(content(data)))
        return sha256(data)

    def push(self, *layers: tuple[str, bytes], tag: str = "v1") -> str:
        """Push an image of layers, each a media type and its bytes; return its digest."""
        entries = [self.blob(data) | {"mediaType": kind} for kind, data in layers]
        return self.manifest({"schemaVersion": 2, "mediaType": MANIFEST, "layers": entries}, tag)

    def _guarded(self, answer: Answer) -> Answer:
        def guarded(handler: BaseHTTPRequestHandler) -> None:
            given = handler.headers.get("Authorization", "")
            wanted = self._basic() if self.basic else f"Bearer token-{self.tokens}"
            if given == wanted:
                answer(handler)
                return
            challenge = f'Bearer realm="{self.site.uri("/token")}",service="the registry"'
            handler.send_response(401)
            handler.send_header("WWW-Authenticate", 'Basic realm="r"' if self.basic else challenge)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        return guarded

    def _token(self, handler: BaseHTTPRequestHandler) -> None:
        if self.login is not None and handler.headers.get("Authorization") != self._basic():
            status(401)(handler)
            return
        self.tokens += 1
        self.scopes += parse_qs(urlsplit(handler.path).query)["scope"]
        content(json.dumps({"token": f"token-{self.tokens}"}).encode())(handler)

    def _basic(self) -> str:
        assert self.login is not None
        return "Basic " + base64.b64encode(":".join(self.login).encode()).decode()


def artifact(
    registry: Registry, files: dict[str, bytes], media_type: str, title: str = TITLE, **notes: str
) -> None:
    """Push an artifact of one layer per file."""
    layers = [
        registry.blob(data) | {"mediaType": media_type, "annotations": {title: name} | notes}
        for name, data in files.items()
    ]
    config = registry.blob(b"{}") | {"mediaType": "application/vnd.oci.empty.v1+json"}
    registry.manifest({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}, "v1")
