"""A classifier of the user's own: one dense layer over the features of a network."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

Activation = Literal["softmax", "sigmoid", "linear"]
ACTIVATIONS: Final[tuple[Activation, ...]] = ("softmax", "sigmoid", "linear")
MAX_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class DenseClassifier:
    """Scores of K classes: ``activation(features @ kernel + bias)``.

    Attributes
    ----------
    kernel:
        float32 [C, K].
    bias:
        float32 [K].
    activation:
        `linear` for logits.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: Activation = "softmax"

    def __call__(self, features: ArrayLike) -> NDArray[np.float32]:
        """Return the scores [N, K] of features [N, C]."""
        logits = np.asarray(features, np.float32) @ self.kernel + self.bias
        if self.activation == "softmax":
            shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
            return cast("NDArray[np.float32]", shifted / shifted.sum(axis=-1, keepdims=True))
        if self.activation == "sigmoid":
            return cast("NDArray[np.float32]", 1 / (1 + np.exp(-logits)))
        return cast("NDArray[np.float32]", logits)

    def save(self, path: Path) -> None:
        """Write the classifier as an ``.npz`` file with `kernel`, `bias` and `activation`."""
        with path.open("wb") as file:
            np.savez(file, kernel=self.kernel, bias=self.bias, activation=np.array(self.activation))


def dense_classifier(kernel: ArrayLike, bias: ArrayLike, activation: str = "softmax") -> DenseClassifier:
    """Return a classifier of arrays, such as `coef_.T` and `intercept_` of a scikit-learn model.

    Raises
    ------
    ValueError
        The shapes do not fit each other, a number is not finite, or the activation is unknown.
    """
    matrix, vector = np.asarray(kernel, np.float32), np.asarray(bias, np.float32)
    if matrix.ndim != 2 or vector.shape != matrix.shape[1:]:
        raise ValueError(
            "a classifier has a kernel [C, K] and a bias [K],"
            f" not {list(matrix.shape)} and {list(vector.shape)}"
        )
    if not (np.isfinite(matrix).all() and np.isfinite(vector).all()):
        raise ValueError("the classifier has numbers that are not finite")
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"the classifier's activation is {activation!r}, not one of {known}")
    return DenseClassifier(matrix, vector, activation)


def load_classifier(path: Path) -> DenseClassifier:
    """Read a classifier that `DenseClassifier.save` wrote.

    Raises
    ------
    ValueError
        It is no such file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(one.file_size for one in archive.infolist()) > MAX_BYTES:
                raise ValueError(f"{path.name} unpacks to more than {MAX_BYTES} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            names: Any = set(arrays.files)
            if not {"kernel", "bias"} <= names:
                raise ValueError(f"{path.name} has no arrays `kernel` and `bias`")
            activation = str(arrays["activation"]) if "activation" in names else "softmax"
            return dense_classifier(arrays["kernel"], arrays["bias"], activation)
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name} is no .npz file: {error}") from None
