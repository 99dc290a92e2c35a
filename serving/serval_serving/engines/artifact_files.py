"""Checks of an artifact before anything is loaded: its files, and whether its parts fit together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import grpc

from serval_contract.devices import ARTIFACT_CORRUPTED, ARTIFACT_EMPTY, ARTIFACT_INVALID
from serval_serving.accel.artifact import (
    CONVERSION_FILE,
    HOST_FILE,
    STRING,
    ArtifactError,
    Conversion,
    Part,
    Tensor,
    read_conversion,
)
from serval_serving.engines.base import ModelLoadError
from serval_serving.models.artifacts import artifact_signatures, tensor_info
from serval_serving.models.onnxmodel import ONNX_SUFFIX, read_onnx_signature
from serval_serving.models.savedmodel import DEFAULT_SIGNATURE, ModelInvalid, TensorInfo

_PURE: Final = (
    "the image that is mounted there may be a pure OCI artifact, which nodes mount without its files; push an"
    " ordinary image"
)


def checked_artifact(folder: Path) -> Conversion:
    """Read and check the artifact in a folder.

    Raises
    ------
    ModelLoadError
        It begins with `ARTIFACT_EMPTY`, `ARTIFACT_INVALID` or `ARTIFACT_CORRUPTED`.
    """
    try:
        names = sorted(one.name for one in folder.iterdir())
        if not names:
            words = f"{folder} is empty; {_PURE}"
            raise _refusal(ARTIFACT_EMPTY, words, grpc.StatusCode.NOT_FOUND)
        conversion = read_conversion(folder)
        _check_digests(folder, conversion)
        artifact_signatures(conversion)
        _check_flow(conversion)
        for part in (conversion.device, conversion.classifier):
            if part is not None and part.file.endswith(ONNX_SUFFIX):
                _check_onnx(folder, part)
    except (ArtifactError, ModelInvalid) as error:
        raise _refusal(ARTIFACT_INVALID, f"{folder}: {error}") from error
    except OSError as error:
        raise _refusal(ARTIFACT_INVALID, f"{folder} cannot be read: {error}") from error
    return conversion


def _refusal(
    reason: str, words: str, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT
) -> ModelLoadError:
    return ModelLoadError(code, f"{reason}: {words}", permanent=True)


def _check_digests(folder: Path, conversion: Conversion) -> None:
    """Compare every file with its recorded digest."""
    wanted = {one.file: one.sha256 for one in (conversion.device, conversion.classifier) if one is not None}
    if conversion.host.kind == "Graph":
        wanted[HOST_FILE] = conversion.host.sha256
    for name, digest in wanted.items():
        with (folder / name).open("rb") as file:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if found != digest:
            words = f"{name} has digest {found}, and {CONVERSION_FILE} records {digest or 'none'}"
            raise _refusal(ARTIFACT_CORRUPTED, words, grpc.StatusCode.DATA_LOSS)


def _check_flow(conversion: Conversion) -> None:
    """Check that every part takes tensors that the parts before it add."""
    known: dict[str, Tensor] = {one.name: one for one in conversion.inputs.values()}
    host, device, classifier = conversion.host, conversion.device, conversion.classifier
    _take(known, "the host part", host.inputs, host.outputs)
    _take(known, "the device part", device.inputs, device.outputs)
    if classifier is not None:
        _take(known, "the classifier", classifier.inputs, classifier.outputs)
    _take(known, "the signature", conversion.outputs.values(), ())
    if host.kind == "Images":
        _check_images(conversion)


def _take(known: dict[str, Tensor], who: str, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> None:
    for one in inputs:
        tensor_info(one)
        found = known.get(one.name)
        if found is None:
            raise ArtifactError(f"{who} takes {one.name}, which no part before it adds")
        if found.dtype != one.dtype or not _agree(found.shape, one.shape):
            raise ArtifactError(f"{who} takes {_described(one)}, and it is {_described(found)}")
    known.update({one.name: one for one in outputs})


def _check_images(conversion: Conversion) -> None:
    """Check that a host part for photos takes strings and adds what its preprocessing makes."""
    host = conversion.host
    preprocessing = host.preprocessing
    if preprocessing is None or len(host.inputs) != 1 or len(host.outputs) != 1:
        raise ArtifactError("a host part of kind Images has one input, one output and its preprocessing")
    photos, pixels = host.inputs[0], host.outputs[0]
    made = Tensor(pixels.name, "float32", (None, preprocessing.height, preprocessing.width, 3))
    if photos.dtype != STRING or len(photos.shape) != 1:
        raise ArtifactError(f"a host part of kind Images takes a row of strings, not {_described(photos)}")
    if pixels.dtype != made.dtype or not _agree(pixels.shape, made.shape):
        raise ArtifactError(f"the host part makes {_described(made)}, not {_described(pixels)}")


def _check_onnx(folder: Path, part: Part) -> None:
    """Check that a file has all weights, and the inputs and outputs that `conversion.json` says."""
    model = read_onnx_signature(folder / part.file)
    if model.data_files:
        words = f"{part.file} has weights in {next(iter(model.data_files))}"
        raise ArtifactError(f"{words}, of which {CONVERSION_FILE} records no digest")
    declared = model.signatures[DEFAULT_SIGNATURE]
    for role, wanted, found in (
        ("inputs", part.inputs, declared.inputs),
        ("outputs", part.outputs, declared.outputs),
    ):
        _compare(part.file, role, wanted, found)


def _compare(file: str, role: str, wanted: Sequence[Tensor], found: Mapping[str, TensorInfo]) -> None:
    if {one.name for one in wanted} != found.keys():
        names = ", ".join(sorted(found))
        told = ", ".join(sorted(one.name for one in wanted))
        raise ArtifactError(f"{file} has the {role} {names}, and {CONVERSION_FILE} says {told}")
    for one in wanted:
        own = found[one.name]
        shape = None if own.shape is None else tuple(None if size < 0 else size for size in own.shape)
        if own.dtype != tensor_info(one).dtype or (shape is not None and not _agree(shape, one.shape)):
            raise ArtifactError(f"{file}: {one.name} is {own.dtype} {shape}, not {_described(one)}")


def _agree(first: Sequence[int | None], second: Sequence[int | None]) -> bool:
    """Whether a tensor can have both shapes."""
    return len(first) == len(second) and all(
        a is None or b is None or a == b for a, b in zip(first, second, strict=True)
    )


def _described(tensor: Tensor) -> str:
    sizes = ",".join("?" if size is None else str(size) for size in tensor.shape)
    return f"{tensor.name} of {tensor.dtype} [{sizes}]"
