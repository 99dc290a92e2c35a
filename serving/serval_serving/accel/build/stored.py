"""Arrays in files of weights, by layer, without executing anything that the file says.

A `.keras` file also describes a model, whose layers may name Python code. Only its arrays are read here, and
each only after its shape is known to be the expected one.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import trackable_object_graph_pb2

from serval_contract.build_reasons import WEIGHTS_INVALID
from serval_serving.accel.build.failures import failure
from serval_serving.accel.build.locate import Located

MAX_GROUPS: Final = 20_000
MAX_UNPACKED_BYTES: Final = 4 << 30
_WEIGHTS_MEMBER: Final = "model.weights.h5"
_VARS: Final = "vars"
_VALUE: Final = "VARIABLE_VALUE"
_OBJECT_GRAPH: Final = "_CHECKPOINTABLE_OBJECT_GRAPH"


@dataclass(frozen=True, slots=True)
class Stored:
    """An array in a file.

    Attributes
    ----------
    variable:
        Its name in the layer, such as `kernel`; empty where the format knows only positions.
    shape:
        As stored.
    read:
        Returns the values as float32.
    """

    variable: str
    shape: tuple[int, ...]
    read: Callable[[], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """What a file of weights has.

    Attributes
    ----------
    layers:
        Arrays by layer. Their order within a layer is Keras' where they have no names.
    named:
        Whether the keys are names of layers; otherwise each is the layer's class and a number (Keras 3 before
        it wrote names).
    ordered:
        Whether the layers are in the order of the network.
    """

    layers: Mapping[str, list[Stored]]
    named: bool = True
    ordered: bool = False


@contextmanager
def open_weights(located: Located) -> Iterator[StoredWeights]:
    """Open a file of weights; its arrays can be read until the context ends.

    Raises
    ------
    StageFailure
        It is damaged or cannot be read.
    """
    try:
        if located.format == "hdf5":
            with h5py.File(located.path, "r") as file:
                yield _of_hdf5(file)
        elif located.format == "keras":
            with (
                tempfile.TemporaryDirectory() as folder,
                h5py.File(_unpacked(located.path, Path(folder)), "r") as file,
            ):
                yield _of_hdf5(file)
        else:
            yield _of_checkpoint(located)
    except (OSError, KeyError, zipfile.BadZipFile, tf.errors.OpError, ValueError, RuntimeError) as error:
        raise failure(WEIGHTS_INVALID, f"{located.path.name} cannot be read: {error}") from error


def _unpacked(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        if _WEIGHTS_MEMBER not in archive.namelist():
            raise failure(WEIGHTS_INVALID, f"{path.name} holds no {_WEIGHTS_MEMBER}")
        size = archive.getinfo(_WEIGHTS_MEMBER).file_size
        if size > MAX_UNPACKED_BYTES:
            raise failure(WEIGHTS_INVALID, f"{path.name} unpacks to {size} bytes")
        target = folder / _WEIGHTS_MEMBER
        with archive.open(_WEIGHTS_MEMBER) as packed, target.open("wb") as file:
            # Reading ends at the size that the archive declares, or with an error.
            shutil.copyfileobj(packed, file, 1 << 20)
        return target


def _of_hdf5(file: Any) -> StoredWeights:
    root = _member(file, "model_weights") if file.get("model_weights", getlink=True) else file
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        return StoredWeights(_legacy_layers(root), ordered=True)
    groups = dict(_groups_with_vars(file, [MAX_GROUPS]))
    named = {str(group.attrs["name"]): arrays for group, arrays in groups.values() if "name" in group.attrs}
    if named:
        return StoredWeights(named)
    return StoredWeights({key: arrays for key, (_, arrays) in groups.items()}, named=False)


def _legacy_layers(root: Any) -> dict[str, list[Stored]]:
    """Return the layers of Keras' older format. A model within a model has its layers in one group."""
    layers: dict[str, list[Stored]] = {}
    for layer in _text_list(root, "layer_names")[:MAX_GROUPS]:
        group = _member(root, layer)
        arrays = [(name, _stored(_member(group, name))) for name in _text_list(group, "weight_names")]
        inner: dict[str, list[Stored]] = {}
        for name, one in arrays:
            *_, owner, variable = ("", *name.removesuffix(":0").split("/"))[-2:]
            inner.setdefault(owner, []).append(Stored(variable, one.shape, one.read))
        if len(inner) > 1:
            layers |= inner
        elif arrays:
            layers[layer] = [one for _, one in arrays]
    return layers


