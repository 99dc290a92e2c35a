"""The five networks as data: sizes, constants, tensor names, anchors. Needs numpy alone."""

from serval_serving.accel.catalogue.networks import (
    IMAGES,
    NETWORKS,
    OUTPUT_ALIAS,
    OWN_CLASSIFIER_TENSOR,
    DefaultClassifier,
    Network,
    network,
)
from serval_serving.accel.catalogue.preprocessing import ORIGINS, Origin, override_preprocessing

__all__ = [
    "IMAGES",
    "NETWORKS",
    "ORIGINS",
    "OUTPUT_ALIAS",
    "OWN_CLASSIFIER_TENSOR",
    "DefaultClassifier",
    "Network",
    "Origin",
    "network",
    "override_preprocessing",
]
