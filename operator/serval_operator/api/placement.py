"""What one pod of a workload asks of a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serval_operator.api.blocks.names import AUTO
from serval_operator.api.blocks.scheduling import WhenUnavailable
from serval_operator.constants import LABEL_ARCH


@dataclass(frozen=True, slots=True)
class Placement:
    """What one pod asks of a node.

    The last two fields are the administrator's and the user's word about nodes to come. They are read anew at
    each look, and not recorded with a revision.

    Parameters
    ----------
    resource_name, count:
        Extended resource of the pod and how many units of it; empty and 0 for none.
    accelerator:
        Profile or resource as the spec names it; empty for none.
    node_selector, tolerations:
        Of the profile and the spec together.
    architectures:
        Values of the node label ``kubernetes.io/arch`` that the image runs on; empty for any.
    scalable:
        Whether an administrator says that nodes for it may be added.
    when_unavailable:
        `spec.accelerator.whenUnavailable`.
    labels:
        Labels that a node must have, each with the values that are accepted; derived once, since a verdict
        compares them with many nodes.
    """

    resource_name: str = ""
    count: int = 0
    accelerator: str = ""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    architectures: Sequence[str] = ()
    scalable: bool = False
    when_unavailable: WhenUnavailable = AUTO
    labels: Sequence[tuple[str, tuple[str, ...]]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        selected = [(name, (value,)) for name, value in self.node_selector.items()]
        built_for = [(LABEL_ARCH, tuple(self.architectures))] if self.architectures else []
        # Selectors of stored objects may hold other values than texts.
        labels = sorted(selected + built_for, key=lambda pair: (pair[0], tuple(map(str, pair[1]))))
        object.__setattr__(self, "labels", labels)

    def __str__(self) -> str:
        return f"{self.count} {self.resource_name}"
