from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serval_serving.fetch.credentials import Access, Values, read_secret
from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.stores.azureblob import AzureBlobStore
from serval_serving.fetch.stores.bucket import BucketStore
from serval_serving.fetch.stores.gs import GsBucketStore
from serval_serving.fetch.stores.s3 import S3BucketStore
from unit.serving.fetch.builders import write

AZURE: BucketStore = AzureBlobStore("container", "m", "models")
S3: BucketStore = S3BucketStore("models", "m")
GS: BucketStore = GsBucketStore("models", "m")
ACCOUNT = {"account_name": "models", "endpoint": "https://models.blob.core.windows.net"}
AZURE_IDENTITY = {
    "AZURE_FEDERATED_TOKEN_FILE": "/var/run/token",
    "AZURE_CLIENT_ID": "client",
    "AZURE_TENANT_ID": "tenant",
    "AZURE_AUTHORITY_HOST": "https://login.example/",
}
ROLE = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token", "AWS_ROLE_ARN": "arn", "AWS_REGION": "eu-west-1"}
POD_IDENTITY = {
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/var/run/token",
}

CHOSEN: dict[str, tuple[BucketStore, dict[str, str], dict[str, str] | None, dict[str, Any]]] = {
    "azure nobody": (AZURE, {}, None, ACCOUNT | {"skip_signature": True}),
    "azure key": (AZURE, {"AZURE_STORAGE_KEY": "k"}, {}, ACCOUNT | {"account_key": "k"}),
    "azure sas": (AZURE, {"AZURE_STORAGE_SAS_TOKEN": "?se=1&sig=x"}, {}, ACCOUNT | {"sas_key": "se=1&sig=x"}),
    "azure connection string": (
        AZURE,
        {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=models;AccountKey=a==;EndpointSuffix=core.example"},
        {},
        {"account_name": "models", "endpoint": "https://models.blob.core.example", "account_key": "a=="},
    ),
    "azure connection string with sas": (
        AZURE,
        {
            "AZURE_STORAGE_CONNECTION_STRING": "BlobEndpoint=https://b.example/;SharedAccessSignature=se=1&sig=x"
        },
        {},
        {"account_name": "models", "endpoint": "https://b.example", "sas_key": "se=1&sig=x"},
    ),
    "azure client secret": (
        AZURE,
        {"AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s", "AZURE_TENANT_ID": "t"},
        {},
        ACCOUNT | {"client_id": "c", "client_secret": "s", "tenant_id": "t"},
    ),
    "azure identity": (
        AZURE,
        {},
        AZURE_IDENTITY,
        ACCOUNT
        | {
            "federated_token_file": "/var/run/token",
            "client_id": "client",
            "tenant_id": "tenant",
            "authority_host": "https://login.example/",
        },
    ),
    "s3 nobody": (S3, {}, None, {"region": "us-east-1", "skip_signature": True}),
    "s3 nobody elsewhere": (
        S3,
        {"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "https://s3.example/"},
        {},
        {"region": "eu-west-1", "endpoint": "https://s3.example", "skip_signature": True},
    ),
    "s3 key": (
        S3,
        {"AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"},
        {},
        {"region": "us-east-1", "access_key_id": "i", "secret_access_key": "s", "session_token": "t"},
    ),
    "s3 role": (
        S3,
        {},
        ROLE,
        {"region": "eu-west-1", "web_identity_token_file": "/var/run/token", "role_arn": "arn"},
    ),
    "s3 pod identity": (
        S3,
        {},
        POD_IDENTITY,
        {
            "region": "us-east-1",
            "container_credentials_full_uri": "http://169.254.170.23/v1/credentials",
            "container_authorization_token_file": "/var/run/token",
        },
    ),
    "gs nobody": (GS, {}, None, {"skip_signature": True}),
    "gs identity": (GS, {}, {}, {}),
    "gs account": (
        GS,
        {"service-account.json": "{}", "GOOGLE_ENDPOINT_URL": "https://gcs.example"},
        None,
        {"base_url": "https://gcs.example", "service_account_key": "{}"},
    ),
}


@pytest.mark.parametrize(("store", "secret", "environment", "config"), CHOSEN.values(), ids=CHOSEN.keys())
def test_choice(
    store: BucketStore, secret: dict[str, str], environment: dict[str, str] | None, config: dict[str, Any]
) -> None:
    assert store.access(secret, environment).config == config


def test_only_the_identity_s_own_endpoint_is_exempt() -> None:
    assert S3.access({}, POD_IDENTITY).exempt == {"169.254.170.23"}
    assert GS.access({}, {}).exempt == {"metadata.google.internal", "169.254.169.254"}
    for store in (S3, AZURE):
        assert store.access({}, ROLE | AZURE_IDENTITY).exempt == set()
    for store in (AZURE, S3, GS):
        assert store.access({}, None).exempt == set()


@pytest.mark.parametrize(
    ("store", "secret", "plain"),
    [
        (S3, {"AWS_ENDPOINT_URL": "http://minio:9000"}, True),
        (S3, {"AWS_ENDPOINT_URL": "https://minio:9000"}, False),
        (GS, {"GOOGLE_ENDPOINT_URL": "HTTP://gcs"}, True),
        (AZURE, {"AZURE_STORAGE_ENDPOINT": "http://azurite/models"}, True),
        (AZURE, {}, False),
    ],
)
def test_without_tls_only_where_the_secret_says_so(
    store: BucketStore, secret: dict[str, str], plain: bool
) -> None:
    assert store.access(secret, None).plain is plain


@pytest.mark.parametrize(
    ("store", "secret", "words"),
    [
        (S3, {"AWS_ACCESS_KEY_ID": "hidden"}, "lack AWS_SECRET_ACCESS_KEY"),
        (S3, {"AWS_SECRET_ACCESS_KEY": "hidden"}, "lack AWS_ACCESS_KEY_ID"),
        (AZURE, {"AZURE_CLIENT_SECRET": "hidden"}, "lack AZURE_CLIENT_ID, AZURE_TENANT_ID"),
        (
            AZURE,
            {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=other;AccountKey=hidden"},
            "of the account 'other'",
        ),
        (AZURE, {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=models"}, "neither AccountKey nor"),
    ],
)
def test_incomplete_secret_is_named(store: BucketStore, secret: dict[str, str], words: str) -> None:
    with pytest.raises(FetchError, match=words) as caught:
        store.access(secret, None)
    assert (caught.value.reason, caught.value.permanent) == ("ModelAccessDenied", True)
    assert "hidden" not in caught.value.message


def test_sas_token_says_until_when_it_is_valid() -> None:
    made = AZURE.access({"AZURE_STORAGE_SAS_TOKEN": "sv=1&se=2026-01-01T00%3A00%3A00Z&sig=SECRET"}, {})
    assert made.shown == "with the SAS token of the Secret, valid until 2026-01-01T00:00:00Z"


def read(folder: Path | None, store: BucketStore) -> Values:
    return read_secret(folder, store.scheme, store.secret_keys)


def test_files_of_a_secret(tmp_path: Path) -> None:
    write(tmp_path, {"AWS_ACCESS_KEY_ID": b"id\n", "AWS_SECRET_ACCESS_KEY": b"key", "unrelated": b"\xff"})
    assert read(tmp_path, S3) == {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}
    assert read(None, S3) == {}


@pytest.mark.parametrize("content", [b"\xff", b"x" * 70_000])
def test_file_that_is_no_text(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, {"AZURE_STORAGE_KEY": content})
    with pytest.raises(FetchError, match="AZURE_STORAGE_KEY of the Secret is no text"):
        read(tmp_path, AZURE)


@pytest.mark.parametrize("store", [AZURE, S3, GS])
def test_secret_of_another_store_is_named(tmp_path: Path, store: BucketStore) -> None:
    write(tmp_path, {"PASSWORD": b"x"})
    with pytest.raises(FetchError, match=f"none of the keys for {store.scheme.prefix}: ") as caught:
        read(tmp_path, store)
    assert caught.value.reason == "ModelAccessDenied"


def test_access_is_anonymous_by_default() -> None:
    assert Access({}).shown == "without credentials"
