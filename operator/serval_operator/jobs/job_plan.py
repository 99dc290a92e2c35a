"""A Job that a custom resource needs, as its kind plans it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from serval_operator.api.blocks.jobs import MAX_ATTEMPTS, MAX_JOB_NAME
from serval_operator.api.naming import MAX_CHILD_NAME, digest, suffixed

MAX_JOB: Final = MAX_CHILD_NAME - 6
"""Longest name of a Job: its pods are named ``JOB-xxxxx``, and the name is a label of them."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A Job that must succeed before the custom resource goes on.

    Parameters
    ----------
    name:
        What it does, such as ``convert``: a DNS label of at most `MAX_JOB_NAME` characters, unique among the
        plans of a custom resource.
    inputs:
        All that the result depends on, as a JSON value. Once these inputs succeeded or failed for good, they
        never run again, even if the template changed.
    template:
        Pod template: metadata and spec.
    stages:
        Names of the containers that are stages, in their order: init containers, and last the main container.
        Others, such as sidecars, are not judged.
    attempts:
        How often the same inputs are tried, at most.
    suspend:
        Whether it may not run now.
    deadline_seconds:
        Longest time of one attempt; None for no limit.
    expects_result:
        Whether success needs a report of the last stage.
    progress_port:
        Port on which a stage answers with its progress page; None if none does.

    Raises
    ------
    ValueError
        The name or the number of attempts is out of bounds.
    """

    name: str
    inputs: Any
    template: Mapping[str, Any]
    stages: tuple[str, ...]
    attempts: int = 3
    suspend: bool = False
    deadline_seconds: int | None = None
    expects_result: bool = False
    progress_port: int | None = None

    def __post_init__(self) -> None:
        """Check the bounds that names and the status have."""
        if not _NAME.fullmatch(self.name) or len(self.name) > MAX_JOB_NAME:
            raise ValueError(f"no DNS label of at most {MAX_JOB_NAME} characters: {self.name}")
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise ValueError(f"attempts must be 1 to {MAX_ATTEMPTS}: {self.attempts}")

    @property
    def inputs_digest(self) -> str:
        """Digest of the inputs, as the Job's name and labels have it."""
        return digest(self.inputs)

    def job_name(self, owner: str, attempt: int) -> str:
        """Name of the Job of an attempt."""
        return suffixed(owner, f"-{self.name}-{self.inputs_digest}-{attempt}", most=MAX_JOB)
