"""What an artifact holds: the files of a converted model, and `conversion.json`, which describes them.

An artifact is a folder:

=====================  ==================================================================================
``conversion.json``    `Conversion`
``device.onnx``        the part that runs on the device (``device.xmodel`` where another tool compiled it)
``classifier.onnx``    optional: what follows the device part, in floating point, on the CPU
``host.pb``            optional: the user's own preprocessing, a frozen TensorFlow GraphDef
=====================  ==================================================================================

The parts run one after another. Each takes tensors by name and adds its outputs to them; the outputs of the
signature are selected from all of them. So a name means the same tensor in every part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast

CONVERSION_FILE: Final = "conversion.json"
DEVICE_ONNX: Final = "device.onnx"
DEVICE_XMODEL: Final = "device.xmodel"
CLASSIFIER_FILE: Final = "classifier.onnx"
HOST_FILE: Final = "host.pb"
FORMAT: Final = 1
"""Version of the layout. A reader refuses any other."""
MAX_CONVERSION_BYTES: Final = 1 << 20
STRING: Final = "string"
"""The dtype of a tensor of bytes; all other dtypes have numpy's names."""

Resize = Literal["ShorterSide", "Stretch"]
Interpolation = Literal["Bilinear", "Bicubic"]
Order = Literal["RGB", "BGR"]
HostKind = Literal["Images", "Graph", "None"]
Quantization = Literal["Int8", "Float"]


class ArtifactError(ValueError):
    """The folder is no artifact that this version can read; the message says why."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor by the name that it has in every part.

    Attributes
    ----------
    name:
        Such as ``InputImage:0``.
    dtype:
        numpy's name, or `STRING`.
    shape:
        None for a dimension of any size.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a decoded photo of three channels becomes a network's input.

    Each channel c of a pixel x becomes ``(x - means[c]) * scales[c]``, x from 0 to 255.

    Attributes
    ----------
    height, width:
        Of the network's input, in pixels.
    resize:
        `ShorterSide` keeps the aspect, makes the shorter side `shorter_side` long and cuts the centre out.
        `Stretch` does not keep it.
    shorter_side:
        In pixels; not used by `Stretch`.
    interpolation:
        As TensorFlow 1 resizes: corners not aligned, no half-pixel centres.
    order:
        Order of the channels in the input, and of `means` and `scales`.
    """

    height: int
    width: int
    resize: Resize
    shorter_side: int
    order: Order
    means: tuple[float, float, float]
    scales: tuple[float, float, float]
    interpolation: Interpolation = "Bilinear"


@dataclass(frozen=True, slots=True)
class Host:
    """The part before the device.

    Attributes
    ----------
    kind:
        `Images` decodes photos and applies `preprocessing`, `Graph` runs `HOST_FILE`, `None` passes the
        signature's inputs on as they are.
    inputs, outputs:
        What it takes and adds; both empty for `None`.
    """

    kind: HostKind
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    preprocessing: Preprocessing | None = None
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A file that runs: the device part or the classifier.

    Attributes
    ----------
    file:
        Its name in the folder.
    sha256:
        ``sha256:<hex>`` over the file.
    inputs, outputs:
        Tensors that it takes and adds.
    """

    file: str
    sha256: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Conversion:
    """An artifact's `conversion.json`.

    Attributes
    ----------
    inputs, outputs:
        The signature `serving_default`: tensors by alias.
    network:
        Name in the catalogue; empty for a model with explicit shapes.
    weights:
        Where they come from: `Random`, `User` or `ImageNet`.
    quantization:
        Of the device part.
    source_digest:
        ``sha256:<hex>`` of the model that was converted.
    converter:
        Versions of what converted it, as a reader prints them.
    report:
        What the conversion measured: accuracy, sizes in bytes, seconds, peak memory in bytes.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    host: Host
    device: Part
    classifier: Part | None
    quantization: Quantization
    network: str = ""
    weights: str = "User"
    source_digest: str = ""
    converter: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)

    def dump(self) -> str:
        """Return the file's text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True) + "\n"


def read_conversion(folder: Path) -> Conversion:
    """Read an artifact's `conversion.json`.

    Raises
    ------
    ArtifactError
        There is none, or it is not as `Conversion` says, or the device part that it names is missing.
    """
    path = folder / CONVERSION_FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONVERSION_BYTES + 1)
    except FileNotFoundError:
        raise ArtifactError(f"the artifact has no {CONVERSION_FILE}") from None
    if len(data) > MAX_CONVERSION_BYTES:
        raise ArtifactError(f"{CONVERSION_FILE} has more than {MAX_CONVERSION_BYTES} bytes")
    conversion = parse_conversion(data)
    for part in (conversion.device, conversion.classifier):
        if part is not None and not (folder / part.file).is_file():
            raise ArtifactError(f"the artifact has no {part.file}, which {CONVERSION_FILE} names")
    if conversion.host.kind == "Graph" and not (folder / HOST_FILE).is_file():
        raise ArtifactError(f"the artifact has no {HOST_FILE}, which {CONVERSION_FILE} needs")
    return conversion


def parse_conversion(data: bytes | str) -> Conversion:
    """Read the text of a `conversion.json`.

    Raises
    ------
    ArtifactError
        It is not as `Conversion` says.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{CONVERSION_FILE} is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ArtifactError(f"{CONVERSION_FILE} is no JSON object")
    if fields.get("format") != FORMAT:
        raise ArtifactError(
            f"{CONVERSION_FILE} has format {fields.get('format')!r}, and this version reads {FORMAT}"
        )
    try:
        return _conversion(fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{CONVERSION_FILE} is not as expected: {type(error).__name__}: {error}"
        ) from None


