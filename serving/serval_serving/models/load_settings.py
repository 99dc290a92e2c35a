"""How the versions of a model are found, and how often a load is tried."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How versions are found and loaded.

    Attributes
    ----------
    poll_seconds:
        Seconds between two scans of the base path. With 0 it is scanned once.
    max_retries:
        Further attempts after a load that failed for a cause that may pass.
    retry_seconds:
        Seconds between two attempts.
    """

    poll_seconds: float = 1.0
    max_retries: int = 5
    retry_seconds: float = 60.0


@dataclass(slots=True)
class Retry:
    """The number of failed attempts, and the time of the next one."""

    failures: int
    at: float
