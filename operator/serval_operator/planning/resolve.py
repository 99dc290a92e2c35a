"""Which runtime, image and nodes a spec comes to under a configuration."""

from __future__ import annotations

from collections.abc import Iterable

from serval_operator.api.model import SCORING_ENABLED, Accelerator, ModelSpec
from serval_operator.api.resolved import IN_PLACE, SURGE, Resolved
from serval_operator.config import Configuration, Profile, Runtime
from serval_operator.constants import (
    CAP_CONCURRENCY_LIMIT,
    CAP_RAW_SCORE,
    UNKNOWN_PROFILE,
    UNKNOWN_RUNTIME,
    UNSUPPORTED_SPEC,
)
from serval_operator.errors import InvalidSpec

_NO_PROFILE = Profile(name="", resource_name="", node_selector={}, tolerations=(), scalable=False)


def resolve(spec: ModelSpec, configuration: Configuration) -> Resolved:
    """Look up what the spec names.

    Replicas that hold an accelerator are replaced in place, since a spare device is seldom free and a surge
    pod without one would wait for ever; others surge, so that no capacity is lost.

    Raises
    ------
    InvalidSpec
        The runtime or profile is unknown, or the runtime lacks what the spec asks for.
    """
    runtime = _runtime(spec, configuration)
    accelerator = spec.accelerator
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
        node_selector={**profile.node_selector, **(accelerator.node_selector if accelerator else {})},
        tolerations=(*profile.tolerations, *(accelerator.tolerations if accelerator else ())),
        strategy=IN_PLACE if resource else SURGE,
    )


def _runtime(spec: ModelSpec, configuration: Configuration) -> Runtime:
    name = spec.runtime or configuration.default_runtime
    runtime = configuration.runtimes.get(name)
    if runtime is None:
        raise InvalidSpec(UNKNOWN_RUNTIME, f"there is no runtime `{name}`; {_known(configuration.runtimes)}")
    if runtime.frameworks and spec.model.framework not in runtime.frameworks:
        served = ", ".join(runtime.frameworks)
        raise InvalidSpec(
            UNSUPPORTED_SPEC, f"runtime `{name}` serves {served} and not {spec.model.framework}"
        )
    if spec.endpoint.scoring == SCORING_ENABLED and CAP_RAW_SCORE not in runtime.capabilities:
        raise _lacks(runtime, "`spec.endpoint.scoring`", CAP_RAW_SCORE, configuration)
    if spec.endpoint.max_concurrent_requests and CAP_CONCURRENCY_LIMIT not in runtime.capabilities:
        raise _lacks(runtime, "`spec.endpoint.maxConcurrentRequests`", CAP_CONCURRENCY_LIMIT, configuration)
    return runtime


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
