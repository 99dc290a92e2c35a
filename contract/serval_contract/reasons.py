"""Why a model could not be fetched: what the fetcher reports and the ModelDeployment shows."""

from __future__ import annotations

from typing import Final

MODEL_NOT_FOUND: Final = "ModelNotFound"
"""There is nothing at `spec.model.uri`, or not the wanted version. Cure: the address or the version."""
MODEL_ACCESS_DENIED: Final = "ModelAccessDenied"
"""The model's store, or the rule about where models may come from, refuses access. Cure: credentials,
permissions or another address."""
MODEL_SOURCE_UNAVAILABLE: Final = "ModelSourceUnavailable"
"""The model's store does not answer, or its certificate is not trusted. Retried with back-off."""
MODEL_TOO_LARGE: Final = "ModelTooLarge"
"""The model is larger than the configured cap or the node's disk. Cure: `fetch.maxBytes`, or a disk."""
MODEL_DIGEST_MISMATCH: Final = "ModelDigestMismatch"
"""The files are not those that `spec.model.sha256` names. Cure: the right digest or the right files."""
MODEL_ARTIFACT_REJECTED: Final = "ModelArtifactRejected"
"""The archive tries to write outside its folder, holds links, or unpacks to far too much. Cure: pack it
without these."""
MODEL_INVALID: Final = "ModelInvalid"
"""The files are no servable model (no SavedModel, no signature). Cure: export the model again."""
MODEL_VERSION_SKEW: Final = "ModelVersionSkew"
"""A replica found another model than the replicas before it, at the same address. Cure: put the model back,
or roll the new one to all replicas: `spec.model.version`, or a new value of `spec.rollout.trigger`."""

FETCH_REASONS: Final = frozenset(
    {
        MODEL_NOT_FOUND,
        MODEL_ACCESS_DENIED,
        MODEL_SOURCE_UNAVAILABLE,
        MODEL_TOO_LARGE,
        MODEL_DIGEST_MISMATCH,
        MODEL_ARTIFACT_REJECTED,
        MODEL_INVALID,
        MODEL_VERSION_SKEW,
    }
)
"""All reasons that the fetcher may report; the operator ignores any other."""
