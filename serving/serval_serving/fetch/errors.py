"""Failures of a fetch. Their reasons are those of the contract, which the custom resource shows."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from serval_contract.reasons import (
    MODEL_ACCESS_DENIED,
    MODEL_ARTIFACT_REJECTED,
    MODEL_INVALID,
    MODEL_NOT_FOUND,
    MODEL_SOURCE_UNAVAILABLE,
    MODEL_TOO_LARGE,
    MODEL_VERSION_SKEW,
)

_BAD_NAMES: Final = frozenset(
    {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ}
)


class Failure(Exception):
    """Work ends here.

    Parameters
    ----------
    reason:
        One word that programs read.
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


class FetchError(Failure):
    """The fetch ends here. The reason is one of `serval_contract.reasons.FETCH_REASONS`."""


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


def from_os_error(error: OSError, what: str, path: Path) -> FetchError:
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
