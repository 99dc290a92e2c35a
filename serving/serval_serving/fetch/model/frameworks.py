"""What makes a folder a model, by framework, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from serval_contract.models import ONNX, TENSORFLOW
from serval_serving.fetch.errors import FetchError, invalid
from serval_serving.models.onnxmodel import ONNX_FILE, choose_onnx_file, read_onnx_signature
from serval_serving.models.savedmodel import (
    DEFAULT_SIGNATURE,
    SAVED_MODEL_FILE,
    ModelInvalid,
    Signature,
    read_saved_model,
)


@dataclass(frozen=True, slots=True)
class Framework:
    """A kind of model.

    Attributes
    ----------
    name:
        As ``spec.model.framework`` has it.
    kind:
        What its models are called in messages.
    wanted:
        The file that a folder lacks when it holds no such model, in words.
    bare_file:
        What a model is called that comes as a single file; None where that cannot be.
    choose:
        Picks, among the names of a folder's files, the one that makes it a model; None without one.
    signatures:
        Reads the signatures of the model in a folder.
    """

    name: str
    kind: str
    wanted: str
    bare_file: str | None
    choose: Callable[[Iterable[str]], str | None]
    signatures: Callable[[Path], Mapping[str, Signature]]

    def marker(self, files: Iterable[str]) -> str | None:
        """Return the file that makes a folder with these `files` a model, or None.

        Raises
        ------
        FetchError
            ``ModelInvalid`` if it is not clear which one it is.
        """
        try:
            return self.choose(files)
        except ModelInvalid as error:
            raise invalid(str(error)) from error

    def read(self, folder: Path) -> Signature | None:
        """Read the model in `folder` and return its default signature; None where it has none of that name.

        Raises
        ------
        ModelInvalid
            If it cannot be served.
        """
        return self.signatures(folder).get(DEFAULT_SIGNATURE)


def _saved_model(files: Iterable[str]) -> str | None:
    return SAVED_MODEL_FILE if SAVED_MODEL_FILE in files else None


_TENSORFLOW: Final = Framework(
    TENSORFLOW,
    "a SavedModel",
    SAVED_MODEL_FILE,
    None,
    _saved_model,
    lambda folder: read_saved_model(folder).signatures,
)
_ONNX: Final = Framework(
    ONNX,
    "an ONNX model",
    f"{ONNX_FILE} or other ONNX file",
    ONNX_FILE,
    choose_onnx_file,
    lambda folder: read_onnx_signature(folder).signatures,
)
FRAMEWORKS: Final[Mapping[str, Framework]] = MappingProxyType({one.name: one for one in (_TENSORFLOW, _ONNX)})


def wrong_framework(asked: Framework, files: Iterable[str], what: str) -> FetchError | None:
    """Return a ``ModelInvalid`` with the cure if `files` are a model of another framework than `asked`.

    Parameters
    ----------
    asked:
        The framework that the model should be of.
    files:
        Names of the files in its folder.
    what:
        What holds them, for the message.
    """
    names = tuple(files)
    for other in FRAMEWORKS.values():
        if other is asked:
            continue
        try:
            found = other.choose(names) is not None
        except ModelInvalid:
            found = True
        if found:
            return invalid(
                f"{what} holds {other.kind}, and {asked.kind} is asked for;"
                f" set spec.model.framework to {other.name}"
            )
    return None
