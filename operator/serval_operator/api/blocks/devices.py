"""What the status says of devices that pods wait for, and of places that were taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from serval_operator.api.schema import MAX_EXACT, Block, Items, Nested, Text, Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder(Block):
    """A pod, or the owner of pods, that holds devices."""

    kind: Annotated[str, Text("Kind of the holder, such as ModelDeployment, or Pod.", max_length=63)] = ""
    namespace: Annotated[str, Text("Namespace of the holder.", max_length=63)] = ""
    name: Annotated[str, Text("Name of the holder.", max_length=253)] = ""
    node: Annotated[str, Text("Node that has the devices.", max_length=253)] = ""
    count: Annotated[int | None, Whole("Units that it holds.", 0, MAX_EXACT)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorStatus(Block):
    """What pods wait for: `status.accelerator`."""

    resource_name: Annotated[str, Text("Resource that the pods ask for.", max_length=253)] = ""
    requested: Annotated[
        int | None, Whole("Units that are missing, of all pods that wait.", 0, MAX_EXACT)
    ] = None
    free: Annotated[
        int | None,
        Whole(
            "Units that are free on nodes that may take the pods. Absent where no one counted.", 0, MAX_EXACT
        ),
    ] = None
    position: Annotated[
        int | None,
        Whole(
            "Place among all objects that wait for devices of the same nodes; 1 is the next. Absent while "
            "there is no queue.",
            1,
            MAX_EXACT,
        ),
    ] = None
    holders: Annotated[
        tuple[Holder, ...],
        Items(
            "Pods that hold such devices, those that hold most of them first.",
            Nested(
                "One holder. Where the operator hides those of other namespaces, only how much they hold.",
                Holder,
            ),
            max_items=10,
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement(Block):
    """Whose place this object took: `status.replacement`."""

    generation: Annotated[
        int | None, Whole("Generation of this object when it did; it does so once for each.", 0, MAX_EXACT)
    ] = None
    kind: Annotated[str, Text("Kind of the object that was stopped for it.", max_length=63)] = ""
    name: Annotated[str, Text("Name of that object, in the same namespace.", max_length=253)] = ""
    uid: Annotated[str, Text("uid of that object.", max_length=63)] = ""
    target_generation: Annotated[
        int | None, Whole("Generation of that object that stays stopped.", 0, MAX_EXACT)
    ] = None
    replicas: Annotated[
        int | None,
        Whole("Pods that get devices before all that wait. Absent once they had them.", 0, 100_000),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacedBy(Block):
    """Which object took the place of this one: `status.replacedBy`."""

    generation: Annotated[int | None, Whole("Generation of this object that was stopped.", 0, MAX_EXACT)] = (
        None
    )
    kind: Annotated[str, Text("Kind of the object that took its place.", max_length=63)] = ""
    name: Annotated[str, Text("Name of that object, in the same namespace.", max_length=253)] = ""
