"""What cures a ResourceQuota's refusal of pods whose containers lack a request or a limit. Pure.

A quota for ``limits.cpu`` refuses every pod with a container that has no such limit. A spec sets the
resources of the server only; those of the operator's own containers are values of the chart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from serval_operator.constants import CONTAINER_FETCH, CONTAINER_FRONT, CONTAINER_SERVER

_MISSING: Final = re.compile(r"(?:must specify|;) ((?:limits\.|requests\.)?[a-z0-9./-]+) for: ([a-z0-9,-]+)")
"""What the evaluator of quotas writes: ``must specify RESOURCE for: CONTAINER,...; RESOURCE for: ...``."""
_CHART: Final[Mapping[str, str]] = {CONTAINER_FETCH: "fetch", CONTAINER_FRONT: "front"}
"""Where the chart's values have the resources of the containers that a spec does not describe."""


def quota_cure(words: str) -> str:
    """Say who sets what a quota misses; empty where it misses nothing.

    Parameters
    ----------
    words:
        The API server's refusal of a pod.
    """
    missing: dict[str, list[str]] = {}
    for resource, containers in _MISSING.findall(words):
        field = resource if resource.startswith(("limits.", "requests.")) else f"requests.{resource}"
        for container in containers.split(","):
            missing.setdefault(container, []).append(field)
    spec = [f"`spec.resources.{field}`" for field in missing.get(CONTAINER_SERVER, ())]
    chart = [
        f"`{values}.resources.{field}` (container {container})"
        for container, values in _CHART.items()
        for field in missing.get(container, ())
    ]
    cures = [f"set {', '.join(spec)}"] if spec else []
    if chart:
        text = f"an administrator sets {', '.join(chart)} in the values of the operator's chart"
        # The template of a revision is kept as it was rendered.
        cures.append(f"{text}, then give `spec.rollout.trigger` a new value")
    return "; ".join(cures)
