"""Which runtime, image and nodes a spec comes to under a configuration."""

from __future__ import annotations

from collections.abc import Iterable

from serval_operator.api.model import Accelerator, ModelSpec
from serval_operator.api.resolved import Resolved
from serval_operator.api.spec_blocks import AUTO, ENABLED
from serval_operator.config import Configuration, FrontSettings, Profile, Runtime
from serval_operator.constants import (
    CAP_BATCHING,
    CAP_CONCURRENCY_LIMIT,
    CAP_RAW_SCORE,
    FRONT_ADDS,
    FRONT_STANDS_ON,
    UNKNOWN_PROFILE,
    UNKNOWN_RUNTIME,
    UNSUPPORTED_SPEC,
)
from serval_operator.errors import InvalidSpec

_NO_PROFILE = Profile(name="", resource_name="", node_selector={}, tolerations=(), scalable=False)


def resolve(spec: ModelSpec, configuration: Configuration) -> Resolved:
    """Look up what the spec names.

    Raises
    ------
    InvalidSpec
        The runtime or profile is unknown, the PriorityClass is not allowed, or the runtime lacks what the
        spec asks for, and no front adds it.
    """
    _check_priority(spec, configuration)
    runtime = _runtime(spec, configuration)
    accelerator, scheduling = spec.accelerator, spec.scheduling
    profile = _profile(accelerator, configuration)
    resource = (accelerator.resource_name if accelerator else "") or profile.resource_name
    return Resolved(
        spec=spec,
        runtime=runtime,
        fetch=configuration.fetch,
        image=runtime.image(profile.name or _kin(resource, runtime, configuration)),
        accelerator=(accelerator.profile or accelerator.resource_name) if accelerator else "",
        resource_name=resource,
        resource_count=accelerator.count if accelerator and resource else 0,
        node_selector={**profile.node_selector, **scheduling.node_selector},
        tolerations=(*profile.tolerations, *scheduling.tolerations),
        runtime_class=scheduling.runtime_class or profile.runtime_class,
        scalable=profile.scalable,
        when_unavailable=accelerator.when_unavailable if accelerator else AUTO,
        rollout=spec.rollout,
        front=_front(spec, runtime, configuration),
    )


def asks_of_server(spec: ModelSpec) -> dict[str, str]:
    """What a spec asks of the server that not every runtime has: capabilities by field."""
    endpoint = spec.endpoint
    asked = {
        "`spec.runtime.batching`": CAP_BATCHING if spec.batching else "",
        "`spec.endpoint.rawBytes`": CAP_RAW_SCORE if endpoint.raw_bytes == ENABLED else "",
        "`spec.endpoint.maxConcurrentRequests`": (
            CAP_CONCURRENCY_LIMIT if endpoint.max_concurrent_requests else ""
        ),
    }
    return {field: capability for field, capability in asked.items() if capability}


def _front(spec: ModelSpec, runtime: Runtime, configuration: Configuration) -> FrontSettings | None:
    """What has to stand before the runtime's server; None where that can do all by itself."""
    possible = configuration.front is not None and runtime.capabilities >= FRONT_STANDS_ON
    lacking = {field: one for field, one in asks_of_server(spec).items() if one not in runtime.capabilities}
    for field, capability in lacking.items():
        if not possible or capability not in FRONT_ADDS:
            raise _lacks(runtime, field, capability, configuration)
    return configuration.front if lacking else None


def _check_priority(spec: ModelSpec, configuration: Configuration) -> None:
    name, allowed = spec.scheduling.priority_class, configuration.allowed_priority_classes
    if name and allowed and name not in allowed:
        text = f"`spec.scheduling.priorityClassName` must not be {name}; allowed are: {', '.join(allowed)}"
        raise InvalidSpec(UNSUPPORTED_SPEC, text)


def _runtime(spec: ModelSpec, configuration: Configuration) -> Runtime:
    return _named(spec, configuration) if spec.runtime else _chosen(spec, configuration)


def _named(spec: ModelSpec, configuration: Configuration) -> Runtime:
    runtime = configuration.runtimes.get(spec.runtime)
    if runtime is None:
        known = _known(configuration.runtimes)
        raise InvalidSpec(UNKNOWN_RUNTIME, f"there is no runtime `{spec.runtime}`; {known}")
    if not _serves(runtime, spec.model.framework):
        raise _misfit(f"runtime `{runtime.name}`", runtime, spec.model.framework, configuration)
    return runtime


def _chosen(spec: ModelSpec, configuration: Configuration) -> Runtime:
    """The default runtime where it serves the framework, else the first by name that lists it."""
    framework, default = spec.model.framework, configuration.runtimes[configuration.default_runtime]
    if _serves(default, framework):
        return default
    listing = [name for name, one in configuration.runtimes.items() if framework in one.frameworks]
    if not listing:
        raise _misfit(f"the default runtime `{default.name}`", default, framework, configuration)
    return configuration.runtimes[min(listing)]


def _serves(runtime: Runtime, framework: str) -> bool:
    return not runtime.frameworks or framework in runtime.frameworks


def _misfit(what: str, runtime: Runtime, framework: str, configuration: Configuration) -> InvalidSpec:
    able = sorted(name for name, one in configuration.runtimes.items() if _serves(one, framework))
    cure = f"runtimes that serve it: {', '.join(able)}" if able else "an administrator must add one that does"
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


def _kin(resource: str, runtime: Runtime, configuration: Configuration) -> str:
    """A profile of the same resource for which the runtime has an image: a GPU spelled out is still a GPU."""
    profiles = configuration.profiles.values()
    kin = [one.name for one in profiles if one.resource_name == resource and one.name in runtime.images]
    return min(kin, default="") if resource else ""


def _lacks(runtime: Runtime, field: str, capability: str, configuration: Configuration) -> InvalidSpec:
    able = [one.name for one in configuration.runtimes.values() if capability in one.capabilities]
    where = f"runtimes that have it: {', '.join(sorted(able))}" if able else "no configured runtime has it"
    return InvalidSpec(UNSUPPORTED_SPEC, f"{field} needs what runtime `{runtime.name}` lacks; {where}")


def _known(names: Iterable[str]) -> str:
    return f"the operator's configuration has: {', '.join(sorted(names))}"
