"""``gs://BUCKET/PATH``: Google Cloud Storage."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from obstore.store import GCSStore, ObjectStore

from serval_contract import schemes
from serval_serving.fetch.credentials import (
    ANONYMOUS,
    BY_IDENTITY,
    BY_SECRET,
    ENDPOINT,
    JSON,
    Access,
    Forms,
    Values,
    is_plain,
)
from serval_serving.fetch.stores.bucket import BucketStore

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

SERVICE_ACCOUNT: Final = "service-account.json"
ENDPOINT_URL: Final = "GOOGLE_ENDPOINT_URL"
METADATA_HOSTS: Final = frozenset({"metadata.google.internal", "169.254.169.254"})
"""What gives a pod its identity on Google's clusters."""


@dataclass(frozen=True, slots=True)
class GsBucketStore(BucketStore):
    """A place in a bucket."""

    scheme: ClassVar[schemes.Scheme] = schemes.GS
    secret_keys: ClassVar[Forms] = MappingProxyType({SERVICE_ACCOUNT: JSON, ENDPOINT_URL: ENDPOINT})

    def access(self, secret: Values, environment: Values | None) -> Access:
        """Choose how to reach the bucket."""
        if environment is not None:
            # The library asks the metadata server, which answers for the pod where it has an identity.
            return Access({}, exempt=METADATA_HOSTS, shown=BY_IDENTITY)
        endpoint = secret.get(ENDPOINT_URL, "")
        config: dict[str, Any] = {"base_url": endpoint.rstrip("/")} if endpoint else {}
        if SERVICE_ACCOUNT not in secret:
            return Access({**config, "skip_signature": True}, is_plain(endpoint), shown=ANONYMOUS)
        config["service_account_key"] = secret[SERVICE_ACCOUNT]
        return Access(config, is_plain(endpoint), shown=BY_SECRET)

    def open(self, config: Any, client: ClientConfig, retry: RetryConfig) -> ObjectStore:
        """Open the bucket."""
        return GCSStore(self.bucket, config=config, client_options=client, retry_config=retry)


STORE: Final = GsBucketStore
