"""Failures of artifacts. Their reasons are those of the contract."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

from serval_contract.artifact_reasons import (
    ARTIFACT_INVALID,
    ARTIFACT_NOT_FOUND,
    ARTIFACT_TOO_LARGE,
    PUSH_DENIED,
    REGISTRY_REJECTED,
    REGISTRY_UNREACHABLE,
    STORE_UNAVAILABLE,
)
from serval_contract.reasons import (
    MODEL_ACCESS_DENIED,
    MODEL_NOT_FOUND,
    MODEL_SOURCE_UNAVAILABLE,
    MODEL_TOO_LARGE,
)
from serval_serving.fetch.errors import Failure, FetchError

_OF_THE_FETCHER: Final[Mapping[str, str]] = MappingProxyType(
    {
        MODEL_ACCESS_DENIED: PUSH_DENIED,
        MODEL_NOT_FOUND: ARTIFACT_NOT_FOUND,
        MODEL_SOURCE_UNAVAILABLE: REGISTRY_UNREACHABLE,
        MODEL_TOO_LARGE: ARTIFACT_TOO_LARGE,
    }
)
"""What the reasons of the code that is shared with the fetcher are called here; others are the registry's."""


class ArtifactFailure(Failure):
    """Nothing is stored. The reason is one of `serval_contract.artifact_reasons.ARTIFACT_REASONS`."""


def unreachable(message: str, *, again: bool = True) -> ArtifactFailure:
    """Return a ``RegistryUnreachable``, which is never permanent."""
    return ArtifactFailure(REGISTRY_UNREACHABLE, message, permanent=False, again=again)


def push_denied(message: str) -> ArtifactFailure:
    """Return a permanent ``PushDenied``."""
    return ArtifactFailure(PUSH_DENIED, message, permanent=True)


def registry_rejected(message: str, *, permanent: bool = True, again: bool = False) -> ArtifactFailure:
    """Return a ``RegistryRejected``."""
    return ArtifactFailure(REGISTRY_REJECTED, message, permanent=permanent, again=again)


def artifact_invalid(message: str) -> ArtifactFailure:
    """Return a permanent ``ArtifactInvalid``."""
    return ArtifactFailure(ARTIFACT_INVALID, message, permanent=True)


def artifact_too_large(message: str) -> ArtifactFailure:
    """Return a permanent ``ArtifactTooLarge``."""
    return ArtifactFailure(ARTIFACT_TOO_LARGE, message, permanent=True)


def artifact_not_found(message: str) -> ArtifactFailure:
    """Return a permanent ``ArtifactNotFound``."""
    return ArtifactFailure(ARTIFACT_NOT_FOUND, message, permanent=True)


def store_unavailable(error: OSError, what: str) -> ArtifactFailure:
    """Return a ``StoreUnavailable`` for an error of the operating system; it is never permanent."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    words = "the claim is full" if full else error.strerror or type(error).__name__
    return ArtifactFailure(STORE_UNAVAILABLE, f"{what} cannot be written: {words}", permanent=False)


@contextmanager
def translated() -> Iterator[None]:
    """Turn a failure of the code that is shared with the fetcher into an `ArtifactFailure`."""
    try:
        yield
    except FetchError as error:
        reason = _OF_THE_FETCHER.get(error.reason, REGISTRY_REJECTED)
        raise ArtifactFailure(reason, error.message, permanent=error.permanent, again=error.again) from error