def _text_list(group: Any, name: str) -> list[str]:
    """Return a list of texts in attributes; a long one is cut into several."""
    if name in group.attrs:
        parts = [group.attrs[name]]
    else:
        parts = []
        while f"{name}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{name}{len(parts)}"])
    return [one.decode() if isinstance(one, bytes) else str(one) for part in parts for one in part]


def _groups_with_vars(group: Any, budget: list[int]) -> Iterator[tuple[str, tuple[Any, list[Stored]]]]:
    """Yield the layers of Keras 3's format by the last part of their path, wherever they are."""
    for name in group:
        budget[0] -= 1
        if budget[0] < 0:
            raise failure(WEIGHTS_INVALID, f"the file has more than {MAX_GROUPS} groups")
        member = _member(group, name)
        if not isinstance(member, h5py.Group):
            continue
        if name == _VARS:
            arrays = [_stored(_member(member, str(index))) for index in range(len(member))]
            if arrays:
                yield group.name.rsplit("/", 1)[-1], (member, arrays)
        else:
            yield from _groups_with_vars(member, budget)


def _member(group: Any, name: str) -> Any:
    """Return a group or dataset of the file itself; a link or an array may also point to another file."""
    if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
        raise failure(WEIGHTS_INVALID, f"{name} is a link to another file")
    member = group[name]
    if isinstance(member, h5py.Dataset) and (member.external or member.is_virtual):
        raise failure(WEIGHTS_INVALID, f"the values of {name} are in another file")
    return member


def _stored(dataset: Any) -> Stored:
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != "f":
        raise failure(WEIGHTS_INVALID, f"{dataset.name} is no array of floats")
    return Stored("", tuple(dataset.shape), lambda: np.asarray(dataset[()], np.float32))


def _of_checkpoint(located: Located) -> StoredWeights:
    prefix = located.path
    if located.format == "savedmodel":
        prefix = located.path / "variables" / "variables"
        if not prefix.with_name("variables.index").is_file():
            raise failure(
                WEIGHTS_INVALID,
                "the SavedModel has no variables: its weights are constants of the graph (frozen)",
            )
    reader = tf.train.load_checkpoint(str(prefix))
    shapes = reader.get_variable_to_shape_map()
    layers: dict[str, list[Stored]] = {}
    for full, key in _checkpoint_names(reader, shapes).items():
        parts = full.split("/")
        if len(parts) > 1 and reader.get_variable_to_dtype_map()[key].is_floating:
            stored = Stored(parts[-1], tuple(shapes[key]), _checkpoint_value(reader, key))
            layers.setdefault(parts[-2], []).append(stored)
    return StoredWeights(layers)


def _checkpoint_value(reader: Any, key: str) -> Callable[[], NDArray[np.float32]]:
    return lambda: np.asarray(reader.get_tensor(key), np.float32)


def _checkpoint_names(reader: Any, shapes: Mapping[str, Any]) -> dict[str, str]:
    """Return keys by the full names of their variables; TensorFlow 2 writes these into a graph of objects."""
    if _OBJECT_GRAPH not in shapes:
        return {key: key for key in shapes}
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor(_OBJECT_GRAPH))
    return {
        attribute.full_name: attribute.checkpoint_key
        for node in graph.nodes
        for attribute in node.attributes
        if attribute.name == _VALUE and attribute.full_name and attribute.checkpoint_key in shapes
    }
