"""Credentials for object stores: files of a Secret, or the identity that the cloud gives the pod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from serval_serving.fetch.errors import denied
from serval_serving.fetch.sources import AZURE, S3, StoreSource

MAX_FILE_BYTES: Final = 1 << 16
CONNECTION_STRING: Final = "AZURE_STORAGE_CONNECTION_STRING"
ACCOUNT_KEY: Final = "AZURE_STORAGE_KEY"
SAS_TOKEN: Final = "AZURE_STORAGE_SAS_TOKEN"
BLOB_ENDPOINT: Final = "AZURE_STORAGE_ENDPOINT"
CLIENT_ID: Final = "AZURE_CLIENT_ID"
CLIENT_SECRET: Final = "AZURE_CLIENT_SECRET"
TENANT_ID: Final = "AZURE_TENANT_ID"
FEDERATED_TOKEN_FILE: Final = "AZURE_FEDERATED_TOKEN_FILE"
AUTHORITY_HOST: Final = "AZURE_AUTHORITY_HOST"
ACCESS_KEY_ID: Final = "AWS_ACCESS_KEY_ID"
SECRET_ACCESS_KEY: Final = "AWS_SECRET_ACCESS_KEY"
SESSION_TOKEN: Final = "AWS_SESSION_TOKEN"
REGION: Final = "AWS_REGION"
ENDPOINT_URL: Final = "AWS_ENDPOINT_URL"
WEB_IDENTITY_TOKEN_FILE: Final = "AWS_WEB_IDENTITY_TOKEN_FILE"
ROLE_ARN: Final = "AWS_ROLE_ARN"
CONTAINER_CREDENTIALS: Final = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
CONTAINER_TOKEN_FILE: Final = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
SERVICE_ACCOUNT: Final = "service-account.json"
GOOGLE_ENDPOINT: Final = "GOOGLE_ENDPOINT_URL"
DEFAULT_REGION: Final = "us-east-1"
AZURE_SUFFIX: Final = "core.windows.net"
METADATA_HOSTS: Final = frozenset({"metadata.google.internal", "169.254.169.254"})
"""What gives a pod its identity on Google's clusters."""
ANONYMOUS: Final = "without credentials"
BY_SECRET: Final = "with the credentials of the Secret"
BY_IDENTITY: Final = "with the identity of the pod"

_AZURE_KEYS: Final = (
    CONNECTION_STRING, ACCOUNT_KEY, SAS_TOKEN, BLOB_ENDPOINT, CLIENT_ID, CLIENT_SECRET, TENANT_ID,
    AUTHORITY_HOST,
)  # fmt: skip
_S3_KEYS: Final = (ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN, REGION, ENDPOINT_URL)
_GS_KEYS: Final = (SERVICE_ACCOUNT, GOOGLE_ENDPOINT)

Values = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Access:
    """How a store is reached.

    Attributes
    ----------
    config:
        The library's settings, except for the name of the bucket. Holds secrets.
    plain:
        Whether the Secret names an endpoint without TLS.
    exempt:
        Hosts of the pod's identity, which are reached whatever their address is.
    shown:
        As whom, for messages.
    """

    config: dict[str, Any]
    plain: bool = False
    exempt: frozenset[str] = frozenset()
    shown: str = ANONYMOUS


def read_credentials(folder: Path | None, source: StoreSource) -> Values:
    """Read what a Secret has for the store of `source`; nothing without a folder.

    Raises
    ------
    FetchError
        ``ModelAccessDenied`` if a file cannot be used, or none is of this kind of store.
    """
    if folder is None:
        return {}
    keys = {AZURE: _AZURE_KEYS, S3: _S3_KEYS}.get(source.scheme, _GS_KEYS)
    found = {key: _read(folder / key) for key in keys if (folder / key).is_file()}
    if not found:
        raise denied(f"the Secret has none of the keys for {source.scheme}://: {', '.join(keys)}")
    return found


def access(source: StoreSource, secret: Values, environment: Values | None) -> Access:
    """Choose how to reach the store: by the Secret, by the pod's identity, or as anybody.

    Parameters
    ----------
    secret:
        What `read_credentials` returned.
    environment:
        Environment variables, in which the cloud announces the pod's identity; None not to use one.

    Raises
    ------
    FetchError
        ``ModelAccessDenied`` if the Secret is incomplete or contradicts the URI.
    """
    if source.scheme == AZURE:
        return _azure(source, secret, environment or {})
    if source.scheme == S3:
        return _s3(secret, environment or {})
    return _gs(secret, acts_as_pod=environment is not None)


