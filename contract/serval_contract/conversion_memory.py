"""How much memory a conversion needs. Measured on the networks of the catalogue: docs/conversion.md."""

from __future__ import annotations

from typing import Final

GIB: Final = 1 << 30
MIN_BYTES: Final = 2 * GIB
"""TensorFlow's import alone takes 0.6 GiB."""
FROZEN_EXTRA_BYTES: Final = GIB // 2
"""What a model with its weights in the graph needs in addition: the parsed graph holds them once more."""

_BASE_BYTES: Final = GIB
_COPIES: Final = 6


def needed_bytes(weights_bytes: int, *, frozen: bool = False) -> int:
    """Return the memory that a conversion needs, in bytes: 1 GiB + 6 x weights in whole GiB, at least 2 GiB.

    Parameters
    ----------
    weights_bytes:
        Bytes of the weights in floating point.
    frozen:
        Whether they are constants in the graph, as in a model that was exported without variables.
    """
    wanted = _BASE_BYTES + _COPIES * weights_bytes
    needed = max(MIN_BYTES, -(-wanted // GIB) * GIB)
    return needed + FROZEN_EXTRA_BYTES if frozen else needed
