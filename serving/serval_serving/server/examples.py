"""Classify, Regress and MultiInference: what takes `tf.Example`s and answers scores by example.

The order of the checks and the texts are TensorFlow Serving's (`classifier.cc`, `regressor.cc`,
`multi_inference.cc`). An Example travels to the model as its bytes, and the model parses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from serval_serving.engines.base import CLASSIFY_METHOD, DEFAULT_SIGNATURE, REGRESS_METHOD, Signature
from serval_serving.models.handle import ServableHandle
from serval_serving.server import metrics
from serval_serving.server.binding import check_type
from serval_serving.server.inference import NO_NAME, Deadline, Inference, Target
from serval_serving.wire import messages
from serval_serving.wire.dtypes import DataType, dtype_of
from serval_serving.wire.status import StatusError, invalid

INPUTS = "inputs"
CLASSES = "classes"
SCORES = "scores"
OUTPUTS = "outputs"

EMPTY = "Input is empty."
NO_SIGNATURE = "No signature was found with the name: {name}"
NO_TASK_SIGNATURE = "Requested signature not found in model graph: {name}"
WRONG_METHOD = "Expected {kind} signature method_name to be {method}. Was: {was}"


@dataclass(frozen=True, slots=True)
class Classified:
    """What a classifier says of each example: labels of bytes, scores, or both, each [examples, classes]."""

    labels: np.ndarray | None
    scores: np.ndarray | None

    def rows(self) -> list[list[tuple[str, float]]]:
        """Pair labels and scores by example; what is missing is empty or 0."""
        given = self.labels if self.scores is None else self.scores
        count = 0 if given is None else given.shape[1]
        rows = 0 if given is None else len(given)
        scores = [[0.0] * count] * rows if self.scores is None else self.scores.tolist()
        labels = [[""] * count] * rows if self.labels is None else _texts(self.labels)
        return [list(zip(*pair, strict=True)) for pair in zip(labels, scores, strict=True)]


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the two ways to score examples.

    Attributes
    ----------
    name, method, api:
        As error texts, signatures and metrics call it.
    outputs:
        Which outputs of a signature to fetch; refuses one that has them not.
    read:
        Checks the arrays of those outputs against the number of examples, and gives the result.
    """

    name: str
    method: str
    api: str
    outputs: Callable[[ServableHandle, Signature], list[str]]
    read: Callable[[dict[str, np.ndarray], int], Any]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A signature, what it is used as, and which of its outputs to fetch."""

    signature: Signature
    kind: Kind
    aliases: Sequence[str]


@dataclass(frozen=True, slots=True)
class Scored:
    """The answer to one request: what was used, and the result, `Classified` or an array of values."""

    name: str
    version: int
    signature: str
    result: Any

    def model_spec(self) -> messages.ModelSpec:
        """Say in a reply which model and signature answered."""
        spec = messages.ModelSpec(name=self.name, signature_name=self.signature)
        spec.version.value = self.version
        return spec


def serialized(given: messages.Input) -> np.ndarray:
    """Give the examples of an input as their bytes, the common context, if any, before each of them.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: there are none.
    """
    context = given.example_list_with_context.context.SerializeToString()
    listed = given.example_list if given.HasField("example_list") else given.example_list_with_context
    if not listed.examples:
        raise invalid(EMPTY)
    array = np.empty(len(listed.examples), dtype=object)
    # Two messages one behind the other are one message with the fields of both.
    array[:] = [context + example.SerializeToString() for example in listed.examples]
    return array


def classify(inference: Inference, target: Target, given: messages.Input, deadline: Deadline) -> Scored:
    """Classify examples; the result is `Classified`.

    Raises
    ------
    StatusError
        The model, its signature or the examples do not fit, or what the engine says.
    """
    with inference.acquire(target) as handle:
        return score(inference, handle, CLASSIFY, target, given, deadline)


def regress(inference: Inference, target: Target, given: messages.Input, deadline: Deadline) -> Scored:
    """Give a value for each example; the result is an array of them.

    Raises
    ------
    StatusError
        As `classify`.
    """
    with inference.acquire(target) as handle:
        return score(inference, handle, REGRESS, target, given, deadline)


def multi_inference(
    inference: Inference, tasks: Sequence[tuple[Target, str]], given: messages.Input, deadline: Deadline
) -> list[Scored]:
    """Run several signatures of one model on the same examples.

    Parameters
    ----------
    inference:
        What answers.
    tasks:
        For each the model with its signature, and the method's name.
    given:
        The examples.
    deadline:
        When no one waits any more.

    Raises
    ------
    StatusError
        As `classify`; or the tasks are for several models or repeat a signature.
    """
    if not tasks or not tasks[0][0].name:
        raise invalid(NO_NAME)
    with inference.acquire(tasks[0][0]) as handle:
        return score_several(inference, handle, tasks, given, deadline)


def score(
    inference: Inference,
    handle: ServableHandle,
    kind: Kind,
    target: Target,
    given: messages.Input,
    deadline: Deadline,
) -> Scored:
    """Score examples with a version; of the target only the signature is looked at.

    Raises
    ------
    StatusError
        As `classify`.
    """
    name = target.signature or DEFAULT_SIGNATURE
    signature = handle.model.signatures.get(name)
    if signature is None:
        raise invalid(NO_SIGNATURE.format(name=name))
    if inference.checks_methods and signature.method != kind.method:
        raise invalid(WRONG_METHOD.format(kind=kind.name, method=kind.method, was=signature.method))
    plan = _plan(handle, signature, kind)
    examples = serialized(given)
    inference.metrics.examples(handle.name, len(examples))
    return _run(inference, handle, plan, examples, deadline, kind.api)


def score_several(
    inference: Inference,
    handle: ServableHandle,
    tasks: Sequence[tuple[Target, str]],
    given: messages.Input,
    deadline: Deadline,
) -> list[Scored]:
    """Run several signatures of a version on the same examples.

    Raises
    ------
    StatusError
        As `multi_inference`.
    """
    plans = _plans(handle, tasks)
    examples = serialized(given)
    inference.metrics.examples(handle.name, len(examples))
    api = metrics.MULTI_INFERENCE
    return [_run(inference, handle, plan, examples, deadline, api) for plan in plans]


def _plans(handle: ServableHandle, tasks: Sequence[tuple[Target, str]]) -> list[_Plan]:
    """Check the tasks of a MultiInference, and find what each runs."""
    plans: list[_Plan] = []
    for target, method in tasks:
        if not target.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if target.name != tasks[0][0].name:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = target.signature or DEFAULT_SIGNATURE
        if any(plan.signature.name == name for plan in plans):
            raise invalid(f"Duplicate evaluation of signature: {name}")
        signature = handle.model.signatures.get(name)
        if signature is None:
            raise invalid(NO_TASK_SIGNATURE.format(name=name))
        kind = _KINDS.get(method)
        if kind is None:
            message = f"Unsupported signature method_name: {method}"
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, message)
        plans.append(_plan(handle, signature, kind))
    return plans


def _plan(handle: ServableHandle, signature: Signature, kind: Kind) -> _Plan:
    """Check that a signature takes examples and gives what its kind answers."""
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if INPUTS not in signature.inputs:
        described = _described(handle, signature)
        raise _unfit(f"No {kind.name} inputs found in SignatureDef: {described}")
    return _Plan(signature, kind, kind.outputs(handle, signature))


def _run(
    inference: Inference,
    handle: ServableHandle,
    plan: _Plan,
    examples: np.ndarray,
    deadline: Deadline,
    api: str,
) -> Scored:
    """Run one signature on the examples."""
    check_type(INPUTS, plan.signature.inputs[INPUTS], examples)
    arrays = inference.run(handle, plan.signature, {INPUTS: examples}, plan.aliases, deadline, api)
    result = plan.kind.read(dict(zip(plan.aliases, arrays, strict=True)), len(examples))
    return Scored(handle.name, handle.version, plan.signature.name, result)


def _described(handle: ServableHandle, signature: Signature) -> str:
    """Spell a signature for an error text; it is cut there where it is long."""
    return str(handle.model.signature_defs.signature_def[signature.name])


def _class_outputs(handle: ServableHandle, signature: Signature) -> list[str]:
    """Choose the outputs of a classification."""
    if len(signature.outputs) not in {1, 2}:
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    found = [alias for alias in (CLASSES, SCORES) if alias in signature.outputs]
    if not found:
        raise _unfit(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {_described(handle, signature)}"
        )
    return found


def _read_classes(arrays: dict[str, np.ndarray], count: int) -> Classified:
    """Check what a classification gave."""
    for alias, dtype in ((CLASSES, DataType.DT_STRING), (SCORES, DataType.DT_FLOAT)):
        array = arrays.get(alias)
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_spelled(array)}")
        if dtype_of(array) != dtype:
            raise invalid(f"Expected {alias} Tensor of {dtype.name}. Got: {DataType(dtype_of(array)).name}")
        if len(array) != count:
            raise invalid(f"Expected {alias} output batch size of {count}. Got: {len(array)}")
    labels, scores = arrays.get(CLASSES), arrays.get(SCORES)
    if labels is not None and scores is not None and labels.shape[1] != scores.shape[1]:
        raise invalid(
            "Tensors class and score should match in dim_size(1). "
            f"Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    return Classified(labels, scores)


def _value_outputs(handle: ServableHandle, signature: Signature) -> list[str]:
    """Choose the output of a regression."""
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if OUTPUTS not in signature.outputs:
        described = _described(handle, signature)
        raise _unfit(f"No regression outputs found in SignatureDef: {described}")
    return [OUTPUTS]


def _read_values(arrays: dict[str, np.ndarray], count: int) -> np.ndarray:
    """Check what a regression gave."""
    array = arrays[OUTPUTS]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_spelled(array)}"
        )
    if len(array) != count:
        raise invalid(f"Input batch size did not match output batch size: {count} vs. {len(array)}")
    if dtype_of(array) != DataType.DT_FLOAT:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {DataType(dtype_of(array)).name}")
    return array.reshape(-1)


def _texts(labels: np.ndarray) -> list[list[str]]:
    """Turn labels into text, which is what replies hold."""
    return [[label.decode(errors="replace") for label in row] for row in labels.tolist()]


def _unfit(message: str) -> StatusError:
    """Make the error for a signature that is not of the kind that was asked for."""
    return StatusError(grpc.StatusCode.FAILED_PRECONDITION, message)


def _spelled(array: np.ndarray) -> str:
    """Spell a shape as TensorFlow does."""
    return "[" + ",".join(map(str, array.shape)) + "]"


CLASSIFY = Kind("classification", CLASSIFY_METHOD, metrics.CLASSIFY, _class_outputs, _read_classes)
REGRESS = Kind("regression", REGRESS_METHOD, metrics.REGRESS, _value_outputs, _read_values)
_KINDS = {kind.method: kind for kind in (CLASSIFY, REGRESS)}
