"""Errors of the operator. An error's type says whether, and when, trying again can help."""

from __future__ import annotations


class ServalError(Exception):
    """Base of every error that the operator raises on purpose."""


class ConfigurationError(ServalError):
    """The operator's own configuration cannot be used; the process ends with this text."""


class InvalidSpec(ServalError):
    """A custom resource asks for something that cannot be. Only an edit of its spec cures it.

    Parameters
    ----------
    reason:
        One of `serval_operator.reasons`.
    message:
        What must hold, for the user.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class KubeError(ServalError):
    """The API server answered with an error, or did not answer.

    Parameters
    ----------
    status:
        HTTP status code; 0 when there was no answer.
    reason:
        `reason` of the API server's Status object, such as ``Conflict``; empty when there was none.
    message:
        `message` of the Status object, or what went wrong on the way.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Conflict(KubeError):
    """409: the object changed, belongs to another manager, or has another uid. Gather again."""


class Forbidden(KubeError):
    """403: RBAC, a quota or an admission plugin refused the request."""


class Invalid(KubeError):
    """400 or 422: the object cannot be accepted as it is."""


class Gone(KubeError):
    """410: the resource version asked for is too old."""


class Transient(KubeError):
    """429, 5xx, a time-out or a broken connection: the same request may succeed later.

    Parameters
    ----------
    retry_after:
        Seconds that the server asked to wait, or None.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(status, reason, message)
        self.retry_after = retry_after


class Fenced(KubeError):
    """Not sent, or cut off: this process may not write, because it does not certainly hold the Lease."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Fenced", message)


class LeaseLost(ServalError):
    """Another process has the Lease, or had it meanwhile: this process must end."""
