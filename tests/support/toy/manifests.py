"""What Toys are made of: the Job that plays, and the Deployment whose pods watch."""

from __future__ import annotations

from typing import Any

from serval_operator.api.child_metadata import applied_child
from serval_operator.api.naming import Manifest, selector
from serval_operator.api.snapshots import OwnerView
from serval_operator.constants import LABEL_OWNER_UID
from serval_operator.jobs.job_plan import JobPlan
from support.toy.spec import ToySpec

STAGES = ("shuffle", "play")
IMAGE = "registry.example/toy:1"


def play_job(spec: ToySpec, *, suspend: bool) -> JobPlan:
    """The Job that plays the steps: the same steps in the same order are played once."""
    containers = [{"name": name, "image": IMAGE, "args": [str(spec.steps)]} for name in STAGES]
    return JobPlan(
        name="play",
        inputs={"model": spec.model.uri, "steps": spec.steps, "mode": spec.mode},
        template={"spec": {"initContainers": containers[:1], "containers": containers[1:]}},
        stages=STAGES,
        attempts=2,
        suspend=suspend,
        expects_result=True,
    )


def watchers(owner: OwnerView, spec: ToySpec, score: Any, replicas: int) -> Manifest:
    """The Deployment whose pods watch what the Job found."""
    labels = selector(owner.key)
    container: dict[str, Any] = {"name": "watcher", "image": IMAGE, "args": ["--score", str(score)]}
    if spec.accelerator:
        units = {spec.accelerator.resource_name: str(spec.accelerator.count)}
        container["resources"] = {"limits": units}
    body = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": {**labels, LABEL_OWNER_UID: owner.uid}},
            "spec": {"containers": [container]},
        },
    }
    return applied_child(owner, owner.name, labels, "apps/v1", "Deployment", body)
