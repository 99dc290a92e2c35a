"""What the operator knows of the pods of a revision, beside their template.

A revision keeps its pod template, so its pods stay as they are whatever the operator's configuration says
later. What the status and the capacity verdict say of these pods must stay with them too, so these facts are
recorded with the template. Facts that this operator does not know are ignored; those that are missing are
derived from the template.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from serval_operator.api.capabilities import ADDED_BY_FRONT
from serval_operator.api.placement import Placement
from serval_operator.api.quantities import extended
from serval_operator.api.unstructured import mapping, mappings, whole
from serval_operator.constants import CONTAINER_FRONT, CONTAINER_SERVER, LABEL_ARCH

FORMAT: Final = 1
"""Form of the data of a ControllerRevision. The data is immutable, so another form gets another number."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the operator knows of the pods of a revision.

    Parameters
    ----------
    runtime:
        Name of the runtime; empty if it is not known.
    image:
        Image of the model server.
    capabilities:
        What clients may use of the pods, and the operator ask of them.
    own:
        What the kind records beside: JSON data.
    """

    runtime: str
    image: str
    capabilities: frozenset[str]
    placement: Placement
    own: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The facts as a ControllerRevision keeps them."""
        asked = self.placement
        placement = {
            "accelerator": asked.accelerator,
            "resourceName": asked.resource_name,
            "count": asked.count,
            "nodeSelector": dict(asked.node_selector),
            "tolerations": [dict(one) for one in asked.tolerations],
            "architectures": list(asked.architectures),
        }
        return {
            "runtime": self.runtime,
            "image": self.image,
            "capabilities": sorted(self.capabilities),
            "placement": {name: value for name, value in placement.items() if value},
            **({"own": dict(self.own)} if self.own else {}),
        }


def parse_facts(facts: Mapping[str, Any], template: Mapping[str, Any]) -> Facts:
    """Read recorded facts; total, as all parsing of stored objects is.

    Parameters
    ----------
    template:
        Pod template of the same revision. What the facts lack is derived from it.
    """
    containers = _containers(template)
    server = containers.get(CONTAINER_SERVER, {})
    recorded = facts.get("placement")
    capabilities = facts.get("capabilities")
    if not isinstance(capabilities, list):
        # A front adds these, whatever the server behind it can do.
        capabilities = [*ADDED_BY_FRONT] if CONTAINER_FRONT in containers else []
    return Facts(
        runtime=str(facts.get("runtime") or ""),
        image=str(facts.get("image") or server.get("image") or ""),
        capabilities=frozenset(str(one) for one in capabilities),
        placement=_placement(recorded)
        if isinstance(recorded, Mapping)
        else _derived_placement(template, server),
        own=mapping(facts, "own"),
    )


def _placement(recorded: Mapping[str, Any]) -> Placement:
    return Placement(
        accelerator=str(recorded.get("accelerator") or ""),
        resource_name=str(recorded.get("resourceName") or ""),
        count=whole(recorded.get("count")),
        node_selector=mapping(recorded, "nodeSelector"),
        tolerations=tuple(mappings(recorded, "tolerations")),
        architectures=_texts(recorded.get("architectures")),
    )


def _derived_placement(template: Mapping[str, Any], server: Mapping[str, Any]) -> Placement:
    """Placement that a template shows. It cannot tell a profile, so the resource stands for it."""
    spec = mapping(template, "spec")
    devices = extended(mapping(mapping(server, "resources"), "limits"))
    name, count = next(((name, count) for name, count in devices.items() if count), ("", 0))
    return Placement(
        accelerator=name,
        resource_name=name,
        count=count,
        node_selector=mapping(spec, "nodeSelector"),
        tolerations=tuple(mappings(spec, "tolerations")),
        architectures=_architectures(spec),
    )


def _architectures(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Architectures that the required node affinity of a pod spec names, as our builder writes it."""
    affinity = mapping(mapping(spec, "affinity"), "nodeAffinity")
    required = mapping(affinity, "requiredDuringSchedulingIgnoredDuringExecution")
    terms = mappings(required, "nodeSelectorTerms")
    rules = (rule for term in terms for rule in mappings(term, "matchExpressions"))
    named = next((rule for rule in rules if rule.get("key") == LABEL_ARCH), {})
    return _texts(named.get("values"))


def _texts(value: object) -> tuple[str, ...]:
    """Entries of a list as texts; none if it is not a list."""
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _containers(template: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Containers of a pod template by name. Behind a front the server is an init container."""
    spec = mapping(template, "spec")
    every = (*mappings(spec, "initContainers"), *mappings(spec, "containers"))
    return {str(one.get("name", "")): one for one in every}
