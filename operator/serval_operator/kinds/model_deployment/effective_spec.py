"""A checked spec together with what the operator's configuration makes of it: all that builders need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serval_operator.api.blocks.names import AUTO, DISABLED
from serval_operator.api.blocks.rollout import Rollout
from serval_operator.api.blocks.scheduling import WhenUnavailable
from serval_operator.api.capabilities import RAW_SCORE
from serval_operator.config import FetchSettings, FrontSettings, Runtime
from serval_operator.kinds.model_deployment.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Resolved:
    """What will run.

    Parameters
    ----------
    accelerator:
        What the user calls the accelerator: the profile or the resource name; empty for none.
    resource_name, resource_count:
        Extended resource asked of the node for each replica; empty and 0 for none.
    node_selector, tolerations, runtime_class:
        Of the profile and the spec together.
    scalable:
        Whether an administrator says that nodes of the profile may appear.
    image_volume:
        Whether the nodes mount the model's image, so that nothing has to be fetched.
    front:
        What stands before the runtime's server, because the spec asks for what that lacks; else None.
    """

    spec: ModelSpec
    runtime: Runtime
    fetch: FetchSettings
    image: str
    accelerator: str
    resource_name: str
    resource_count: int
    node_selector: Mapping[str, str]
    tolerations: Sequence[Mapping[str, Any]]
    runtime_class: str = ""
    scalable: bool = False
    when_unavailable: WhenUnavailable = AUTO
    rollout: Rollout = field(default_factory=Rollout)
    image_volume: bool = False
    front: FrontSettings | None = None

    @property
    def scores(self) -> bool:
        """Whether raw bytes can be posted to ``/score``."""
        able = self.front is not None or RAW_SCORE.name in self.runtime.capabilities
        return able and self.spec.endpoint.raw_bytes != DISABLED