def _conversion(fields: Mapping[str, Any]) -> Conversion:
    classifier = fields.get("classifier")
    return Conversion(
        inputs=_aliases(fields["inputs"]),
        outputs=_aliases(fields["outputs"]),
        host=_host(fields["host"]),
        device=_part(fields["device"], (DEVICE_ONNX, DEVICE_XMODEL)),
        classifier=None if classifier is None else _part(classifier, (CLASSIFIER_FILE,)),
        quantization=cast("Quantization", _word(fields["quantization"], ("Int8", "Float"))),
        network=str(fields.get("network", "")),
        weights=str(fields.get("weights", "User")),
        source_digest=str(fields.get("source_digest", "")),
        converter=str(fields.get("converter", "")),
        report=dict(fields.get("report", {})),
    )


def _host(fields: Mapping[str, Any]) -> Host:
    kind = cast("HostKind", _word(fields["kind"], ("Images", "Graph", "None")))
    preprocessing = fields.get("preprocessing")
    if (kind == "Images") != (preprocessing is not None):
        raise ValueError("`preprocessing` belongs to a host part of kind Images, and to no other")
    return Host(
        kind=kind,
        inputs=_tensors(fields.get("inputs", ())),
        outputs=_tensors(fields.get("outputs", ())),
        preprocessing=None if preprocessing is None else parse_preprocessing(preprocessing),
        sha256=str(fields.get("sha256", "")),
    )


def parse_preprocessing(fields: Mapping[str, Any]) -> Preprocessing:
    """Read `Preprocessing` from JSON data.

    Raises
    ------
    KeyError, TypeError, ValueError
        It is not as `Preprocessing` says.
    """
    return Preprocessing(
        height=_size(fields["height"]),
        width=_size(fields["width"]),
        resize=cast("Resize", _word(fields["resize"], ("ShorterSide", "Stretch"))),
        shorter_side=int(fields["shorter_side"]),
        order=cast("Order", _word(fields["order"], ("RGB", "BGR"))),
        means=_channels(fields["means"]),
        scales=_channels(fields["scales"]),
        interpolation=cast(
            "Interpolation", _word(fields.get("interpolation", "Bilinear"), ("Bilinear", "Bicubic"))
        ),
    )


def _part(fields: Mapping[str, Any], files: Sequence[str]) -> Part:
    return Part(
        file=_word(fields["file"], files),
        sha256=str(fields["sha256"]),
        inputs=_tensors(fields["inputs"]),
        outputs=_tensors(fields["outputs"]),
    )


def _aliases(fields: Mapping[str, Any]) -> dict[str, Tensor]:
    return {str(alias): _tensor(one) for alias, one in fields.items()}


def _tensors(fields: Sequence[Mapping[str, Any]]) -> tuple[Tensor, ...]:
    return tuple(_tensor(one) for one in fields)


def _tensor(fields: Mapping[str, Any]) -> Tensor:
    shape = tuple(None if size is None else _size(size) for size in fields["shape"])
    return Tensor(name=str(fields["name"]), dtype=str(fields["dtype"]), shape=shape)


def _size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no size")
    return value


def _channels(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _word(value: object, words: Sequence[str]) -> str:
    if value not in words:
        raise ValueError(f"{value!r} is none of {', '.join(words)}")
    return str(value)
