"""Puts stored arrays into the layers of a network, or says which layer they do not fit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Final

from serval_contract.build_reasons import SLIM_CHECKPOINT, WEIGHTS_MISMATCH
from serval_serving.accel.build.failures import failure
from serval_serving.accel.build.stored import Stored, StoredWeights
from serval_serving.accel.catalogue import Network

CLASSIFIER_LAYER: Final = "predictions"
"""Keras' name of the last layer of its ImageNet classifiers."""
SLIM_VARIABLE: Final = "weights"
"""Slim's name of a kernel; Keras has no variable of that name."""
_MOST: Final = 3
"""Problems that a message names."""


def refuse_slim(stored: StoredWeights, network: Network) -> None:
    """Raise if the weights are a TF-Slim checkpoint.

    Raises
    ------
    StageFailure
        Variables have Slim's names.
    """
    slim = [
        layer for layer, arrays in stored.layers.items() if any(one.variable == "weights" for one in arrays)
    ]
    if slim:
        raise failure(
            SLIM_CHECKPOINT,
            f"this is a TF-Slim checkpoint (it has {slim[0]}/{SLIM_VARIABLE}), and {network.name} is here"
            " the graph of Keras, with strides and biases in other places. Use weights that Keras trained",
        )


def stored_classes(stored: StoredWeights, channels: int) -> int | None:
    """Return for how many classes the stored classifier is; None if there is no classifier.

    Parameters
    ----------
    stored:
        Weights of a classification network.
    channels:
        Of its features.
    """
    arrays = stored.layers.get(CLASSIFIER_LAYER)
    if arrays is None and (stored.ordered or not stored.named) and stored.layers:
        arrays = list(stored.layers.values())[-1]
    for one in arrays or ():
        if len(one.shape) == 2 and one.shape[0] == channels:
            return one.shape[1]
    return None


def assign_weights(
    layers: Sequence[Any], stored: StoredWeights, network: Network, optional: Collection[str] = ()
) -> None:
    """Set the weights of layers.

    Parameters
    ----------
    layers:
        Keras layers with weights, in the order of the network.
    stored:
        Where the values are.
    network:
        What the layers are, for messages.
    optional:
        Names of layers that keep their values if there are none for them.

    Raises
    ------
    StageFailure
        A layer is missing, or its arrays have other shapes. No layer was changed.
    """
    found = _matched(layers, stored)
    missing = [one.name for one in layers if one.name not in found and one.name not in optional]
    if len(missing) == len(layers):
        names = ", ".join(list(stored.layers)[:_MOST])
        raise failure(
            WEIGHTS_MISMATCH,
            f"the weights fit no layer of {network.name}: they have {len(stored.layers)} layers, such as"
            f" {names}",
        )
    problems = [_missing(one, network) for one in missing]
    pairs: list[tuple[Any, Stored]] = []
    for layer in layers:
        if layer.name in found:
            matched, wrong = _pairs(layer, found[layer.name])
            pairs += matched
            problems += wrong
    if problems:
        more = len(problems) - _MOST
        text = "; ".join(problems[:_MOST]) + (f"; and {more} more" if more > 0 else "")
        raise failure(WEIGHTS_MISMATCH, f"the weights do not fit {network.name}: {text}")
    for variable, one in pairs:
        variable.assign(one.read())


def _missing(layer: str, network: Network) -> str:
    if layer == CLASSIFIER_LAYER and network.classifier is not None:
        return f"there is no layer {layer}, the classifier; give a classifier of your own"
    return f"there is no layer {layer}"


def _matched(layers: Sequence[Any], stored: StoredWeights) -> dict[str, list[Stored]]:
    """Return the arrays by the name of the network's layer that they belong to."""
    keys = [one.name for one in layers] if stored.named else _class_keys(layers)
    found = {
        layer.name: stored.layers[key]
        for layer, key in zip(layers, keys, strict=True)
        if key in stored.layers
    }
    # Weights of older networks have other names of layers, in the same order.
    if not found and stored.ordered and len(stored.layers) in {len(layers), len(layers) - 1}:
        found = {layer.name: arrays for layer, arrays in zip(layers, stored.layers.values(), strict=False)}
    return found


def _class_keys(layers: Sequence[Any]) -> list[str]:
    """Return what Keras 3 calls the layers in a file: the class and its running number."""
    seen: Counter[str] = Counter()
    keys = []
    for layer in layers:
        name = re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
        keys.append(f"{name}_{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return keys


def _pairs(layer: Any, arrays: Sequence[Stored]) -> tuple[list[tuple[Any, Stored]], list[str]]:
    """Return each variable of a layer with its array, and what does not fit."""
    variables = layer.weights
    names = [variable.name for variable in variables]
    by_name = {one.variable: one for one in arrays}
    ordered = [by_name[name] for name in names] if set(names) <= set(by_name) else list(arrays)
    if len(ordered) != len(variables):
        wanted, have = ", ".join(names), ", ".join(one.variable or "?" for one in arrays)
        return [], [
            f"layer {layer.name}: expected {len(names)} arrays ({wanted}), found {len(arrays)} ({have})"
        ]
    wrong = [
        f"layer {layer.name}: {variable.name} expected {list(variable.shape)}, found {list(one.shape)}"
        for variable, one in zip(variables, ordered, strict=True)
        if tuple(variable.shape) != one.shape
    ]
    return list(zip(variables, ordered, strict=True)), wrong
