"""How much memory and scratch space the conversion of a network needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from serval_contract.conversion_memory import GIB, MIN_BYTES, needed_bytes
from serval_operator.kinds.accelerated_model.spec import AcceleratedSpec

PARAMETERS: Final[Mapping[str, int]] = {
    "ResNet50": 25_600_000,
    "ResNet152": 60_400_000,
    "DenseNet121": 8_100_000,
    "VGG16": 138_400_000,
    "SSDVGG": 26_300_000,
}
"""Weights of each featurizer with its default classifier, in number."""
_BYTES_EACH: Final = 4
"""Of a weight in floating point."""


def needed_memory(spec: AcceleratedSpec) -> str:
    """Memory of the stages that build and convert, as a quantity in whole GiB.

    The weights of a model that is not in the catalogue are not known before it is fetched: it gets the least.
    """
    weights = _weights(spec)
    return f"{(needed_bytes(weights) if weights else MIN_BYTES) // GIB}Gi"


def needed_scratch(spec: AcceleratedSpec) -> str:
    """Space for what the stages share, as a quantity in whole GiB.

    It holds the weights about four times: as fetched, built, converted and quantised. A model that is not in
    the catalogue gets the least.
    """
    wanted = 4 * _weights(spec) + GIB // 2
    return f"{max(2, -(-wanted // GIB))}Gi"


def _weights(spec: AcceleratedSpec) -> int:
    """Bytes of the weights in floating point; 0 where no one knows."""
    return PARAMETERS.get(str(spec.featurizer), 0) * _BYTES_EACH
