"""Why an artifact could not be stored or used: what the stage ``push`` reports."""

from __future__ import annotations

from typing import Final

REGISTRY_UNREACHABLE: Final = "RegistryUnreachable"
"""The registry or the authority that gives its tokens does not answer, or its certificate is not trusted."""
PUSH_DENIED: Final = "PushDenied"
"""The registry does not let these credentials do this, or there are none. Cure: the Secret, or the rights of
its user in the registry."""
REGISTRY_REJECTED: Final = "RegistryRejected"
"""The registry refuses what is stored, or answers what does not fit it. The message has its code."""
ARTIFACT_INVALID: Final = "ArtifactInvalid"
"""The folder is no artifact: a file is missing or damaged, or it holds links or devices."""
ARTIFACT_TOO_LARGE: Final = "ArtifactTooLarge"
"""The folder has more bytes or files than are allowed."""
ARTIFACT_NOT_FOUND: Final = "ArtifactNotFound"
"""There is no such repository, tag or digest."""
STORE_UNAVAILABLE: Final = "StoreUnavailable"
"""The mounted claim cannot be written, or is full."""

ARTIFACT_REASONS: Final = frozenset(
    {
        REGISTRY_UNREACHABLE,
        PUSH_DENIED,
        REGISTRY_REJECTED,
        ARTIFACT_INVALID,
        ARTIFACT_TOO_LARGE,
        ARTIFACT_NOT_FOUND,
        STORE_UNAVAILABLE,
    }
)
"""All reasons of artifacts."""
