"""The fetcher against the registry that the lab has, with TLS and a password."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from backports import zstd

from support.fetching import Fetch
from support.registry import PASSWORD, USER, Registry, running
from unit.serving.fetch.builders import below, model_files, tar
from unit.serving.fetch.tls import make_pki

LAYER = "application/vnd.oci.image.layer.v1.tar"
INDEX = "application/vnd.oci.image.index.v1+json"
MODEL = below("models/digits/3", model_files())


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    pki = make_pki(tmp_path_factory.mktemp("pki"))
    folder = tmp_path_factory.mktemp("registry")
    with running(folder, ca=pki.ca, certificate=pki.certificate, key=pki.key) as registry:
        yield registry


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    return Fetch(tmp_path)


def secret(registry: Registry, password: str = PASSWORD) -> dict[str, str]:
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    return {".dockerconfigjson": json.dumps({"auths": {f"https://{registry.host}": {"auth": auth}}})}


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (f"{LAYER}+gzip", tar(MODEL)),
        (f"{LAYER}+zstd", zstd.compress(tar(MODEL, mode="w:"))),
        (LAYER, tar(MODEL, mode="w:")),
    ],
    ids=["gzip", "zstd", "tar"],
)
def test_image(registry: Registry, fetch: Fetch, kind: str, data: bytes) -> None:
    digest = registry.push("team/digits", "v1", (LAYER, tar({"etc/os": b""}, mode="w:")), (kind, data))
    for reference in (":v1", f"@{digest}", f":v1@{digest}"):
        uri = f"oci://{registry.host}/team/digits{reference}"
        assert fetch(uri, secret(registry), ca_file=registry.ca).version == 3
        assert fetch.files() == below("3", model_files())


def test_index(registry: Registry, fetch: Fetch) -> None:
    entries = []
    for architecture in ("amd64", "arm64", "s390x"):
        files = below(f"models/{len(entries)}", model_files(architecture.encode()))
        digest = registry.push("team/many", architecture, (f"{LAYER}+gzip", tar(files)))
        entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1}
        entries.append(entry | {"platform": {"os": "linux", "architecture": architecture}})
    registry.manifest("team/many", "v1", {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    fetched = fetch(f"oci://{registry.host}/team/many:v1", secret(registry), ca_file=registry.ca)
    assert fetched.version in {0, 1}


@pytest.mark.parametrize("password", [None, "wrong"])
def test_password(registry: Registry, fetch: Fetch, password: str | None) -> None:
    registry.push("team/digits", "v1", (f"{LAYER}+gzip", tar(MODEL)))
    wrong = None if password is None else secret(registry, password)
    error = fetch.fails(f"oci://{registry.host}/team/digits:v1", wrong, ca_file=registry.ca)
    assert (error.reason, error.permanent) == ("ModelAccessDenied", True)


def test_what_is_not_there(registry: Registry, fetch: Fetch) -> None:
    for name in ("team/digits:v9", "team/nothing:v1"):
        error = fetch.fails(f"oci://{registry.host}/{name}", secret(registry), ca_file=registry.ca)
        assert (error.reason, error.permanent) == ("ModelNotFound", True)


def test_authority_is_needed(registry: Registry, fetch: Fetch) -> None:
    error = fetch.fails(f"oci://{registry.host}/team/digits:v1", secret(registry))
    assert (error.reason, error.permanent) == ("ModelSourceUnavailable", False)
    assert "certificate" in error.message
