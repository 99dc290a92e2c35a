"""Why a model could not be fetched. The reasons are those that the custom resource shows."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

MODEL_NOT_FOUND: Final = "ModelNotFound"
"""Nothing is there under this URI, or not the wanted version. Cure: the URI, or put the model there."""
MODEL_ACCESS_DENIED: Final = "ModelAccessDenied"
"""The source, or the rule about where models may come from, says no. Cure: credentials or another URI."""
MODEL_SOURCE_UNAVAILABLE: Final = "ModelSourceUnavailable"
"""The source cannot be reached or answers with an error. May pass by itself."""
MODEL_TOO_LARGE: Final = "ModelTooLarge"
"""The model is over the size limit, or the disk is full. Cure: a higher limit, or a larger disk."""
MODEL_DIGEST_MISMATCH: Final = "ModelDigestMismatch"
"""The bytes are not those that ``sha256`` pins. Cure: the right digest, or the right file."""
MODEL_ARTIFACT_REJECTED: Final = "ModelArtifactRejected"
"""The archive or folder holds what a model never needs and an attacker would. Cure: pack it anew."""
MODEL_INVALID: Final = "ModelInvalid"
"""The files arrived, but are no model that can be served. Cure: export the model anew."""
MODEL_VERSION_SKEW: Final = "ModelVersionSkew"
"""The source holds another model than the other replicas serve. Cure: put it back, or roll the new out."""

_BAD_NAMES: Final = frozenset(
    {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ}
)


class FetchError(Exception):
    """The fetch ends here.

    Parameters
    ----------
    reason:
        One of the constants above.
    message:
        What happened, for the user. Holds neither user information nor the query of a URI.
    permanent:
        True where another try with the same arguments would end the same way.
    again:
        True where another try within this run may help.
    """

    def __init__(self, reason: str, message: str, *, permanent: bool, again: bool = False) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.permanent = permanent
        self.again = again


def not_found(message: str) -> FetchError:
    """Return a permanent ``ModelNotFound``."""
    return FetchError(MODEL_NOT_FOUND, message, permanent=True)


def denied(message: str) -> FetchError:
    """Return a permanent ``ModelAccessDenied``."""
    return FetchError(MODEL_ACCESS_DENIED, message, permanent=True)


def unavailable(message: str, *, again: bool = True) -> FetchError:
    """Return a ``ModelSourceUnavailable``, which is never permanent."""
    return FetchError(MODEL_SOURCE_UNAVAILABLE, message, permanent=False, again=again)


def too_large(message: str) -> FetchError:
    """Return a permanent ``ModelTooLarge``."""
    return FetchError(MODEL_TOO_LARGE, message, permanent=True)


def rejected(message: str) -> FetchError:
    """Return a permanent ``ModelArtifactRejected``."""
    return FetchError(MODEL_ARTIFACT_REJECTED, message, permanent=True)


def invalid(message: str) -> FetchError:
    """Return a permanent ``ModelInvalid``."""
    return FetchError(MODEL_INVALID, message, permanent=True)


def skewed(message: str) -> FetchError:
    """Return a permanent ``ModelVersionSkew``."""
    return FetchError(MODEL_VERSION_SKEW, message, permanent=True)


def written_badly(error: OSError, what: str, path: Path) -> FetchError:
    """Say what an error of the operating system means when `what` was being written under `path`.

    A full disk is ``ModelTooLarge``, not permanent, since room may come. A name that no file system takes
    is ``ModelArtifactRejected``. The rest is left to another start.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FetchError(
            MODEL_TOO_LARGE,
            f"the disk under {path} is full; the model needs more room than the volume or the node has",
            permanent=False,
        )
    words = error.strerror or type(error).__name__
    if error.errno in _BAD_NAMES:
        return rejected(f"{what} cannot be written: {words}")
    return unavailable(f"{what} cannot be written: {words}", again=False)
