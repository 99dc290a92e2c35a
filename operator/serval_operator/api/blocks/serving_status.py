"""The status of what serves a model: the source of its schema in the CRD and of its docs.

The module `serval_operator.workload.status` writes it, and nothing reads it into these classes. Bounds of
what a model's own files decide (versions, tensors) hold whatever fits the fetcher's report of 4096 bytes: an
unusual model must not make every write of the status fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from serval_operator.api.blocks.conditions import Condition, conditions
from serval_operator.api.blocks.devices import AcceleratorStatus, ReplacedBy, Replacement
from serval_operator.api.schema import MAX_EXACT, MAX_INT64, Block, Flag, Items, Nested, Text, Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointsStatus(Block):
    """Addresses of the model: `status.endpoints`."""

    scoring: Annotated[
        str, Text("URL that takes raw bytes by POST; absent where the runtime cannot.", max_length=512)
    ] = ""
    rest: Annotated[str, Text("URL of the model in TensorFlow Serving's REST API.", max_length=512)] = ""
    grpc: Annotated[str, Text("Address for gRPC clients, HOST:PORT.", max_length=512)] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor(Block):
    """An input or an output of the model."""

    name: Annotated[str, Text("Name that clients use.", max_length=4096)]
    dtype: Annotated[str, Text("Type of the elements, such as DT_FLOAT.", max_length=64)] = ""
    shape: Annotated[
        tuple[int, ...],
        Items(
            "Dimensions, -1 where any size will do. Absent where even their number is open.",
            Whole("One dimension.", -MAX_INT64, MAX_INT64),
            max_items=2048,
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus(Block):
    """The model as it was fetched: `status.model`."""

    name: Annotated[str, Text("Name under which clients ask for it.", max_length=63)] = ""
    version: Annotated[int | None, Whole("Version that is served.", 0, MAX_INT64)] = None
    digest: Annotated[
        str, Text("SHA-256 of the served version's files.", max_length=71, pattern="^sha256:[a-f0-9]{64}$")
    ] = ""
    pinned: Annotated[
        bool,
        Flag(
            "Whether replicas to come are bound to this version and digest, as they are where the "
            "spec names no version."
        ),
    ] = False
    inputs: Annotated[
        tuple[Tensor, ...],
        Items("Inputs of the signature serving_default.", Nested("One tensor.", Tensor), max_items=512),
    ] = ()
    outputs: Annotated[
        tuple[Tensor, ...],
        Items("Outputs of the signature serving_default.", Nested("One tensor.", Tensor), max_items=512),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveStatus(Block):
    """What the operator chose: `status.effective`."""

    runtime: Annotated[str, Text("Runtime that serves the model.", max_length=63)] = ""
    image: Annotated[str, Text("Image of the model server.", max_length=1024)] = ""
    strategy: Annotated[str, Text("How the newest change goes out, Surge or InPlace.", max_length=63)] = ""
    accelerator: Annotated[
        str, Text("Accelerator profile or resource that each replica takes.", max_length=253)
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement(Block):
    """The pods of one node."""

    node: Annotated[str, Text("Name of the node.", max_length=253, min_length=1)]
    zone: Annotated[str, Text("Zone of the node.", max_length=63)] = ""
    region: Annotated[str, Text("Region of the node.", max_length=63)] = ""
    replicas: Annotated[int | None, Whole("How many pods run there.", 0, 100_000)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LastFailure(Block):
    """The last failure of a pod: `status.lastFailure`."""

    reason: Annotated[str, Text("One of the reasons that conditions use.", max_length=128)] = ""
    message: Annotated[str, Text("What the pod, the node or the cluster said.", max_length=4096)] = ""
    pod: Annotated[str, Text("Name of the pod.", max_length=253)] = ""
    exit_code: Annotated[
        int | None, Whole("Exit code of the container that ended.", -2_147_483_648, 2_147_483_647)
    ] = None
    time: Annotated[str, Text("When it happened.", max_length=64, format="date-time")] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingStatus(Block):
    """The status of an object that serves a model."""

    observed_generation: Annotated[
        int | None,
        Whole("Generation of the spec that this status speaks of; -1 until it was seen.", -1, MAX_EXACT),
    ] = None
    replicas: Annotated[int | None, Whole("Pods that exist, of all revisions.", 0, 100_000)] = None
    ready_replicas: Annotated[
        int | None, Whole("Pods whose model answers, of all revisions.", 0, 100_000)
    ] = None
    updated_replicas: Annotated[int | None, Whole("Pods of the newest revision.", 0, 100_000)] = None
    replicas_summary: Annotated[str, Text("Ready replicas of those wanted, such as 2/3.", max_length=32)] = ""
    model_summary: Annotated[
        str, Text("Name and version of the model that is served, such as resnet50/3.", max_length=128)
    ] = ""
    selector: Annotated[str, Text("Label selector of the pods, for autoscalers.", max_length=512)] = ""
    revision: Annotated[str, Text("Revision of the pods that the newest spec asks for.", max_length=63)] = ""
    serving_revision: Annotated[
        str,
        Text(
            "The newest revision of which all replicas once answered: the one that a failed rollout "
            "goes back to.",
            max_length=63,
        ),
    ] = ""
    endpoints: Annotated[
        EndpointsStatus | None, Nested("Where the model is called from inside the cluster.", EndpointsStatus)
    ] = None
    model: Annotated[ModelStatus | None, Nested("The model as it was fetched.", ModelStatus)] = None
    effective: Annotated[
        EffectiveStatus | None,
        Nested("What the operator chose where the spec left it open.", EffectiveStatus),
    ] = None
    accelerator: Annotated[
        AcceleratorStatus | None,
        Nested(
            "What pods wait for, and who has it. Absent while none waits for a device.", AcceleratorStatus
        ),
    ] = None
    replacement: Annotated[
        Replacement | None, Nested("The object whose place this one took, if it did.", Replacement)
    ] = None
    replaced_by: Annotated[
        ReplacedBy | None,
        Nested("The object that took the place of this one. Absent once the spec has changed.", ReplacedBy),
    ] = None
    placement: Annotated[
        tuple[Placement, ...],
        Items("Where the pods run.", Nested("The pods of one node.", Placement), max_items=1000, key="node"),
    ] = ()
    last_failure: Annotated[
        LastFailure | None,
        Nested("The last failure of a pod. It stays after its cure, for the search of causes.", LastFailure),
    ] = None
    conditions: Annotated[
        tuple[Condition, ...],
        conditions(
            "Ready, Available, AcceleratorAvailable, Scheduled, ModelFetched, ModelLoaded, "
            "EndpointReady, AcceleratorInUse and UpdateAvailable where they apply; Reconciling and "
            "Stalled only while they are True.",
        ),
    ] = ()
