"""The status of an AcceleratedModel: the source of its schema in the CRD and of its docs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from serval_operator.api.blocks.conditions import Condition, conditions
from serval_operator.api.blocks.jobs import STATUS_JOBS, JobStatus
from serval_operator.api.blocks.serving_status import ServingStatus
from serval_operator.api.schema import MAX_EXACT, Block, Nested, Number, Text, Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionStatus(Block):
    """The conversion that the newest spec asks for: `status.conversion`."""

    stage: Annotated[str, Text("Stage of the Job that runs.", max_length=63)] = ""
    percent: Annotated[int | None, Whole("How much of that stage is done.", 0, 100)] = None
    artifact: Annotated[
        str,
        Text("The artifact: an image by digest, or a folder in a claim.", max_length=1024),
    ] = ""
    source_digest: Annotated[str, Text("Digest of the model that was converted.", max_length=71)] = ""
    converter: Annotated[str, Text("Versions of what converted it.", max_length=256)] = ""
    quantization: Annotated[str, Text("Numbers of the device part.", max_length=63)] = ""
    weights: Annotated[str, Text("Where the weights come from.", max_length=63)] = ""
    cosine: Annotated[
        float | None, Number("Mean cosine between quantised features and those in floating point.", -1, 1)
    ] = None
    max_error: Annotated[float | None, Number("Largest error of a feature.", 0, MAX_EXACT)] = None
    agreement: Annotated[
        float | None, Number("Share of held-out inputs whose best class is the same.", 0, 1)
    ] = None
    images: Annotated[str, Text("Inputs that it was calibrated and compared with.", max_length=256)] = ""
    bytes: Annotated[int | None, Whole("Size of the artifact.", 0, MAX_EXACT)] = None
    seconds: Annotated[float | None, Number("How long it took, in seconds.", 0, MAX_EXACT)] = None
    peak_memory_bytes: Annotated[int | None, Whole("Most memory of a step.", 0, MAX_EXACT)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMovesStatus(Block):
    """Pods that were deleted because their devices were of no use: `status.deviceMoves`."""

    count: Annotated[int | None, Whole("How many, as long as the last one counts.", 1, MAX_EXACT)] = None
    last_time: Annotated[str, Text("When the last one was deleted.", max_length=64, format="date-time")] = ""
    pod: Annotated[str, Text("Its name.", max_length=253)] = ""
    node: Annotated[str, Text("The node that it was on.", max_length=253)] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(ServingStatus):
    """The status of an AcceleratedModel."""

    conversion: Annotated[
        ConversionStatus | None, Nested("The conversion that the newest spec asks for.", ConversionStatus)
    ] = None
    weights: Annotated[
        str, Text("Random where the weights are made up, so that the answers mean nothing.", max_length=63)
    ] = ""
    device: Annotated[str, Text("Accelerator profile or resource of the device.", max_length=253)] = ""
    engine: Annotated[
        str, Text("What programs and runs the device; emulator where no device computes.", max_length=63)
    ] = ""
    jobs: Annotated[tuple[JobStatus, ...], STATUS_JOBS] = ()
    device_moves: Annotated[
        DeviceMovesStatus | None,
        Nested(
            "Pods that were deleted so that another pod takes another device. The pauses between such moves "
            "double; an hour after the last one all are forgotten.",
            DeviceMovesStatus,
        ),
    ] = None
    conditions: Annotated[
        tuple[Condition, ...],
        conditions(
            "Ready, Available, Converted, AcceleratorAvailable, Scheduled, ModelFetched, ModelLoaded, "
            "DeviceProgrammed, EndpointReady, AcceleratorInUse and UpdateAvailable where they apply; "
            "Reconciling and Stalled only while they are True.",
        ),
    ] = ()
