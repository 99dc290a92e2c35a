"""A checked spec together with what the operator's configuration makes of it: all that builders need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serval_operator.api.blocks.names import DISABLED
from serval_operator.api.blocks.served import ServedSpec
from serval_operator.api.blocks.source import ModelSource
from serval_operator.api.capabilities import RAW_SCORE
from serval_operator.api.placement import Placement
from serval_operator.config import FetchSettings, FrontSettings, Runtime
from serval_operator.config_conversion import DeviceSettings


@dataclass(frozen=True, slots=True)
class EffectiveSpec:
    """What will run.

    Parameters
    ----------
    model:
        The model that the pods fetch and serve.
    placement:
        What one pod asks of a node.
    runtime_class:
        RuntimeClass of the spec, or else of the profile; empty for none.
    image_volume:
        Whether the nodes mount the model's image, so that nothing has to be fetched.
    device:
        How the server programs and runs the device of its pod; None where it runs the model without.
    own:
        What the kind records beside the template: JSON data.
    front:
        What stands before the runtime's server, because the spec asks for what that lacks; else None.
    """

    spec: ServedSpec
    model: ModelSource
    runtime: Runtime
    fetch: FetchSettings
    image: str
    placement: Placement
    runtime_class: str = ""
    image_volume: bool = False
    front: FrontSettings | None = None
    device: DeviceSettings | None = None
    own: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scores(self) -> bool:
        """Whether raw bytes can be posted to ``/score``."""
        able = self.front is not None or RAW_SCORE.name in self.runtime.capabilities
        return able and self.spec.endpoint.raw_bytes != DISABLED
