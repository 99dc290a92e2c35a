"""Which runtime, image and nodes a spec comes to under a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from serval_contract.models import ACCELERATED
from serval_operator.api.blocks.names import AUTO
from serval_operator.api.blocks.scheduling import Accelerator
from serval_operator.api.blocks.served import ServedSpec
from serval_operator.api.blocks.source import ModelSource
from serval_operator.api.capabilities import DEVICE_ENGINES, FRONT_NEEDS, Capability, asked_capabilities
from serval_operator.api.conditions import Blocked
from serval_operator.api.placement import Placement
from serval_operator.config import DEFAULT_IMAGE, Configuration, FrontSettings, Profile, Runtime
from serval_operator.errors import InvalidSpec
from serval_operator.reasons import UNKNOWN_PROFILE, UNKNOWN_RUNTIME, UNSUPPORTED_SPEC
from serval_operator.workload.effective_spec import EffectiveSpec

_NO_PROFILE = Profile(name="", resource_name="", node_selector={}, tolerations=(), scalable=False)


def resolve(spec: ServedSpec, model: ModelSource, configuration: Configuration) -> EffectiveSpec:
    """Look up what the spec names.

    Parameters
    ----------
    model:
        The model that the pods serve.

    Raises
    ------
    InvalidSpec
        The runtime or profile is unknown, the PriorityClass is not allowed, the runtime has no image for the
        accelerator, or it lacks what the spec asks for, and no front adds it.
    """
    _check_priority(spec, configuration)
    runtime = _runtime(spec, model.framework, configuration)
    accelerator, scheduling = spec.accelerator, spec.scheduling
    profile = _profile(accelerator, configuration)
    resource = (accelerator.resource_name if accelerator else "") or profile.resource_name
    return EffectiveSpec(
        spec=spec,
        model=model,
        runtime=runtime,
        fetch=configuration.fetch,
        image=_image(model.framework, runtime, profile, resource, configuration),
        placement=Placement(
            resource_name=resource,
            count=accelerator.count if accelerator and resource else 0,
            accelerator=(accelerator.profile or accelerator.resource_name) if accelerator else "",
            node_selector={**profile.node_selector, **scheduling.node_selector},
            tolerations=(*profile.tolerations, *scheduling.tolerations),
            architectures=runtime.architectures,
            scalable=profile.scalable,
            when_unavailable=accelerator.when_unavailable if accelerator else AUTO,
        ),
        runtime_class=scheduling.runtime_class_name or profile.runtime_class,
        front=_front(spec, runtime, configuration),
    )


def is_scalable(name: str, configuration: Configuration) -> bool:
    """Whether a profile says that nodes may be added for the pods. An unknown profile says no."""
    profile = configuration.profiles.get(name)
    return profile is not None and profile.scalable


def _front(spec: ServedSpec, runtime: Runtime, configuration: Configuration) -> FrontSettings | None:
    """The front that adds what the runtime's server lacks; None if nothing is lacking."""
    lacking = [one for one in asked_capabilities(spec) if one.name not in runtime.capabilities]
    if not lacking:
        return None
    front = configuration.front if runtime.capabilities >= FRONT_NEEDS else None
    unmet = [one for one in lacking if front is None or not one.added_by_front]
    if unmet:
        raise _lacks(runtime, unmet[0], configuration)
    return front


def _check_priority(spec: ServedSpec, configuration: Configuration) -> None:
    refused = refused_priority(spec.scheduling.priority_class_name, configuration)
    if refused:
        raise InvalidSpec(refused.reason, refused.message)


def refused_priority(name: str, configuration: Configuration) -> Blocked | None:
    """Why new pods may not have a PriorityClass; None where they may."""
    allowed = configuration.allowed_priority_classes
    if not name or not allowed or name in allowed:
        return None
    text = f"`spec.scheduling.priorityClassName` must not be {name}; allowed are: {', '.join(allowed)}"
    return Blocked(UNSUPPORTED_SPEC, text)


def _runtime(spec: ServedSpec, framework: str, configuration: Configuration) -> Runtime:
    name = spec.runtime.name
    return _named(name, framework, configuration) if name else _chosen(framework, configuration)


def _named(name: str, framework: str, configuration: Configuration) -> Runtime:
    runtime = configuration.runtimes.get(name)
    if runtime is None:
        known = _known(configuration.runtimes)
        raise InvalidSpec(UNKNOWN_RUNTIME, f"there is no runtime `{name}`; {known}")
    if not _serves(runtime, framework):
        raise _misfit(f"runtime `{runtime.name}`", runtime, framework, configuration)
    return runtime


