"""``serval inspect``: what a model takes and gives, and how to call it once it is served."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serval_serving.cli.errors import NOT_FOUND, OK, CliError
from serval_serving.cli.examples import examples
from serval_serving.cli.tables import table
from serval_serving.models.formats import SAVED_MODEL_FORMAT
from serval_serving.models.onnxmodel import ONNX_SUFFIX, OnnxModel, onnx_file, read_onnx_signature
from serval_serving.models.savedmodel import SAVED_MODEL_FILE, ModelInvalid, SavedModel, TensorInfo
from serval_serving.models.savedmodel_files import SAVED_MODEL_TEXT, read_saved_model


def run(options: argparse.Namespace) -> int:
    """Print the signatures.

    Raises
    ------
    CliError
        If there is no model, or it is damaged.
    """
    path: Path = options.path
    try:
        path = model_path(path)
        is_onnx = path.suffix == ONNX_SUFFIX
        model = read_onnx_signature(path) if is_onnx else read_saved_model(path)
    except ModelInvalid as error:
        raise CliError(f"{path}: {error}", NOT_FOUND) from error
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}", NOT_FOUND) from error
    if options.json:
        print(json.dumps(as_json(path, model), indent=2))
        return OK
    print("\n".join(report(path, model, options.name or model_name(path), options.host)))
    return OK


def model_path(path: Path) -> Path:
    """Return the SavedModel's folder or the ONNX file that `path` means: itself, or its highest version's.

    Raises
    ------
    CliError
        If there is none.
    ModelInvalid
        If there are several ONNX files.
    """
    if path.is_file() and path.suffix == ONNX_SUFFIX:
        return path
    if path.is_file() and path.name in (SAVED_MODEL_FILE, SAVED_MODEL_TEXT):
        return path.parent
    model = _in_folder(path)
    if model is not None:
        return model
    versions = [p for p in path.iterdir() if p.name.isdecimal()] if path.is_dir() else []
    if not versions:
        raise CliError(
            f"{path} holds neither {SAVED_MODEL_FILE} nor an ONNX file nor numbered versions", NOT_FOUND
        )
    highest = max(versions, key=lambda version: int(version.name))
    return _in_folder(highest) or highest


def _in_folder(folder: Path) -> Path | None:
    """Return the model that lies in a folder itself, as the model server would choose it."""
    if SAVED_MODEL_FORMAT.fits(folder):
        return folder
    return onnx_file(folder) if folder.is_dir() else None


def model_name(path: Path) -> str:
    """Return the name that a model, a folder or an ONNX file, is likely served under."""
    absolute = path.resolve()
    if absolute.suffix == ONNX_SUFFIX and absolute.is_file():
        absolute = absolute.parent
    return (absolute.parent.name if absolute.name.isdecimal() else absolute.name) or "model"


def as_json(path: Path, model: SavedModel | OnnxModel) -> dict[str, Any]:
    """Return what is known of the model, for programs."""

    def tensors(infos: Any) -> dict[str, Any]:
        return {
            alias: {"dtype": info.dtype, "shape": info.shape, "tensor": info.name}
            for alias, info in infos.items()
        }

    signatures = {
        name: {
            "method": signature.method,
            "inputs": tensors(signature.inputs),
            "outputs": tensors(signature.outputs),
        }
        for name, signature in model.signatures.items()
    }
    if isinstance(model, OnnxModel):
        facts: dict[str, Any] = {"opset": model.opset, "dataFiles": list(model.data_files)}
    else:
        facts = {"tags": model.tags}
    return {"path": str(path), **facts, "signatures": signatures}


def report(path: Path, model: SavedModel | OnnxModel, name: str, host: str) -> Iterator[str]:
    """Yield the lines that a person reads."""
    if isinstance(model, OnnxModel):
        yield f"ONNX model {path}, opset {model.opset}"
    else:
        yield f"SavedModel {path}, tags: {', '.join(model.tags)}"
    for key, signature in model.signatures.items():
        yield ""
        yield f"signature {key} ({signature.method or 'no method'})"
        rows = [("input", *_cells(alias, info)) for alias, info in signature.inputs.items()]
        rows += [("output", *_cells(alias, info)) for alias, info in signature.outputs.items()]
        yield table(("", "NAME", "TYPE", "SHAPE", "TENSOR"), rows)
        yield ""
        yield from examples(key, signature, name, host, is_text=isinstance(model, OnnxModel))


def _cells(alias: str, info: TensorInfo) -> tuple[str, str, str, str]:
    shape = "unknown" if info.shape is None else f"[{', '.join(str(dim) for dim in info.shape)}]"
    return alias, info.dtype, shape, info.name
