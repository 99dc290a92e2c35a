"""Storages that store nothing. kopf keeps no state of ours, because the work queue needs none.

They also save half of the CPU of an event: the default storages copy every object that is seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import kopf


class NoProgress(kopf.ProgressStorage):
    """Progress of handlers, which ours do not have."""

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:  # noqa: ARG002
        """Nothing was stored."""
        return None

    def store(
        self, *, key: kopf.HandlerId, record: kopf.ProgressRecord, body: kopf.Body, patch: kopf.Patch
    ) -> None:
        """Store nothing."""

    def purge(self, *, key: kopf.HandlerId, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing to remove."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Never touch the object."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Nothing of ours is in it."""
        return essence


class NoDiffBase(kopf.DiffBaseStorage):
    """The state that handlers saw last, which ours do not compare with."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:  # noqa: ARG002
        """Nothing is ever compared, so nothing is copied."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002
        """Nothing was stored."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Store nothing."""
