"""Objects of all kinds that ask for the same devices, as the queue for devices sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from serval_operator.api.blocks.scheduling import WAIT, WhenBusy
from serval_operator.api.naming import Key
from serval_operator.api.placement import Placement
from serval_operator.api.unstructured import mapping, whole

REPLACEMENT = "replacement"
"""Field of the status of an object that took the place of another one."""
REPLACED_BY = "replacedBy"
"""Field of the status of an object whose place was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What an object asks of the queue for devices.

    Parameters
    ----------
    placement:
        What each pod asks of a node: an extended resource among it.
    wanted:
        Pods that should run.
    priority_class:
        Name of the PriorityClass of the pods; empty for the cluster's default.
    when_busy:
        `spec.accelerator.whenBusy`.
    together:
        Whether fewer pods than wanted are of no use.
    prepared:
        Whether pods can be made. An object that is not prepared wants none, such as one that is being
        converted for the first time; but if it has a Deployment of an older spec, that one wants its pods.
    where:
        Equal for claims that the same nodes could take; derived once.
    """

    placement: Placement
    wanted: int
    priority_class: str = ""
    when_busy: WhenBusy = WAIT
    together: bool = False
    prepared: bool = True
    where: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        asked = self.placement
        object.__setattr__(self, "where", repr((asked.count, asked.labels, asked.tolerations)))

    @property
    def resource(self) -> str:
        """Extended resource."""
        return self.placement.resource_name

    @property
    def by_profile(self) -> bool:
        """Whether it names a profile, whose administrator says whether nodes may be added."""
        return self.placement.accelerator not in ("", self.placement.resource_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """`status.replacement`: whose place an object took.

    Parameters
    ----------
    generation:
        Generation of the object when it did. It does so once for each generation.
    kind, name, uid, target_generation:
        The object whose place it took, in the same namespace, and the generation of that one.
    replicas:
        Pods that it may have before all others; 0 once it has had them.
    """

    generation: int
    kind: str
    name: str
    uid: str
    target_generation: int
    replicas: int = 0

    def as_json(self) -> dict[str, Any]:
        """The record as the status has it."""
        fields = {
            "generation": self.generation,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "targetGeneration": self.target_generation,
            "replicas": self.replicas,
        }
        return {name: value for name, value in fields.items() if value}


def parse_replacement(status: Mapping[str, Any]) -> Replacement | None:
    """Read `status.replacement`; None if it is absent. Total, as all parsing is."""
    record = mapping(status, REPLACEMENT)
    if not record.get("uid"):
        return None
    return Replacement(
        generation=whole(record.get("generation")),
        kind=str(record.get("kind", "")),
        name=str(record.get("name", "")),
        uid=str(record["uid"]),
        target_generation=whole(record.get("targetGeneration")),
        replicas=whole(record.get("replicas")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """An object that asks for devices, and the state of its pods.

    Parameters
    ----------
    made:
        Whether there is something that asks Kubernetes for its pods, such as a Deployment.
    asked:
        Pods that Kubernetes is asked for.
    placed:
        Pods that have a node and are neither ended nor being stopped.
    on_nodes:
        Name and node of each pod that holds devices, those that are being stopped included.
    homeless:
        Pods of which the scheduler says that no node takes them.
    homeless_since:
        When the newest of them was made; None if that is not known.
    lacks_device:
        Whether the scheduler says of all of these that a node lacks the device.
    rolling:
        Whether it has pods of several revisions.
    refused:
        Whether the cluster refuses to create its pods, such as for a quota.
    blocked:
        Whether its status says that something else about its spec keeps its pods from being made.
    since:
        When it began to wait for a device; None if its status does not say that it waits.
    queued:
        Whether its status has its place in the queue.
    record:
        Whose place it took, or None.
    was_replaced:
        Whether the place of this very generation was taken.
    freed:
        When the operator last saw one of its pods end; None if it did not.
    """

    key: Key
    uid: str
    generation: int
    created: datetime | None
    claim: Claim
    made: bool = False
    asked: int = 0
    placed: int = 0
    on_nodes: tuple[tuple[str, str], ...] = ()
    homeless: int = 0
    homeless_since: datetime | None = None
    lacks_device: bool = True
    rolling: bool = False
    refused: bool = False
    blocked: bool = False
    since: datetime | None = None
    queued: bool = False
    record: Replacement | None = None
    was_replaced: bool = False
    freed: datetime | None = None

    @property
    def is_short(self) -> bool:
        """Whether fewer of its pods have a device than it wants."""
        return self.claim.wanted > self.placed

    @property
    def may_replace(self) -> bool:
        """Whether it may take the place of another object: once for each generation, and never back."""
        acted = self.record is not None and self.record.generation == self.generation
        return not (acted or self.was_replaced or self.refused or self.blocked or self.on_nodes)


@dataclass(frozen=True, slots=True)
class Priorities:
    """Values of PriorityClasses.

    Parameters
    ----------
    values:
        By name.
    default:
        Of pods without a class.
    known:
        Whether they are as complete as the operator's permissions allow. They are not where they could not be
        read yet: then no object takes the place of another one, which may have a higher priority.
    """

    values: Mapping[str, int] = field(default_factory=dict)
    default: int = 0
    known: bool = True

    def of(self, name: str) -> int:
        """Value of a class. One that is not known counts as the default."""
        return self.values.get(name, self.default) if name else self.default


@dataclass(frozen=True, slots=True)
class Rivals:
    """All objects that ask for a resource, in no order.

    Parameters
    ----------
    memo:
        Results that were derived from them, by the other inputs.
    """

    rivals: tuple[Rival, ...] = ()
    priorities: Priorities = field(default_factory=Priorities)
    memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Outlook:
    """The turn of an object, as far as it is known without asking the cluster.

    Parameters
    ----------
    contended:
        Whether the queue has to be looked at: the object lacks pods, and others ask for the resource or it
        waits already.
    replaced_by:
        The object that took its place; None while none has.
    """

    contended: bool = False
    replaced_by: Key | None = None
