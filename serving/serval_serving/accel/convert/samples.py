"""Inputs of the device part: what the host part makes of pictures, and random ones for a comparison."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf

from serval_serving.accel.artifact import STRING
from serval_serving.accel.convert import photos
from serval_serving.accel.convert.cut import Cut
from serval_serving.accel.convert.failures import bad_calibration, one_line
from serval_serving.accel.convert.graph import full_name
from serval_serving.accel.convert.saved_model import FlatModel, v1

Array = np.ndarray[Any, Any]
_BYTES: Final = "uint8"
_SPREAD: Final = 50.0
"""Standard deviation of random inputs, about that of the channels of a photo."""
_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Inputs:
    """Inputs of the device part, one row for each.

    Attributes
    ----------
    origin:
        As `photos.Pictures.origin`.
    skipped:
        Files that could not be used.
    """

    inputs: Array
    origin: str
    skipped: int = 0


def inputs(cut: Cut, host: Any, folder: Path | None, count: int) -> Inputs:
    """Return `count` inputs.

    Parameters
    ----------
    host:
        The host part's graph; None if there is none.
    folder:
        Photos or arrays of the user; None for others.

    Raises
    ------
    StageFailure
        There are none that fit.
    """
    shape, source = cut.tensor.shape, cut.host_input
    if host is None or source is None:
        return _numbers(cut, folder, count)
    if source.dtype != STRING:
        if folder is None:
            raise bad_calibration(_UNKNOWN_RANGE.format(name=source.name))
        given = photos.arrays(folder, source.shape, source.dtype, count)
        return Inputs(_through(host, source.name, cut.tensor.name, [row[None] for row in given]), "Folder")
    found = photos.pictures(folder, count)
    # The host part takes a batch, one picture long.
    batches = (np.array([one], object) for one in found.encoded)
    made = _through(host, source.name, cut.tensor.name, batches)
    if made.shape[1:] != tuple(shape[1:]):
        raise bad_calibration(f"the preprocessing makes inputs of shape {made.shape[1:]}, not {shape[1:]}")
    return Inputs(made, found.origin, found.skipped)


def reference(model: FlatModel, cut: Cut, ends: Sequence[str]) -> tuple[Array, list[Array]]:
    """Return random inputs, and what TensorFlow computes of them, in the order of `ends`."""
    first, *sizes = cut.tensor.shape
    shape = [first or 2, *(size or 1 for size in sizes)]
    generator = np.random.default_rng(_SEED)
    dtype = np.dtype(cut.tensor.dtype)
    if dtype.kind == "f":
        given = (generator.standard_normal(shape) * _SPREAD).astype(dtype)
    else:
        given = generator.integers(0, 100, shape).astype(dtype)
    feed: dict[str, Array] = {full_name(name): value for name, value in model.weights.items()}
    feed[cut.tensor.name] = given
    with v1.Session(graph=model.graph) as session:
        return given, session.run(list(ends), feed)


_UNKNOWN_RANGE: Final = (
    "the model takes numbers, {name}, and their range is not known: give a folder with .npy files of real"
    " inputs with --calibration, or convert with --quantization=Float"
)


def _numbers(cut: Cut, folder: Path | None, count: int) -> Inputs:
    """Return inputs of a network without a host part."""
    shape, dtype = cut.tensor.shape, cut.tensor.dtype
    if folder is not None:
        return Inputs(photos.arrays(folder, shape, dtype, count), "Folder")
    height, width, channels = shape[1:] if len(shape) == 4 else (0, 0, 0)
    if dtype != _BYTES or not height or not width or not channels:
        raise bad_calibration(_UNKNOWN_RANGE.format(name=cut.tensor.name))
    return Inputs(np.stack(list(photos.smooth(count, height, width, channels))), "Random")


def _through(host: Any, source: str, target: str, batches: Iterable[Array]) -> Array:
    """Return what the host part makes of batches, one after another."""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(host, name="")
    # Pictures are decoded and encoded on demand, by operators that run at once: no graph may be open.
    with closing(v1.Session(graph=graph)) as session:
        try:
            rows = [session.run(target, {source: one}) for one in batches]
        except (tf.errors.OpError, ValueError) as error:
            words = one_line(error)
            raise bad_calibration(f"the preprocessing fails on a picture: {words}") from error
    gc.collect()
    return np.concatenate(rows)
