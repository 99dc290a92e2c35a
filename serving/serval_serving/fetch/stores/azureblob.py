"""``azureblob://ACCOUNT/CONTAINER/PATH``: Azure Blob Storage."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from urllib.parse import parse_qs

from obstore.store import AzureStore, ObjectStore

from serval_contract import schemes
from serval_serving.fetch.credentials import (
    ANONYMOUS,
    BASE64,
    BY_IDENTITY,
    BY_SECRET,
    ENDPOINT,
    NAME,
    QUERY,
    TEXT,
    Access,
    Forms,
    Values,
    check,
    given,
    is_plain,
    needed,
)
from serval_serving.fetch.errors import denied, not_found
from serval_serving.fetch.sources import bare
from serval_serving.fetch.stores.bucket import BucketStore, bucket_and_key

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

CONNECTION_STRING: Final = "AZURE_STORAGE_CONNECTION_STRING"
ACCOUNT_KEY: Final = "AZURE_STORAGE_KEY"
SAS_TOKEN: Final = "AZURE_STORAGE_SAS_TOKEN"
BLOB_ENDPOINT: Final = "AZURE_STORAGE_ENDPOINT"
CLIENT_ID: Final = "AZURE_CLIENT_ID"
CLIENT_SECRET: Final = "AZURE_CLIENT_SECRET"
TENANT_ID: Final = "AZURE_TENANT_ID"
FEDERATED_TOKEN_FILE: Final = "AZURE_FEDERATED_TOKEN_FILE"
AUTHORITY_HOST: Final = "AZURE_AUTHORITY_HOST"
AZURE_SUFFIX: Final = "core.windows.net"
_PARTS: Final[Forms] = MappingProxyType(
    {
        "AccountKey": BASE64,
        "SharedAccessSignature": QUERY,
        "BlobEndpoint": ENDPOINT,
        "EndpointSuffix": NAME,
    }
)
_FORMS_OF_PARTS: Final[Forms] = MappingProxyType(
    {f"{name} in {CONNECTION_STRING}": form for name, form in _PARTS.items()}
)
_ACCOUNT: Final = re.compile(r"[a-z0-9]{3,24}")


@dataclass(frozen=True, slots=True)
class AzureBlobStore(BucketStore):
    """A place in a container of a storage account.

    Parameters
    ----------
    account:
        Name of the storage account.
    """

    scheme: ClassVar[schemes.Scheme] = schemes.AZUREBLOB
    secret_keys: ClassVar[Forms] = MappingProxyType(
        {
            CONNECTION_STRING: TEXT,
            ACCOUNT_KEY: BASE64,
            SAS_TOKEN: QUERY,
            BLOB_ENDPOINT: ENDPOINT,
            CLIENT_ID: NAME,
            CLIENT_SECRET: TEXT,
            TENANT_ID: NAME,
            AUTHORITY_HOST: ENDPOINT,
        }
    )
    identity_variables: ClassVar[Forms] = MappingProxyType(
        {CLIENT_ID: NAME, TENANT_ID: NAME, AUTHORITY_HOST: ENDPOINT}
    )
    account: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read an address."""
        account, _, rest = bare(uri, cls.words()).partition("/")
        if not _ACCOUNT.fullmatch(account):
            raise not_found(f"{cls.words()}; a storage account's name has 3 to 24 small letters and digits")
        bucket, key = bucket_and_key(rest, cls.scheme, f"{cls.words()}; this one names no container")
        return cls(bucket, key, account)

    @property
    def container(self) -> str:
        """The address without the path, for messages."""
        return f"{self.scheme.prefix}{self.account}/{self.bucket}"

    def access(self, secret: Values, environment: Values | None) -> Access:
        """Choose how to reach the account."""
        parts = _connection_string(secret, self.account)
        suffix = parts.get("endpointsuffix", AZURE_SUFFIX)
        default = f"https://{self.account}.blob.{suffix}"
        endpoint = secret.get(BLOB_ENDPOINT) or parts.get("blobendpoint") or default
        config, shown = _identity(secret, parts, environment or {})
        config |= {"account_name": self.account, "endpoint": endpoint.rstrip("/")}
        return Access(config, is_plain(endpoint), shown=shown)

    def open(self, config: Any, client: ClientConfig, retry: RetryConfig) -> ObjectStore:
        """Open the container."""
        return AzureStore(self.bucket, config=config, client_options=client, retry_config=retry)


def _identity(secret: Values, parts: Values, environment: Values) -> tuple[dict[str, Any], str]:
    """The library's settings for who asks, and the words for that.

    Parameters
    ----------
    parts:
        The connection string of the Secret.
    """
    account_key = secret.get(ACCOUNT_KEY) or parts.get("accountkey")
    if account_key:
        return {"account_key": account_key}, BY_SECRET
    sas = (secret.get(SAS_TOKEN) or parts.get("sharedaccesssignature") or "").removeprefix("?")
    if sas:
        ends = parse_qs(sas).get("se", [""])[0][:20] or "a time that it does not name"
        return {"sas_key": sas}, f"with the SAS token of the Secret, valid until {ends}"
    if CLIENT_SECRET in secret:
        names = {CLIENT_ID: "client_id", CLIENT_SECRET: "client_secret", TENANT_ID: "tenant_id"}
        return needed(secret, names) | given(secret, {AUTHORITY_HOST: "authority_host"}), BY_SECRET
    if FEDERATED_TOKEN_FILE in environment:
        names = {FEDERATED_TOKEN_FILE: "federated_token_file", CLIENT_ID: "client_id", TENANT_ID: "tenant_id"}
        config = needed(environment, names) | given(environment, {AUTHORITY_HOST: "authority_host"})
        return config, BY_IDENTITY
    return {"skip_signature": True}, ANONYMOUS


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
    check({f"{name} in {CONNECTION_STRING}": parts.get(name.lower(), "") for name in _PARTS}, _FORMS_OF_PARTS)
    return parts


STORE: Final = AzureBlobStore