def _azure(source: StoreSource, secret: Values, environment: Values) -> Access:
    parts = _connection_string(secret, source.account)
    suffix = parts.get("endpointsuffix", AZURE_SUFFIX)
    default = f"https://{source.account}.blob.{suffix}"
    endpoint = secret.get(BLOB_ENDPOINT) or parts.get("blobendpoint") or default
    config: dict[str, Any] = {"account_name": source.account, "endpoint": endpoint.rstrip("/")}
    account_key = secret.get(ACCOUNT_KEY) or parts.get("accountkey")
    sas = secret.get(SAS_TOKEN) or parts.get("sharedaccesssignature")
    shown = BY_SECRET
    if account_key:
        config["account_key"] = account_key
    elif sas:
        config["sas_key"] = sas.removeprefix("?")
        ends = parse_qs(config["sas_key"]).get("se", [""])[0][:20]
        shown = f"with the SAS token of the Secret, valid until {ends or 'a time that it does not name'}"
    elif CLIENT_SECRET in secret:
        config |= _needed(
            secret, {CLIENT_ID: "client_id", CLIENT_SECRET: "client_secret", TENANT_ID: "tenant_id"}
        )
        config |= _given(secret, {AUTHORITY_HOST: "authority_host"})
    elif FEDERATED_TOKEN_FILE in environment:
        shown = BY_IDENTITY
        names = {FEDERATED_TOKEN_FILE: "federated_token_file", CLIENT_ID: "client_id", TENANT_ID: "tenant_id"}
        config |= _needed(environment, names) | _given(environment, {AUTHORITY_HOST: "authority_host"})
    else:
        shown = ANONYMOUS
        config["skip_signature"] = True
    return Access(config, _is_plain(endpoint), shown=shown)


def _s3(secret: Values, environment: Values) -> Access:
    endpoint = secret.get(ENDPOINT_URL, "")
    region = secret.get(REGION) or environment.get(REGION) or DEFAULT_REGION
    config: dict[str, Any] = {"region": region}
    exempt: frozenset[str] = frozenset()
    shown = BY_IDENTITY
    if endpoint:
        config["endpoint"] = endpoint.rstrip("/")
    if ACCESS_KEY_ID in secret or SECRET_ACCESS_KEY in secret:
        shown = BY_SECRET
        config |= _needed(
            secret, {ACCESS_KEY_ID: "access_key_id", SECRET_ACCESS_KEY: "secret_access_key"}
        ) | _given(secret, {SESSION_TOKEN: "session_token"})
    elif WEB_IDENTITY_TOKEN_FILE in environment:
        names = {WEB_IDENTITY_TOKEN_FILE: "web_identity_token_file", ROLE_ARN: "role_arn"}
        config |= _needed(environment, names)
    elif CONTAINER_CREDENTIALS in environment:
        names = {
            CONTAINER_CREDENTIALS: "container_credentials_full_uri",
            CONTAINER_TOKEN_FILE: "container_authorization_token_file",
        }
        config |= _needed(environment, names)
        exempt = frozenset({urlsplit(environment[CONTAINER_CREDENTIALS]).hostname or ""})
    else:
        shown = ANONYMOUS
        config["skip_signature"] = True
    return Access(config, _is_plain(endpoint) or bool(exempt), exempt, shown)


def _gs(secret: Values, *, acts_as_pod: bool) -> Access:
    if acts_as_pod:
        # The library asks the metadata server, which answers for the pod where it has an identity.
        return Access({}, exempt=METADATA_HOSTS, shown=BY_IDENTITY)
    endpoint = secret.get(GOOGLE_ENDPOINT, "")
    config: dict[str, Any] = {"base_url": endpoint.rstrip("/")} if endpoint else {}
    if SERVICE_ACCOUNT in secret:
        config["service_account_key"] = secret[SERVICE_ACCOUNT]
    else:
        config["skip_signature"] = True
    return Access(config, _is_plain(endpoint), shown=BY_SECRET if SERVICE_ACCOUNT in secret else ANONYMOUS)


def _connection_string(secret: Values, account: str) -> Values:
    """Read a connection string; its keys in small letters."""
    text = secret.get(CONNECTION_STRING)
    if text is None:
        return {}
    pairs = [part.partition("=") for part in text.split(";") if part.strip()]
    parts = {name.strip().lower(): value.strip() for name, _, value in pairs}
    named = parts.get("accountname", account)
    if named != account:
        raise denied(f"{CONNECTION_STRING} is of the account {named[:24]!r}, and the URI names {account!r}")
    if not ("accountkey" in parts or "sharedaccesssignature" in parts):
        raise denied(f"{CONNECTION_STRING} has neither AccountKey nor SharedAccessSignature")
    return parts


def _needed(values: Values, names: Mapping[str, str]) -> dict[str, str]:
    """Return the library's settings for `names`, all of which must be there."""
    missing = [name for name in names if not values.get(name)]
    if missing:
        raise denied(f"the credentials lack {', '.join(missing)}")
    return {setting: values[name] for name, setting in names.items()}


def _given(values: Values, names: Mapping[str, str]) -> dict[str, str]:
    """Return the library's settings for those of `names` that are there."""
    return {setting: values[name] for name, setting in names.items() if values.get(name)}


def _is_plain(endpoint: str) -> bool:
    return endpoint.lower().startswith("http://")


def _read(path: Path) -> str:
    """Read one file of a Secret. Its content is never shown."""
    try:
        data = path.read_bytes()
        if len(data) <= MAX_FILE_BYTES:
            return data.decode("utf-8").strip()
    except OSError as error:
        raise denied(f"the key {path.name} of the Secret cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        pass
    raise denied(f"the key {path.name} of the Secret is no text of at most {MAX_FILE_BYTES} bytes")
