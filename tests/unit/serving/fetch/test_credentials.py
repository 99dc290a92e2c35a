from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serval_serving.fetch.credentials import Access, Values, check, read_secret
from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.stores.azureblob import AzureBlobStore
from serval_serving.fetch.stores.bucket import BucketStore
from serval_serving.fetch.stores.gs import GsBucketStore
from serval_serving.fetch.stores.s3 import S3BucketStore
from support.fetching import Fetch
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
        {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=models;AccountKey=YQ==;EndpointSuffix=core.example"},
        {},
        {"account_name": "models", "endpoint": "https://models.blob.core.example", "account_key": "YQ=="},
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


KEYS = {"AWS_ACCESS_KEY_ID": "minio", "AWS_SECRET_ACCESS_KEY": "minio123"}
ENDPOINT_FORM = "a URL with http:// or https:// and a host"
MALFORMED: dict[str, tuple[str, dict[str, str], str, str]] = {
    "s3 endpoint without a scheme": (
        "s3://models/m",
        {"AWS_ENDPOINT_URL": "minio:9000"},
        "AWS_ENDPOINT_URL",
        ENDPOINT_FORM,
    ),
    "s3 endpoint of a name": (
        "s3://models/m",
        {"AWS_ENDPOINT_URL": "minio.svc"},
        "AWS_ENDPOINT_URL",
        ENDPOINT_FORM,
    ),
    "s3 endpoint with a space": (
        "s3://models/m",
        {"AWS_ENDPOINT_URL": "http://minio :9"},
        "AWS_ENDPOINT_URL",
        ENDPOINT_FORM,
    ),
    "s3 endpoint with a letter": (
        "s3://models/m",
        {"AWS_ENDPOINT_URL": "http://minié"},
        "AWS_ENDPOINT_URL",
        ENDPOINT_FORM,
    ),
    "s3 endpoint with a user": (
        "s3://models/m",
        {"AWS_ENDPOINT_URL": "http://u:p@minio"},
        "AWS_ENDPOINT_URL",
        ENDPOINT_FORM,
    ),
    "s3 endpoint with a port": (
        "s3://models/m",
        {"AWS_ENDPOINT_URL": "http://minio:99999"},
        "AWS_ENDPOINT_URL",
        ENDPOINT_FORM,
    ),
    "s3 endpoint of five numbers": (
        "s3://models/m",
        {"AWS_ENDPOINT_URL": "http://1.2.3.4.5"},
        "AWS_ENDPOINT_URL",
        ENDPOINT_FORM,
    ),
    "s3 endpoint of large numbers": (
        "s3://models/m",
        {"AWS_ENDPOINT_URL": "http://256.1.1.1"},
        "AWS_ENDPOINT_URL",
        ENDPOINT_FORM,
    ),
    "s3 endpoint with a bad path": (
        "s3://models/m",
        {"AWS_ENDPOINT_URL": "http://minio/{}"},
        "AWS_ENDPOINT_URL",
        ENDPOINT_FORM,
    ),
    "s3 endpoint with a query": (
        "s3://models/m",
        {"AWS_ENDPOINT_URL": "http://minio/?a"},
        "AWS_ENDPOINT_URL",
        ENDPOINT_FORM,
    ),
    "s3 endpoint with a loose percent sign": (
        "s3://models/m",
        {"AWS_ENDPOINT_URL": "http://minio/%a"},
        "AWS_ENDPOINT_URL",
        "a URL with",
    ),
    "s3 region": ("s3://models/m", {"AWS_REGION": "eu west 1"}, "AWS_REGION", "letters, digits"),
    "s3 key of two lines": (
        "s3://models/m",
        {"AWS_ACCESS_KEY_ID": "mi\nnio"},
        "AWS_ACCESS_KEY_ID",
        "visible ASCII",
    ),
    "s3 secret of two lines": (
        "s3://models/m",
        {"AWS_SECRET_ACCESS_KEY": "a\nb"},
        "AWS_SECRET_ACCESS_KEY",
        "visible ASCII",
    ),
    "s3 token of two lines": (
        "s3://models/m",
        {"AWS_SESSION_TOKEN": "a\nb"},
        "AWS_SESSION_TOKEN",
        "visible ASCII",
    ),
    "azure endpoint": (
        "azureblob://acct/cont/m",
        {"AZURE_STORAGE_ENDPOINT": "azurite:1"},
        "AZURE_STORAGE_ENDPOINT",
        ENDPOINT_FORM,
    ),
    "azure key": ("azureblob://acct/cont/m", {"AZURE_STORAGE_KEY": "Zm9"}, "AZURE_STORAGE_KEY", "base64"),
    "azure sas": (
        "azureblob://acct/cont/m",
        {"AZURE_STORAGE_SAS_TOKEN": "a=b c"},
        "AZURE_STORAGE_SAS_TOKEN",
        "a query",
    ),
    "azure tenant": (
        "azureblob://acct/cont/m",
        {"AZURE_TENANT_ID": "a/b"},
        "AZURE_TENANT_ID",
        "letters, digits",
    ),
    "azure authority": (
        "azureblob://acct/cont/m",
        {"AZURE_AUTHORITY_HOST": "login"},
        "AZURE_AUTHORITY_HOST",
        ENDPOINT_FORM,
    ),
    "azure connection string": (
        "azureblob://acct/cont/m",
        {"AZURE_STORAGE_CONNECTION_STRING": "AccountKey=Zm9v;BlobEndpoint=azurite:1"},
        "BlobEndpoint in AZURE_STORAGE_CONNECTION_STRING",
        ENDPOINT_FORM,
    ),
    "azure suffix": (
        "azureblob://acct/cont/m",
        {"AZURE_STORAGE_CONNECTION_STRING": "AccountKey=Zm9v;EndpointSuffix=a b"},
        "EndpointSuffix in AZURE_STORAGE_CONNECTION_STRING",
        "letters, digits",
    ),
    "gs endpoint": (
        "gs://models/m",
        {"GOOGLE_ENDPOINT_URL": "gcs:4443"},
        "GOOGLE_ENDPOINT_URL",
        ENDPOINT_FORM,
    ),
    "gs account": ("gs://models/m", {"service-account.json": "{"}, "service-account.json", "the JSON of"),
    "gs account elsewhere": (
        "gs://models/m",
        {"service-account.json": '{"gcs_base_url": "a b"}'},
        "service-account.json",
        "the JSON of",
    ),
}


@pytest.mark.parametrize(("uri", "secret", "name", "form"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_value_is_named_with_its_form(
    tmp_path: Path, uri: str, secret: dict[str, str], name: str, form: str
) -> None:
    """Most of these end the library, and with it the process, without a word."""
    error = Fetch(tmp_path).fails(uri, (KEYS if uri.startswith("s3") else {}) | secret)
    assert (error.reason, error.permanent) == ("ModelAccessDenied", True)
    assert error.message.startswith(f"the value of {name} is malformed: it must be {form}")
    assert not any(value in error.message for value in secret.values())


def test_malformed_variable_of_an_identity_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (POD_IDENTITY | {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "agent"}).items():
        monkeypatch.setenv(name, value)
    error = Fetch(tmp_path).fails("s3://models/m", None, identity=True)
    assert error.message.startswith("the value of AWS_CONTAINER_CREDENTIALS_FULL_URI is malformed")


@pytest.mark.parametrize("where", ["open", "use"])
def test_a_panic_of_the_library_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Were a value to get past the checks."""
    panic = type("PanicException", (BaseException,), {})

    def gives_up(*_: object, **__: object) -> object:
        raise panic("request must be valid")

    if where == "open":
        monkeypatch.setattr(S3BucketStore, "open", gives_up)
    else:
        monkeypatch.setattr("obstore.list_with_delimiter", gives_up)
    error = Fetch(tmp_path).fails("s3://models", KEYS | {"AWS_ENDPOINT_URL": "http://minio:9000"})
    assert (error.reason, error.permanent) == ("ModelAccessDenied", True)
    assert error.message == "the credentials or the endpoint of s3://models are malformed"


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://minio:9000", "https://minio.models.svc", "HTTP://10.0.0.1:9000/", "http://[fd00::1]:9000", "http://[::ffff:10.0.0.1]/",
        "https://store.example/a/b_c~d", "http://minio_1", "https://a.b.",
        "https://store.example/a%20b/%C3%A9",
    ],
)  # fmt: skip
def test_endpoints_that_stores_have(endpoint: str) -> None:
    check({"AWS_ENDPOINT_URL": endpoint}, S3BucketStore.secret_keys)


@pytest.mark.parametrize("region", ["eu-west-1", "zone_a", "us.east"])
def test_regions_that_stores_have(region: str) -> None:
    check({"AWS_REGION": region}, S3BucketStore.secret_keys)


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
