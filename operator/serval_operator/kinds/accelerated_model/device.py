"""The device of an AcceleratedModel: which profile it has, and how the server runs it."""

from __future__ import annotations

from dataclasses import replace

from serval_operator.api.blocks.scheduling import Accelerator
from serval_operator.api.blocks.source import ModelSource
from serval_operator.config import Configuration, Profile
from serval_operator.config_conversion import DeviceSettings
from serval_operator.conversion_reasons import ACCELERATOR_NOT_CHOSEN
from serval_operator.errors import InvalidSpec
from serval_operator.kinds.accelerated_model.artifact import Made
from serval_operator.kinds.accelerated_model.spec import AcceleratedSpec
from serval_operator.workload import resolve as shared
from serval_operator.workload.effective_spec import EffectiveSpec


def resolve(
    spec: AcceleratedSpec, model: ModelSource, made: Made, configuration: Configuration
) -> EffectiveSpec:
    """Look up what the spec names; see `serval_operator.workload.resolve`.

    Parameters
    ----------
    model:
        The artifact as what the pods fetch and serve.
    made:
        What the operator knows of it.

    Raises
    ------
    InvalidSpec
        See there. Or no profile is named, and there is not exactly one with an engine.
    """
    accelerator = spec.accelerator or Accelerator(profile=_only_profile(configuration).name)
    resolved = shared.resolve(replace(spec, accelerator=accelerator), model, configuration)
    device = _device(accelerator, configuration)
    return replace(resolved, device=device, own={**made.as_json(), "engine": device.engine})


def _only_profile(configuration: Configuration) -> Profile:
    able = _profiles(configuration)
    if len(able) != 1:
        there = f"there are {_names(able)}" if able else "the operator's configuration has none"
        text = f"`spec.accelerator.profile` must name a profile with an engine: {there}"
        raise InvalidSpec(ACCELERATOR_NOT_CHOSEN, text)
    return able[0]


def _device(accelerator: Accelerator, configuration: Configuration) -> DeviceSettings:
    """How the server runs the device: as the profile says, or the first profile of the resource."""
    able = _profiles(configuration)
    for one in able:
        named = one.name == accelerator.profile or one.resource_name == accelerator.resource_name
        if named and one.device is not None:
            return one.device
    what = accelerator.profile or accelerator.resource_name
    there = f"those with one: {_names(able)}" if able else "no profile has one"
    text = f"no `engine` of the operator's configuration runs models on `{what}`; {there}"
    raise InvalidSpec(ACCELERATOR_NOT_CHOSEN, text)


def _profiles(configuration: Configuration) -> list[Profile]:
    """Profiles on whose devices AcceleratedModels run, by name."""
    able = (one for one in configuration.profiles.values() if one.device is not None)
    return sorted(able, key=lambda one: one.name)


def _names(profiles: list[Profile]) -> str:
    return ", ".join(one.name for one in profiles)