def _chosen(framework: str, configuration: Configuration) -> Runtime:
    """The default runtime where it serves the framework, else the first by name that lists it."""
    default = configuration.runtimes[configuration.default_runtime]
    if _serves(default, framework):
        return default
    runtimes = configuration.runtimes.items()
    if framework == ACCELERATED:
        listing = [name for name, one in runtimes if _serves(one, framework)]
    else:
        listing = [name for name, one in runtimes if framework in one.frameworks]
    if not listing:
        raise _misfit(f"the default runtime `{default.name}`", default, framework, configuration)
    return configuration.runtimes[min(listing)]


def _serves(runtime: Runtime, framework: str) -> bool:
    if framework == ACCELERATED:
        return DEVICE_ENGINES.name in runtime.capabilities
    return not runtime.frameworks or framework in runtime.frameworks


def _misfit(what: str, runtime: Runtime, framework: str, configuration: Configuration) -> InvalidSpec:
    able = sorted(name for name, one in configuration.runtimes.items() if _serves(one, framework))
    cure = f"runtimes that serve it: {', '.join(able)}" if able else "an administrator must add one that does"
    if framework == ACCELERATED:
        lacks = f"{what} lacks the capability `{DEVICE_ENGINES.name}`, which serves AcceleratedModels"
        return InvalidSpec(UNSUPPORTED_SPEC, f"{lacks}; {cure}")
    served = ", ".join(runtime.frameworks)
    return InvalidSpec(UNSUPPORTED_SPEC, f"{what} serves {served} and not {framework}; {cure}")


def _profile(accelerator: Accelerator | None, configuration: Configuration) -> Profile:
    if accelerator is None or not accelerator.profile:
        return _NO_PROFILE
    profile = configuration.profiles.get(accelerator.profile)
    if profile is None:
        known = _known(configuration.profiles)
        raise InvalidSpec(
            UNKNOWN_PROFILE, f"there is no accelerator profile `{accelerator.profile}`; {known}"
        )
    return profile


def _image(
    framework: str, runtime: Runtime, profile: Profile, resource: str, configuration: Configuration
) -> str:
    """Image of the model server.

    A device needs an image that is listed for a profile of its resource: the named profile, else the first by
    name, since a GPU spelled out is still a GPU. The default image never takes its place: such pods would
    hold a device and compute on the CPU.
    """
    profiles = configuration.profiles.values()
    kin = sorted(one.name for one in profiles if resource and one.resource_name == resource)
    fitting = (*filter(None, [profile.name]), *kin)
    image = _listed(runtime, fitting, framework)
    if image or not resource:
        return image or runtime.default_image
    what = f"runtime `{runtime.name}` has no image for {framework} on `{profile.name or resource}`"
    cure = _missing_image(fitting, framework, configuration)
    raise InvalidSpec(UNSUPPORTED_SPEC, f"{what}, and would compute on the CPU; {cure}")


def _missing_image(profiles: Sequence[str], framework: str, configuration: Configuration) -> str:
    """What to do where a runtime lists no image for a framework under any of the profiles."""
    runtimes = configuration.runtimes.values()
    serving = (one for one in runtimes if _serves(one, framework))
    able = sorted(one.name for one in serving if _listed(one, profiles, framework))
    if able:
        return f"runtimes that have one: {', '.join(able)}"
    named = [name for name in profiles if name != DEFAULT_IMAGE]
    if not named:
        return "an administrator must add a profile of that resource, and an image under its name"
    return f"an administrator must add one under `images.{named[0]}` of the runtime"


def _listed(runtime: Runtime, profiles: Iterable[str], framework: str) -> str:
    """Image that a runtime lists for the first of the profiles; empty where it lists none."""
    return next((image for name in profiles if (image := runtime.image(name, framework))), "")


def _lacks(runtime: Runtime, capability: Capability, configuration: Configuration) -> InvalidSpec:
    able = [one.name for one in configuration.runtimes.values() if capability.name in one.capabilities]
    where = f"runtimes that have it: {', '.join(sorted(able))}" if able else "no configured runtime has it"
    return InvalidSpec(
        UNSUPPORTED_SPEC, f"`{capability.field}` needs what runtime `{runtime.name}` lacks; {where}"
    )


def _known(names: Iterable[str]) -> str:
    return f"the operator's configuration has: {', '.join(sorted(names))}"
