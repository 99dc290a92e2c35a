"""A registry to push to: the lab's own by itself, on loopback with TLS and one user, or any other."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from serval_lab.binaries import ensure
from serval_lab.pins import ALL
from serval_lab.settings import Settings
from support.ports import free_port
from support.wait import until

USER, PASSWORD = "robot", "of-the-test"
_HTPASSWD = f"{USER}:$2b$05$oLc1cwS/omgFnvptk4bJ8.r5ch4Fk8LwJmokUn9uWGOrszLlFtxYC\n"
"""The password by bcrypt, the only way that the registry reads."""
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class Registry:
    """A running registry.

    Attributes
    ----------
    host
        HOST:PORT.
    ca
        File of the authority that its certificate is from.
    headers
        What lets requests in; by default that of the user of a registry that `running` started.
    scheme
        ``https``, or ``http`` for one without TLS.
    """

    host: str
    ca: Path
    headers: Mapping[str, str] = field(
        default_factory=lambda: urllib3.make_headers(basic_auth=f"{USER}:{PASSWORD}")
    )
    scheme: str = "https"

    def push(self, repository: str, tag: str, *layers: tuple[str, bytes]) -> str:
        """Push an image of layers, each a media type and its bytes; return the manifest's digest."""
        entries = [self.blob(repository, kind, data) for kind, data in ((CONFIG, b"{}"), *layers)]
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": entries[0], "layers": entries[1:]}
        return self.manifest(repository, tag, document)

    def push_layout(self, repository: str, tag: str, layout: Path) -> str:
        """Push the one image of an OCI layout; return the manifest's digest."""

        def blob(descriptor: Mapping[str, Any]) -> bytes:
            return (layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()

        (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
        document = json.loads(blob(entry))
        for part in (document["config"], *document["layers"]):
            self.blob(repository, part["mediaType"], blob(part))
        return self.manifest(repository, tag, document)

    def blob(self, repository: str, kind: str, data: bytes) -> dict[str, Any]:
        """Push a blob; return its descriptor."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        begun = self._send("POST", f"/v2/{repository}/blobs/uploads/")
        place = begun.headers["Location"].partition(self.host)[2]
        self._send("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", data)
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    def manifest(self, repository: str, tag: str, document: Mapping[str, Any]) -> str:
        """Push a manifest or an index; return its digest."""
        data = json.dumps(document).encode()
        reply = self._send("PUT", f"/v2/{repository}/manifests/{tag}", data, document["mediaType"])
        return reply.headers["Docker-Content-Digest"]

    def answers(self) -> bool:
        """Return whether it lets its user in."""
        try:
            return self._send("GET", "/v2/").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def asks(self) -> bool:
        """Return whether it asks for a token."""
        try:
            with urllib3.PoolManager(ca_certs=str(self.ca)) as client:
                reply = client.request("GET", f"https://{self.host}/v2/", retries=False, timeout=10.0)
        except urllib3.exceptions.HTTPError:
            return False
        return reply.status == 401

    def _send(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/octet-stream"
    ) -> urllib3.BaseHTTPResponse:
        headers = {**self.headers, "Content-Type": kind}
        url = f"{self.scheme}://{self.host}{path}"
        with urllib3.PoolManager(ca_certs=str(self.ca)) as client:
            reply = client.request(method, url, body=body, headers=headers, retries=False, timeout=10.0)
        assert reply.status < 300, f"{method} {path}: {reply.status} {reply.data!r}"
        return reply


@contextmanager
def running(
    folder: Path, *, ca: Path, certificate: Path, key: Path, auth: Mapping[str, Any] | None = None
) -> Iterator[Registry]:
    """Run the registry with its data in `folder`; the certificate must be for 127.0.0.1.

    Without `auth`, the setting of that name, it asks for the password of `USER`.
    """
    (pin,) = (binary for binary in ALL if binary.name == "registry")
    program = ensure([pin], Settings.from_environment(), print).path("registry")
    host = f"127.0.0.1:{free_port()}"
    (folder / "htpasswd").write_text(_HTPASSWD)
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": host, "tls": {"certificate": str(certificate), "key": str(key)}},
        "auth": auth or {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}},
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    # Its traces would otherwise be sent to a collector on loopback.
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(  # noqa: S603 - the program is the lab's
            [program, "serve", path], env=environment, stdout=log, stderr=log
        ) as process,
    ):
        registry = Registry(host, ca)
        try:
            until("the registry", registry.answers if auth is None else registry.asks)
            yield registry
        finally:
            process.terminate()
            process.wait(timeout=20)
