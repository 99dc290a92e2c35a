"""Tokens that the fetcher gets from an authority or from the pod's cloud, with fakes of those alone."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from serval_serving.fetch.safety.address_policy import AddressPolicy
from support.authority import answering
from support.fetching import Fetch
from support.object_stores import ACCESS_KEY_ID, SECRET_ACCESS_KEY, azurite, container, s3_server
from unit.serving.fetch.builders import below, model_files
from unit.serving.fetch.tls import Pki, make_pki

TENANT = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    return Fetch(tmp_path)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def azure(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("azurite") / "log"
    with azurite(log, certificate=pki.certificate, key=pki.key) as endpoint:
        yield endpoint


def token(audience: str) -> str:
    """A token as Microsoft's authority makes them, but for the signature."""
    now = int(time.time())
    issuer = f"https://sts.windows.net/{TENANT}/"
    claims = {"aud": audience, "iss": issuer, "nbf": now - 60, "iat": now - 60, "exp": now + 600}
    parts = ({"alg": "none", "typ": "JWT"}, claims, {})
    return ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts)


def test_azure_client_secret(azure: str, pki: Pki, fetch: Fetch) -> None:
    bucket = container(azure, f"models-{uuid4().hex[:12]}", ca=pki.ca)
    bucket.fill(below("3", model_files()))
    answer = {"token_type": "Bearer", "expires_in": 600, "access_token": token("https://storage.azure.com")}
    with answering(pki, {f"/{TENANT}/oauth2/v2.0/token": answer}) as authority:
        secret = {
            "AZURE_STORAGE_ENDPOINT": azure,
            "AZURE_CLIENT_ID": "client",
            "AZURE_CLIENT_SECRET": "of-the-test",
            "AZURE_TENANT_ID": TENANT,
            "AZURE_AUTHORITY_HOST": authority.uri,
        }
        assert fetch(bucket.prefix, secret, ca_file=pki.ca).version == 3
        assert fetch.files() == below("3", model_files())
        assert {form["client_secret"] for form in authority.forms} == {"of-the-test"}

        other = Fetch(fetch.folder / "other")
        authority.answers.clear()
        error = other.fails(bucket.prefix, secret, ca_file=pki.ca)
    assert (error.reason, error.permanent) == ("ModelAccessDenied", True)
    assert "no access token with the credentials of the Secret: the authority answers 404" in error.message
    assert "of-the-test" not in error.message


def test_authority_of_the_store_is_needed(azure: str, fetch: Fetch) -> None:
    secret = {"AZURE_STORAGE_ENDPOINT": azure}
    error = fetch.fails("azureblob://devstoreaccount1/models/m", secret)
    assert (error.reason, error.permanent) == ("ModelSourceUnavailable", False)
    assert "certificate is not trusted" in error.message
    assert fetch.slept == [], "the same certificate would be refused again"


def test_pod_identity_of_aws(fetch: Fetch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of the pod")
    keys = {
        "AccessKeyId": ACCESS_KEY_ID,
        "SecretAccessKey": SECRET_ACCESS_KEY,
        "Token": "of the session",
        "Expiration": "2100-01-01T00:00:00Z",
    }
    with s3_server() as s3, answering(None, {"/v1/credentials": keys}) as agent:
        bucket = s3.bucket("models")
        bucket.fill(below("3", model_files()))
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{agent.uri}/v1/credentials")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
        assert fetch(bucket.prefix, None, identity=True).version == 3
        assert agent.headers[0]["authorization"] == "of the pod"
        asked = len(agent.headers)
        other = Fetch(tmp_path / "other")
        error = other.fails(bucket.prefix, None, policy=AddressPolicy())
        assert error.reason == "ModelAccessDenied"
        assert "without TLS" in error.message
        assert len(agent.headers) == asked, "nobody asked to act as the pod"


def test_identity_of_google(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/computeMetadata/v1/instance/service-accounts/default/token"
    answer = {"access_token": "of the pod", "expires_in": 600, "token_type": "Bearer"}
    with answering(None, {path: answer}) as metadata:
        monkeypatch.setenv("GCE_METADATA_HOST", metadata.uri.removeprefix("http://"))
        error = fetch.fails("gs://models/digits", None, identity=True, resolve=lambda *_: ["127.0.0.1"])
        assert metadata.headers[0]["metadata-flavor"] == "Google"
        assert error.message == "connection refused by storage.googleapis.com:443", "with the token in hand"
