"""The networks that a model may name as its featurizer.

Sources: "Azure" is the package azureml-accel-models 1.62 and the notebooks of Azure's accelerated models;
"Keras" is `keras.applications` of Keras 3. The Keras networks take the place of Azure's: their inputs,
features and names of tensors are the same. The graphs are not (Azure's ResNet has the stride of a block in
its 3x3 convolution and no bias, Keras' has it in the first 1x1 convolution and a bias), so weights of one do
not fit the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from serval_serving.accel.artifact import STRING, Preprocessing, Tensor
from serval_serving.accel.catalogue import preprocessing, ssd
from serval_serving.accel.catalogue.preprocessing import Origin

IMAGES: Final = Tensor("Placeholder:0", STRING, (None,))
"""Any number of encoded photos. Azure's notebooks make it with a `tf.placeholder` that has no name."""
IMAGES_ALIAS: Final = "images"
"""The input in the signature, and the default of Azure's client."""
OUTPUT_ALIAS: Final = "output_alias"
"""The output in the signature of Azure's saved models."""
INPUT_TENSOR: Final = "InputImage:0"
"""The float input of Azure's featurizers: where the device part begins."""
FEATURES_TENSOR: Final = "brainwave_target_node_1_Version_0.1:0"
"""The features of Azure's classification featurizers: where the device part ends."""
OWN_CLASSIFIER_TENSOR: Final = "classifier_output/Softmax:0"
"""Output of a classifier of the user's own, as Azure's notebook of transfer learning names it."""
IMAGENET_CLASSES: Final = 1000

NetworkName = Literal["ResNet50", "ResNet152", "DenseNet121", "VGG16", "SSDVGG"]


@dataclass(frozen=True, slots=True)
class DefaultClassifier:
    """The ImageNet classifier of a network.

    Attributes
    ----------
    output:
        Float [N, classes].
    activation:
        Last step, by Keras' name; None for logits.
    classes:
        How many there are.
    also:
        Other names of the output, each a copy.
    """

    output: str
    activation: Literal["softmax"] | None = "softmax"
    classes: int = IMAGENET_CLASSES
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the catalogue.

    Attributes
    ----------
    name:
        As a manifest writes it.
    input:
        Float photos [N, height, width, 3], preprocessed.
    features:
        What the featurizer computes; one tensor [N, 1, 1, C], or of SSD the 12 tensors of its heads.
    classifier:
        None where the features are the answer.
    parameters:
        Weights of featurizer and default classifier, in number.
    preprocessing:
        By origin of the weights.
    """

    name: NetworkName
    input: Tensor
    features: tuple[Tensor, ...]
    classifier: DefaultClassifier | None
    parameters: int
    preprocessing: Mapping[Origin, Preprocessing]

    @property
    def channels(self) -> int:
        """Numbers in the features of one photo, for a classifier of the user's own.

        Raises
        ------
        ValueError
            The network is a detector.
        """
        if len(self.features) != 1:
            raise ValueError(f"{self.name} is a detector; it has no feature vector for a classifier")
        size = self.features[0].shape[-1]
        assert size is not None  # noqa: S101 - the catalogue's own data
        return size

    @property
    def outputs(self) -> Mapping[str, str]:
        """Tensors of the signature by alias, with the default classifier."""
        if self.classifier is None:
            # Azure's notebook of SSD-VGG names the outputs in the order of the tensors.
            return {f"out_{index}": one.name for index, one in enumerate(self.features)}
        return {OUTPUT_ALIAS: self.classifier.output}


def _classification(
    name: NetworkName,
    channels: int,
    parameters: int,
    classifier: DefaultClassifier,
    constants: Mapping[Origin, Preprocessing],
) -> Network:
    return Network(
        name=name,
        input=Tensor(INPUT_TENSOR, "float32", (None, 224, 224, 3)),
        features=(Tensor(FEATURES_TENSOR, "float32", (None, 1, 1, channels)),),
        classifier=classifier,
        parameters=parameters,
        preprocessing=constants,
    )


# Shapes of features and names of tensors: Azure. Numbers of parameters: Keras.
_ALL: Final = (
    _classification(
        "ResNet50",
        2048,
        25_636_712,
        # Azure's code has the first name; its README and a later article have the second, which TensorFlow
        # makes where a notebook imports the classifier twice.
        DefaultClassifier(
            "classifier/resnet_v1_50/predictions/Softmax:0",
            also=("classifier_1/resnet_v1_50/predictions/Softmax:0",),
        ),
        preprocessing.CAFFE,
    ),
    _classification(
        "ResNet152",
        2048,
        60_419_944,
        DefaultClassifier("classifier/resnet_v1_152/predictions/Softmax:0"),
        preprocessing.CAFFE,
    ),
    _classification(
        "DenseNet121",
        1024,
        8_062_504,
        DefaultClassifier("classifier/densenet121/predictions/Softmax:0"),
        preprocessing.DENSENET,
    ),
    _classification(
        "VGG16",
        4096,
        138_357_544,
        # Azure's output is the last layer before the softmax.
        DefaultClassifier("classifier/vgg_16/fc8/squeezed:0", activation=None),
        preprocessing.CAFFE,
    ),
    Network(
        name="SSDVGG",
        input=Tensor(INPUT_TENSOR, "float32", (None, ssd.SIDE, ssd.SIDE, 3)),
        features=ssd.OUTPUTS,
        classifier=None,
        parameters=26_285_486,
        preprocessing=preprocessing.SSD,
    ),
)
NETWORKS: Final[Mapping[str, Network]] = {one.name: one for one in _ALL}
"""By name."""


def network(name: str) -> Network:
    """Return a network of the catalogue.

    Raises
    ------
    ValueError
        There is none of that name.
    """
    if name not in NETWORKS:
        raise ValueError(f"there is no network {name!r} in the catalogue; there are {', '.join(NETWORKS)}")
    return NETWORKS[name]
