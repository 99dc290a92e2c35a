"""Finds the weights at a path: which file it is, and of which format. Nothing is decoded here."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from serval_contract.build_reasons import WEIGHTS_INVALID, WEIGHTS_NOT_FOUND
from serval_serving.accel.build.failures import failure

Format = Literal["keras", "hdf5", "checkpoint", "savedmodel"]

SAVED_MODEL_FILE: Final = "saved_model.pb"
INDEX_SUFFIX: Final = ".index"
MAX_ENTRIES: Final = 1000
MAX_DEPTH: Final = 4
_HDF5_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
_KERAS_MEMBER: Final = "config.json"
FORMATS_TEXT: Final = "a .keras, .h5 or .weights.h5 file, a SavedModel, or a TensorFlow checkpoint"


@dataclass(frozen=True, slots=True)
class Located:
    """Weights on disk.

    Attributes
    ----------
    format:
        `keras` (a zip with HDF5), `hdf5`, `checkpoint` (a prefix of files) or `savedmodel` (a folder).
    path:
        The file, prefix or folder.
    """

    format: Format
    path: Path


def locate_weights(path: Path) -> Located:
    """Return the weights at a path, or the only ones in a folder.

    Raises
    ------
    StageFailure
        There are none, or several.
    """
    if path.is_file():
        found = _of_file(path)
        if found is None:
            raise failure(WEIGHTS_INVALID, f"{path.name} is none of these: {FORMATS_TEXT}")
        return found
    if path.with_name(path.name + INDEX_SUFFIX).is_file():
        return Located("checkpoint", path)
    if not path.is_dir():
        raise failure(WEIGHTS_NOT_FOUND, f"there is no {path}")
    candidates = list(_in_folder(path, MAX_DEPTH, [MAX_ENTRIES]))
    if not candidates:
        raise failure(WEIGHTS_NOT_FOUND, f"{path} has no weights; expected {FORMATS_TEXT}")
    if len(candidates) > 1:
        names = ", ".join(str(one.path.relative_to(path)) for one in candidates[:5])
        raise failure(WEIGHTS_NOT_FOUND, f"{path} has several weights ({names}); name one of them")
    return candidates[0]


def _in_folder(folder: Path, depth: int, budget: list[int]) -> Iterator[Located]:
    """Yield what a folder has; a SavedModel is one thing, with its checkpoint inside."""
    if (folder / SAVED_MODEL_FILE).is_file():
        yield Located("savedmodel", folder)
        return
    for path in sorted(folder.iterdir()):
        budget[0] -= 1
        if budget[0] < 0:
            raise failure(WEIGHTS_NOT_FOUND, f"more than {MAX_ENTRIES} files; name the weights' own path")
        if path.is_dir():
            if depth > 1:
                yield from _in_folder(path, depth - 1, budget)
        elif path.is_file() and (found := _of_file(path)) is not None:
            yield found


def _of_file(path: Path) -> Located | None:
    """Return a file as weights, by its content; a name says nothing."""
    if path.name.endswith(INDEX_SUFFIX):
        return Located("checkpoint", path.with_name(path.name.removesuffix(INDEX_SUFFIX)))
    if path.name == SAVED_MODEL_FILE:
        return Located("savedmodel", path.parent)
    with path.open("rb") as file:
        start = file.read(len(_HDF5_MAGIC))
    if start == _HDF5_MAGIC:
        return Located("hdf5", path)
    if start.startswith(b"PK") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return Located("keras", path) if _KERAS_MEMBER in archive.namelist() else None
    return None
