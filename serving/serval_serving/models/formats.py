"""The formats of models: one table for the fetcher, which brings models, and the server, which loads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from serval_contract.models import ACCELERATED, ONNX, TENSORFLOW
from serval_serving.accel.artifact import CONVERSION_FILE
from serval_serving.models.artifacts import read_artifact_signature
from serval_serving.models.onnxmodel import ONNX_FILE, choose_onnx_file, read_onnx_signature
from serval_serving.models.savedmodel import SAVED_MODEL_FILE, ModelInvalid, Signature
from serval_serving.models.savedmodel_files import SAVED_MODEL_TEXT, read_saved_model

TFLITE_MAGIC: Final = b"TFL3"
"""Bytes 4 to 8 of a TensorFlow Lite model."""
HDF5_MAGIC: Final = b"\x89HDF"


@dataclass(frozen=True, slots=True)
class Format:
    """A format that is served.

    Attributes
    ----------
    framework:
        As ``spec.model.framework`` has it.
    kind:
        What a model is called in messages.
    models:
        The same in the plural, without an article.
    wanted:
        The file that a folder lacks when it holds no such model, in words.
    bare_file:
        What a model is called that comes as a single file; None where that cannot be.
    choose:
        Picks, among the names of a folder's files, the one that makes it a model; None without one.
    signatures:
        Reads the signatures of the model in a folder: if it is a SavedModel, of the graph with these tags.
    """

    framework: str
    kind: str
    models: str
    wanted: str
    bare_file: str | None
    choose: Callable[[Iterable[str]], str | None]
    signatures: Callable[[Path, Sequence[str]], Mapping[str, Signature]]

    def is_in(self, files: Iterable[str]) -> bool:
        """Whether a folder with these files holds such a model, even if it is not clear which file it is."""
        try:
            return self.choose(files) is not None
        except ModelInvalid:
            return True

    def fits(self, folder: Path) -> bool:
        """Whether `folder` holds such a model; False where it cannot be read."""
        try:
            return self.is_in([path.name for path in folder.iterdir() if path.is_file()])
        except OSError:
            return False


def _choose_saved_model(files: Iterable[str]) -> str | None:
    names = set(files)
    return next((name for name in (SAVED_MODEL_FILE, SAVED_MODEL_TEXT) if name in names), None)


ARTIFACT_FORMAT: Final = Format(
    ACCELERATED,
    "an artifact of an AcceleratedModel",
    "artifacts of AcceleratedModels",
    CONVERSION_FILE,
    None,
    lambda files: CONVERSION_FILE if CONVERSION_FILE in files else None,
    lambda folder, _: read_artifact_signature(folder),
)
SAVED_MODEL_FORMAT: Final = Format(
    TENSORFLOW,
    "a SavedModel",
    "SavedModels",
    SAVED_MODEL_FILE,
    None,
    _choose_saved_model,
    lambda folder, tags: read_saved_model(folder, tags=tags).signatures,
)
ONNX_FORMAT: Final = Format(
    ONNX,
    "an ONNX model",
    "ONNX models",
    f"{ONNX_FILE} or other ONNX file",
    ONNX_FILE,
    choose_onnx_file,
    lambda folder, _: read_onnx_signature(folder).signatures,
)
FORMATS: Final = (ARTIFACT_FORMAT, SAVED_MODEL_FORMAT, ONNX_FORMAT)
"""All formats. The server loads a folder with files of several as the first of them: an artifact has ONNX
files as its parts, and a SavedModel may have them as assets."""

_TFLITE: Final = (
    "a TensorFlow Lite model, which is not served; deploy the SavedModel that it was converted from, or"
    " convert it by tf2onnx and set spec.model.framework to ONNX"
)
_KERAS: Final = "a Keras model, which is not served; export it as a SavedModel by model.export(folder)"
_TORCH: Final = "a PyTorch model, which is not served; export it by torch.onnx.export as ONNX"
_PICKLE: Final = "a pickled Python object, which is not served; convert it to ONNX, such as by skl2onnx"
FOREIGN: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".tflite": _TFLITE,
        ".keras": _KERAS,
        ".h5": _KERAS,
        ".pt": _TORCH,
        ".pth": _TORCH,
        ".safetensors": "a file of weights without a graph; export the model as a SavedModel or as ONNX",
        ".pkl": _PICKLE,
        ".joblib": _PICKLE,
        ".pb": "a graph that is no SavedModel, which is not served; export the model as a SavedModel, or"
        " convert it by tf2onnx and set spec.model.framework to ONNX",
    }
)
"""What files are that others serve, with the cure, by the end of their names."""


def format_of(files: Iterable[str]) -> Format | None:
    """Return the format as which the server loads a folder with these files; None for none."""
    names = tuple(files)
    return next((one for one in FORMATS if one.is_in(names)), None)


def foreign(files: Iterable[str]) -> str:
    """Say what the first file is that is known and not served, such as "model.tflite is ..."; else empty."""
    for name in sorted(files):
        words = FOREIGN.get(Path(name).suffix.lower())
        if words is not None and not name.startswith("."):
            return f"{name} is {words}"
    return ""


def foreign_file(head: bytes) -> str:
    """Say by its first bytes what a file is that is not served, after "is"; else empty."""
    if head[4:8] == TFLITE_MAGIC:
        return _TFLITE
    return _KERAS if head.startswith(HDF5_MAGIC) else ""
