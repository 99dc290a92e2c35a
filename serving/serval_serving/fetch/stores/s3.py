"""``s3://BUCKET/PATH``: S3, and other stores with its API."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

from obstore.store import ObjectStore, S3Store

from serval_contract import schemes
from serval_serving.fetch.credentials import (
    ANONYMOUS,
    BY_IDENTITY,
    BY_SECRET,
    ENDPOINT,
    NAME,
    VISIBLE,
    Access,
    Forms,
    Values,
    given,
    is_plain,
    needed,
)
from serval_serving.fetch.stores.bucket import BucketStore

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

ACCESS_KEY_ID: Final = "AWS_ACCESS_KEY_ID"
SECRET_ACCESS_KEY: Final = "AWS_SECRET_ACCESS_KEY"
SESSION_TOKEN: Final = "AWS_SESSION_TOKEN"
REGION: Final = "AWS_REGION"
ENDPOINT_URL: Final = "AWS_ENDPOINT_URL"
WEB_IDENTITY_TOKEN_FILE: Final = "AWS_WEB_IDENTITY_TOKEN_FILE"
ROLE_ARN: Final = "AWS_ROLE_ARN"
CONTAINER_CREDENTIALS: Final = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
CONTAINER_TOKEN_FILE: Final = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
DEFAULT_REGION: Final = "us-east-1"


@dataclass(frozen=True, slots=True)
class S3BucketStore(BucketStore):
    """A place in a bucket."""

    scheme: ClassVar[schemes.Scheme] = schemes.S3
    secret_keys: ClassVar[Forms] = MappingProxyType(
        {
            ACCESS_KEY_ID: VISIBLE,
            SECRET_ACCESS_KEY: VISIBLE,
            SESSION_TOKEN: VISIBLE,
            REGION: NAME,
            ENDPOINT_URL: ENDPOINT,
        }
    )
    identity_variables: ClassVar[Forms] = MappingProxyType(
        {REGION: NAME, ROLE_ARN: VISIBLE, CONTAINER_CREDENTIALS: ENDPOINT}
    )

    def access(self, secret: Values, environment: Values | None) -> Access:
        """Choose how to reach the bucket."""
        variables = environment or {}
        endpoint = secret.get(ENDPOINT_URL, "")
        config: dict[str, Any] = {"region": secret.get(REGION) or variables.get(REGION) or DEFAULT_REGION}
        exempt: frozenset[str] = frozenset()
        shown = BY_IDENTITY
        if endpoint:
            config["endpoint"] = endpoint.rstrip("/")
        if ACCESS_KEY_ID in secret or SECRET_ACCESS_KEY in secret:
            shown = BY_SECRET
            names = {ACCESS_KEY_ID: "access_key_id", SECRET_ACCESS_KEY: "secret_access_key"}
            config |= needed(secret, names) | given(secret, {SESSION_TOKEN: "session_token"})
        elif WEB_IDENTITY_TOKEN_FILE in variables:
            names = {WEB_IDENTITY_TOKEN_FILE: "web_identity_token_file", ROLE_ARN: "role_arn"}
            config |= needed(variables, names)
        elif CONTAINER_CREDENTIALS in variables:
            names = {
                CONTAINER_CREDENTIALS: "container_credentials_full_uri",
                CONTAINER_TOKEN_FILE: "container_authorization_token_file",
            }
            config |= needed(variables, names)
            exempt = frozenset({urlsplit(variables[CONTAINER_CREDENTIALS]).hostname or ""})
        else:
            shown = ANONYMOUS
            config["skip_signature"] = True
        return Access(config, is_plain(endpoint) or bool(exempt), exempt, shown)

    def open(self, config: Any, client: ClientConfig, retry: RetryConfig) -> ObjectStore:
        """Open the bucket."""
        return S3Store(self.bucket, config=config, client_options=client, retry_config=retry)


STORE: Final = S3BucketStore
