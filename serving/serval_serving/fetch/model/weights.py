"""Weights of a featurizer, as the Job of a conversion fetches them.

They are not read as a model: which of its forms they have, and whether they fit the featurizer, is found by
the stage that builds. Only what cannot be weights of Keras is refused here, by the first bytes of the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final

from serval_contract.models import WEIGHTS
from serval_serving.models.formats import HDF5_MAGIC, TFLITE_MAGIC, Format
from serval_serving.models.savedmodel import SAVED_MODEL_FILE, ModelInvalid, Signature

WEIGHTS_FILE: Final = "weights"
"""Name of weights that come as a single file. The stage that builds goes by the content."""
FORMS: Final = "a .keras or .h5 file, a SavedModel, or a checkpoint of TensorFlow"
CURE: Final = f"a featurizer takes {FORMS}"
HEAD_BYTES: Final = 512
"""First bytes of a file by which it is judged."""
_NAMED: Final = (".keras", ".h5", ".hdf5", ".index")
"""Ends of the names of files that are weights; the last is that of a checkpoint."""
_BESIDE: Final = frozenset({".md", ".txt", ".json", ".yaml", ".yml", ".csv"})
"""Ends of the names of files that often lie beside a model."""
_ONNX: Final = f"an ONNX model, and no weights of Keras; {CURE}"
_TORCH: Final = (
    "a file of PyTorch, and no weights of Keras; set them in the network of tf.keras.applications, save that"
    " by model.save(file), and name the file"
)
_PICKLE: Final = f"a pickled Python object (PyTorch's older files are such), and no weights of Keras; {CURE}"
_TFLITE: Final = f"a TensorFlow Lite model, and no weights of Keras; {CURE}"
_SAFETENSORS: Final = f"a file of safetensors, and no weights of Keras; {CURE}"
_PAGE: Final = f"a web page, and no weights: name the address of the file itself; {CURE}"
_POINTER: Final = f"a pointer of Git LFS, and no weights: name the address of the file itself; {CURE}"
_TEXT: Final = f"text, and no weights; {CURE}"
_EMPTY: Final = f"empty; {CURE}"
_BY_NAME: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".onnx": _ONNX,
        ".pt": _TORCH,
        ".pth": _TORCH,
        ".pkl": _PICKLE,
        ".joblib": _PICKLE,
        ".tflite": _TFLITE,
        ".safetensors": _SAFETENSORS,
    }
)
_NOT_BY_NAME: Final = _BESIDE | _BY_NAME.keys()
_PICKLED: Final = re.compile(rb"\x80[\x02-\x05]")
_ONNX_HEAD: Final = re.compile(rb"\x08[\x03-\x1f][\x12\x1a\x22\x28\x32\x3a\x42\x72]")
"""The version of the format, from 3 on, and the key of any field that may follow it."""
_SAFETENSORS_HEAD: Final = re.compile(rb".{4}\0{4}\{\"", re.DOTALL)
_LFS: Final = b"version https://git-lfs"
_TEXT_BYTES: Final = bytes({9, 10, 12, 13, *range(32, 127), *range(128, 256)})
_KERAS_MEMBERS: Final = frozenset({"metadata.json", "model.weights.h5"})


def no_weights(name: str, head: bytes) -> str:
    """Say what a file is that cannot be weights of Keras, with the cure, after "is"; else empty.

    Parameters
    ----------
    name:
        Of the file; empty if it says nothing.
    head:
        Its first bytes: `HEAD_BYTES` of them, or all.
    """
    if not head:
        return _EMPTY
    if head.startswith(HDF5_MAGIC):
        return ""
    if head[4:8] == TFLITE_MAGIC:
        return _TFLITE
    for pattern, words in ((_PICKLED, _PICKLE), (_ONNX_HEAD, _ONNX), (_SAFETENSORS_HEAD, _SAFETENSORS)):
        if pattern.match(head):
            return words
    if not head.translate(None, _TEXT_BYTES):
        return _what_text(head)
    return _BY_NAME.get(PurePosixPath(name).suffix.lower(), "")


def is_one_file(names: Iterable[str]) -> bool:
    """Whether a zip with these names is a file of weights, which is kept packed: one of Keras."""
    every = set(names)
    return "config.json" in every and not _KERAS_MEMBERS.isdisjoint(every)


def packed_foreign(names: Iterable[str]) -> str:
    """Say what a zip with these names is that cannot be weights of Keras, after "is"; else empty."""
    torch = any(name == "data.pkl" or name.endswith("/data.pkl") for name in names)
    return _TORCH if torch else ""


def may_be_weights(files: Iterable[str]) -> bool:
    """Whether one of a folder's files may be weights, though its name does not say so."""
    return any(PurePosixPath(name).suffix.lower() not in _NOT_BY_NAME for name in _visible(files))


def foreign_names(files: Iterable[str]) -> str:
    """Say what the first file is that cannot be weights by its name, such as "a.pth is ..."; else empty."""
    for name in _visible(files):
        words = _BY_NAME.get(PurePosixPath(name).suffix.lower())
        if words is not None:
            return f"{name} is {words}"
    return ""


def _what_text(head: bytes) -> str:
    if head.startswith(_LFS):
        return _POINTER
    start = head.lstrip().lower()
    return _PAGE if start.startswith((b"<!doctype html", b"<html", b"<?xml")) else _TEXT


def _visible(files: Iterable[str]) -> Iterator[str]:
    return (name for name in sorted(files) if not name.startswith("."))


def _choose(files: Iterable[str]) -> str | None:
    """Return the first file that is weights by its name."""
    names = list(_visible(files))
    if SAVED_MODEL_FILE in names:
        return SAVED_MODEL_FILE
    return next((name for name in names if name.lower().endswith(_NAMED)), None)


def _check(folder: Path) -> Mapping[str, Signature]:
    """Check that at least one file of a folder may be weights; there are no signatures.

    Raises
    ------
    ModelInvalid
        None may be; the message says what the first one is.
    """
    found = ""
    for path in sorted(one for one in folder.rglob("*") if one.is_file() and not one.name.startswith(".")):
        with path.open("rb") as file:
            words = no_weights(path.name, file.read(HEAD_BYTES))
        if not words:
            return {}
        found = found or f"{path.relative_to(folder).as_posix()} is {words}"
    raise ModelInvalid(found or f"there is no file; {CURE}")


WEIGHTS_FORMAT: Final = Format(
    WEIGHTS,
    "weights of Keras",
    "weights of Keras",
    f"file with weights ({FORMS})",
    WEIGHTS_FILE,
    _choose,
    lambda folder, _: _check(folder),
)
