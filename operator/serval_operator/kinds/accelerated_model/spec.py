"""The spec of an AcceleratedModel, typed: the source of its schema, of its parser and of its docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from serval_contract.models import TENSORFLOW
from serval_contract.schemes import OCI, PVC
from serval_operator.api.blocks.names import listed
from serval_operator.api.blocks.rollout import MAX_REPLICAS
from serval_operator.api.blocks.runtime import Resources
from serval_operator.api.blocks.scheduling import Accelerator
from serval_operator.api.blocks.served import ServedSpec, parse_served
from serval_operator.api.blocks.source import ConfigMapKey, ModelSource, SecretRef
from serval_operator.api.parse import invalid
from serval_operator.api.schema import Block, Items, Nested, Number, Rule, Text, Whole, Words

Featurizer = Literal["ResNet50", "ResNet152", "DenseNet121", "VGG16", "SSDVGG"]
Weights = Literal["Keras", "Azure", "Random"]
Quantization = Literal["Int8", "Float"]
RANDOM: Final = "Random"
INT8: Final = "Int8"
_MADE_HERE: Final = ("model", "featurizer", "weights", "preprocessing", "inputs", "outputs", "conversion")
"""Fields of a model that is converted, in contrast to a converted artifact."""
_ARTIFACT_PATTERN: Final = OCI.pattern.replace("(@sha256:[a-f0-9]{64})?", "@sha256:[a-f0-9]{64}").replace(
    "\\", r"\\"
)
_PVC_PATTERN: Final = PVC.pattern.replace("\\", r"\\")
_CHANNELS: Final = "One channel."


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact(Block):
    """An artifact that was converted elsewhere: `spec.artifact`."""

    uri: Annotated[
        str,
        Text(
            "Image with the converted model, by digest: oci://REGISTRY/REPOSITORY@sha256:DIGEST.",
            max_length=1024,
            rules=(
                Rule(
                    f"self.matches('^{_ARTIFACT_PATTERN}$')",
                    "must be oci://REGISTRY/REPOSITORY@sha256:DIGEST; a tag may mean another image tomorrow",
                ),
            ),
        ),
    ]
    secret_ref: Annotated[
        SecretRef | None,
        Nested("Pull secret of the same namespace. When absent, the image is pulled anonymously.", SecretRef),
    ] = None
    ca_config_map_ref: Annotated[
        ConfigMapKey | None,
        Nested(
            "Certificate authorities of the registry in addition to the public ones: a key of a ConfigMap "
            "in the same namespace, in PEM. The image is fetched then, not mounted by the node.",
            ConfigMapKey,
        ),
    ] = None

    def check(self, path: str) -> None:
        """Check the address."""
        if not OCI.accepts(self.uri) or "@" not in self.uri:
            raise invalid(f"`{path}.uri` must be oci://REGISTRY/REPOSITORY@sha256:DIGEST")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec(Block):
    """A tensor of the user's graph."""

    name: Annotated[
        str,
        Text(
            "Name of the tensor, such as Placeholder:0.",
            max_length=512,
            min_length=1,
            pattern="^[A-Za-z0-9._/:-]+$",
        ),
    ]
    shape: Annotated[
        tuple[int, ...],
        Items(
            "Its dimensions, -1 for one of any size. When absent, those of the graph.",
            Whole("One dimension.", -1, 1_000_000),
            max_items=8,
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing(Block):
    """What replaces the catalogue's preprocessing of photos: `spec.preprocessing`."""

    resize: Annotated[
        Literal["ShorterSide", "Stretch"] | None,
        Words(
            "ShorterSide keeps the aspect and cuts the centre out; Stretch does not keep it.",
            ("ShorterSide", "Stretch"),
        ),
    ] = None
    shorter_side: Annotated[
        int | None, Whole("Length of the shorter side before the centre is cut out, in pixels.", 1, 4096)
    ] = None
    interpolation: Annotated[
        Literal["Bilinear", "Bicubic"] | None,
        Words("How pixels are interpolated.", ("Bilinear", "Bicubic")),
    ] = None
    order: Annotated[
        Literal["RGB", "BGR"] | None, Words("Order of the channels, of means and scales too.", ("RGB", "BGR"))
    ] = None
    means: Annotated[
        tuple[float, ...],
        Items(
            "What is subtracted from each channel, whose values are 0 to 255.",
            Number(_CHANNELS, -1000, 1000),
            max_items=3,
            min_items=3,
        ),
    ] = ()
    scales: Annotated[
        tuple[float, ...],
        Items(
            "What each channel is multiplied by then.",
            Number(_CHANNELS, -1000, 1000),
            max_items=3,
            min_items=3,
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration(Block):
    """Inputs that the quantization is calibrated with: `spec.conversion.calibration`."""

    uri: Annotated[
        str,
        Text(
            "pvc://CLAIM/PATH in a PersistentVolumeClaim of the same namespace: a folder with photos, or "
            "with arrays (.npy) for a model that takes numbers.",
            max_length=1024,
            rules=(
                Rule(
                    f"self.matches('^{_PVC_PATTERN}$')",
                    "must be pvc://CLAIM/PATH, where CLAIM is the name of a PersistentVolumeClaim",
                ),
                Rule("!self.contains('..')", "must not contain `..`"),
            ),
        ),
    ]

    @property
    def claim(self) -> str:
        """Name of the claim."""
        return self.uri.partition("://")[2].partition("/")[0]

    @property
    def folder(self) -> str:
        """Path in the claim, without slashes at its ends."""
        return self.uri.partition("://")[2].partition("/")[2].strip("/")

    def check(self, path: str) -> None:
        """Check the address."""
        if not PVC.accepts(self.uri) or ".." in self.uri:
            raise invalid(f"`{path}.uri` must be pvc://CLAIM/PATH without `..`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy(Block):
    """Thresholds: `spec.conversion.accuracy`. None leaves one to the converter."""

    min_cosine: Annotated[
        float | None,
        Number("Least mean cosine between the quantised features and those in floating point.", 0, 1),
    ] = None
    min_agreement: Annotated[
        float | None, Number("Least share of held-out inputs whose best class is the same.", 0, 1)
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion(Block):
    """How the model is converted: `spec.conversion`."""

    quantization: Annotated[
        Quantization,
        Words("Numbers of the device part. When absent, Int8.", get_args(Quantization)),
    ] = "Int8"
    calibration: Annotated[
        Calibration | None,
        Nested(
            "Inputs that the quantization is calibrated with. When absent, photos that come with the "
            "converter.",
            Calibration,
        ),
    ] = None
    accuracy: Annotated[
        Accuracy,
        Nested("Below these thresholds the conversion fails. When absent, the converter's own.", Accuracy),
    ] = field(default_factory=Accuracy)
    resources: Annotated[
        Resources,
        Nested(
            "CPU, memory and scratch space of the conversion, in place of what the operator knows of the "
            "network.",
            Resources,
            shapes_pods=False,
        ),
    ] = field(default_factory=Resources)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratedSpec(ServedSpec):
    """An AcceleratedModel's spec, checked."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.artifact) || !(" + " || ".join(f"has(self.{name})" for name in _MADE_HERE) + ")",
            f"{listed([f'`{name}`' for name in _MADE_HERE], 'and')} must be absent when `artifact` is "
            "set, which is converted already",
            field_path=".artifact",
        ),
        Rule(
            "has(self.artifact) || [has(self.featurizer), has(self.inputs)].filter(set, set).size() == 1",
            "exactly one of `featurizer`, `inputs` and `artifact` must be set",
        ),
        Rule(
            "has(self.inputs) == has(self.outputs)",
            "`inputs` and `outputs` must be set together",
            field_path=".outputs",
        ),
        Rule(
            "has(self.featurizer) || (!has(self.weights) && !has(self.preprocessing))",
            "`weights` and `preprocessing` must be absent when `featurizer` is absent",
            field_path=".featurizer",
        ),
        Rule(
            "has(self.artifact) || (has(self.weights) && self.weights == 'Random') != has(self.model)",
            "`model` must be set, and must be absent when `weights` is Random",
            field_path=".model",
        ),
        Rule(
            f"!has(self.model) || !has(self.model.framework) || self.model.framework == '{TENSORFLOW}'",
            f"must be {TENSORFLOW}: no other framework is converted",
            field_path=".model.framework",
        ),
        Rule(
            "!has(self.accelerator) || self.accelerator.count == 1",
            "must be 1: each replica programs one device",
            field_path=".accelerator.count",
        ),
    )

    model: Annotated[
        ModelSource | None,
        Nested(
            "What to convert and where its files are: weights of `featurizer`, or a SavedModel whose tensors "
            "`inputs` and `outputs` name. Absent with `weights: Random`.",
            ModelSource,
        ),
    ] = None
    artifact: Annotated[
        Artifact | None,
        Nested(
            "A model that another cluster or a CI converted already, in place of `model`. Nothing is "
            "converted here.",
            Artifact,
        ),
    ] = None
    featurizer: Annotated[
        Featurizer | None,
        Words(
            "Network of the catalogue whose weights `model` has. Its preprocessing, tensor names and default "
            "classifier are known.",
            get_args(Featurizer),
        ),
    ] = None
    weights: Annotated[
        Weights | None,
        Words(
            "What the weights were trained with, from which the preprocessing follows. When absent, the form "
            "of the files says it. Random makes weights up, for trials without a model.",
            get_args(Weights),
        ),
    ] = None
    preprocessing: Annotated[
        Preprocessing,
        Nested("What replaces parts of the catalogue's preprocessing.", Preprocessing),
    ] = field(default_factory=Preprocessing)
    inputs: Annotated[
        tuple[TensorSpec, ...],
        Items(
            "Where the graph of a model that is not in the catalogue is cut: the tensor that goes to the "
            "device.",
            Nested("One tensor.", TensorSpec),
            max_items=1,
            min_items=1,
        ),
    ] = ()
    outputs: Annotated[
        tuple[TensorSpec, ...],
        Items(
            "Tensors that clients get of such a model.",
            Nested("One tensor.", TensorSpec),
            max_items=32,
            min_items=1,
        ),
    ] = ()
    conversion: Annotated[Conversion, Nested("How the model is converted.", Conversion)] = field(
        default_factory=Conversion
    )
    replicas: Annotated[
        int,
        Whole(
            "How many pods serve the model, each on a device of its own. 0 stops them.",
            0,
            MAX_REPLICAS,
            stored=True,
            shapes_pods=False,
        ),
    ] = 1
    accelerator: Annotated[
        Accelerator | None,
        Nested(
            "The device of each replica: that of a profile that the administrator configured with an "
            "engine, or a resource by name. When absent, the only such profile, if there is one. Its count "
            "is 1.",
            Accelerator,
        ),
    ] = None

    def check(self, path: str) -> None:
        """Check what the rules of the CRD check, for objects that are older than a rule."""
        if self.artifact is None and bool(self.featurizer) == bool(self.inputs):
            raise invalid(f"`{path}` must have exactly one of `featurizer`, `inputs` and `artifact`")
        if self.artifact is not None and (self.model or self.featurizer or self.inputs):
            raise invalid(f"`{path}.model`, `featurizer` and `inputs` must be absent where `artifact` is set")
        if self.artifact is None and (self.weights == RANDOM) == bool(self.model):
            raise invalid(f"`{path}.model` must be set, and must be absent where `weights` is Random")
        if self.model is not None and self.model.framework != TENSORFLOW:
            raise invalid(f"`{path}.model.framework` must be {TENSORFLOW}")
        if self.accelerator is not None and self.accelerator.count != 1:
            raise invalid(f"`{path}.accelerator.count` must be 1")


def parse_spec(name: str, spec: Mapping[str, Any]) -> AcceleratedSpec:
    """Read a spec as the API server stored it; see `parse_served`."""
    return parse_served(AcceleratedSpec, name, spec)
