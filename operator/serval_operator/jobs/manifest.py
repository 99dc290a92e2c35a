"""Whole Jobs, to be created once: a Job's template is immutable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from serval_operator.api.child_metadata import child_metadata
from serval_operator.api.naming import Manifest
from serval_operator.api.snapshots import OwnerView
from serval_operator.api.unstructured import mapping, mappings
from serval_operator.constants import (
    COMPONENT_JOB,
    LABEL_ATTEMPT,
    LABEL_COMPONENT,
    LABEL_INPUTS,
    LABEL_JOB,
    LABEL_KIND,
    LABEL_MANAGED_BY,
    LABEL_OWNER_NAME,
    LABEL_OWNER_UID,
    MANAGED_BY,
)
from serval_operator.jobs.job_plan import JobPlan

_DISRUPTED: Final[Mapping[str, Any]] = {
    "action": "Ignore",
    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
}
"""A pod that was evicted or preempted, or whose node is gone, is replaced and does not count as a failure."""


def job_manifest(owner: OwnerView, plan: JobPlan, attempt: int) -> Manifest:
    """Return the Job of an attempt.

    The Job runs one pod once; the operator makes the next attempt, which is another Job. It has no
    ``ttlSecondsAfterFinished``: the operator deletes it after its result is recorded.
    """
    labels = job_labels(owner, plan, attempt)
    deadline = {"activeDeadlineSeconds": plan.deadline_seconds} if plan.deadline_seconds else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": child_metadata(owner, plan.job_name(owner.name, attempt), labels),
        "spec": {
            "suspend": plan.suspend,
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": 0,
            **deadline,
            "podFailurePolicy": {"rules": [dict(_DISRUPTED)]},
            "template": _template(plan, {**labels, LABEL_OWNER_UID: owner.uid}),
        },
    }


def job_labels(owner: OwnerView, plan: JobPlan, attempt: int) -> dict[str, str]:
    """Return the labels of a Job. Services and Deployments select no pod with them."""
    return {
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_COMPONENT: COMPONENT_JOB,
        LABEL_KIND: owner.kind,
        LABEL_OWNER_NAME: owner.name,
        LABEL_JOB: plan.name,
        LABEL_INPUTS: plan.inputs_digest,
        LABEL_ATTEMPT: str(attempt),
    }


def _template(plan: JobPlan, labels: Mapping[str, str]) -> Manifest:
    """Pod template of the plan, with what holds for every Job."""
    meta, spec = mapping(plan.template, "metadata"), dict(mapping(plan.template, "spec"))
    for field in ("initContainers", "containers"):
        if field in spec:
            spec[field] = [_container(plan, one) for one in mappings(spec, field)]
    spec |= {"restartPolicy": "Never", "automountServiceAccountToken": False}
    return {"metadata": {**meta, "labels": {**mapping(meta, "labels"), **labels}}, "spec": spec}


def _container(plan: JobPlan, container: Mapping[str, Any]) -> dict[str, Any]:
    """A container; the end of a stage's log stands for the report that a failed stage did not write."""
    if container.get("name") not in plan.stages:
        return dict(container)
    return {"terminationMessagePolicy": "FallbackToLogsOnError", **container}
