"""An authority of the user's own, for every source behind TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from serval_serving.fetch.safety.address_policy import system_resolve
from support.fetching import Fetch
from unit.serving.fetch.builders import below, model_files, tar
from unit.serving.fetch.registries import GZIP, Registry
from unit.serving.fetch.tls import HOST, Pki, Site, content, make_pki

EMPTY = b"<?xml version='1.0'?><ListBucketResult><Name>models</Name></ListBucketResult>"
EMPTY_AZURE = b"<?xml version='1.0'?><EnumerationResults><Blobs/><NextMarker/></EnumerationResults>"
STORES = {
    "s3": ("s3://models", "AWS_ENDPOINT_URL", "", "/models", EMPTY),
    "gs": ("gs://models", "GOOGLE_ENDPOINT_URL", "", "/models", EMPTY),
    "azureblob": ("azureblob://acct/models", "AZURE_STORAGE_ENDPOINT", "", "/models", EMPTY_AZURE),
}


def resolve(host: str, port: int) -> list[str]:
    return ["127.0.0.1"] if host == HOST else system_resolve(host, port)


@pytest.fixture(params=["first", "last"])
def authorities(request: pytest.FixtureRequest, pki: Pki, tmp_path: Path) -> Path:
    """A file with the site's authority and another one, in either order."""
    other = tmp_path / "other"
    other.mkdir()
    both = [pki.ca.read_text(), make_pki(other, "another authority").ca.read_text()]
    (tmp_path / "ca.crt").write_text("".join(both if request.param == "first" else reversed(both)))
    return tmp_path / "ca.crt"


@pytest.mark.parametrize(("uri", "key", "path", "listed", "reply"), STORES.values(), ids=STORES.keys())
def test_object_store(
    site: Site, authorities: Path, tmp_path: Path, uri: str, key: str, path: str, listed: str, reply: bytes
) -> None:
    site.serve(listed, content(reply))
    secret = {key: site.uri(path)}
    fetch = Fetch(tmp_path)
    error = fetch.fails(uri, secret, resolve=resolve, ca_file=authorities)
    assert (error.reason, error.message) == ("ModelNotFound", f"there is nothing at {uri}/")
    strange = fetch.fails(uri, secret, resolve=resolve)
    assert strange.reason == "ModelSourceUnavailable"
    assert "certificate is not trusted" in strange.message


def test_registry(site: Site, authorities: Path, tmp_path: Path) -> None:
    registry = Registry(site)
    registry.push((GZIP, tar(below("3", model_files()))))
    fetch = Fetch(tmp_path)
    strange = fetch.fails(registry.uri(), None, resolve=resolve)
    assert strange.reason == "ModelSourceUnavailable"
    assert "is not trusted" in strange.message
    assert fetch(registry.uri(), None, resolve=resolve, ca_file=authorities).version == 3
