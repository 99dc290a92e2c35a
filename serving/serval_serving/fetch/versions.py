"""Finds the version to serve, by TensorFlow Serving's rules: folders named by numbers, the highest wins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serval_serving.fetch.errors import invalid, not_found
from serval_serving.fetch.tree import BoundedTree
from serval_serving.models.savedmodel import SAVED_MODEL_FILE

DEFAULT_VERSION: Final = 1
"""Of a SavedModel that stands in no numbered folder."""
MAX_VERSION: Final = 2**63 - 1
MAX_WRAPPERS: Final = 3
"""Folders around the model that an archive may have, such as ``resnet50/`` around ``resnet50/3/``."""
_SHOWN: Final = 10
_NOT_MODELS: Final = "__MACOSX"


@dataclass(frozen=True, slots=True)
class Located:
    """A version to serve.

    Attributes
    ----------
    folder:
        The folder that holds ``saved_model.pb``.
    version:
        Its number.
    """

    folder: Path
    version: int


def locate(tree: BoundedTree, folder: Path, wanted: int | None, *, wrappers: int = 0) -> Located:
    """Find the version to serve in or below `folder`.

    Parameters
    ----------
    tree:
        What bounds the search.
    folder:
        A SavedModel, or a base path with numbered versions.
    wanted:
        The version to take; None for the highest.
    wrappers:
        How many single folders around the model may be stepped into.

    Raises
    ------
    FetchError
        ``ModelNotFound`` if the wanted version is not there, ``ModelInvalid`` if there is no model.
    """
    if tree.has_file(folder / SAVED_MODEL_FILE):
        named = version_number(folder.name)
        return Located(folder, next(v for v in (wanted, named, DEFAULT_VERSION) if v is not None))
    names = tree.folders(folder)
    numbered = _numbered(names)
    if numbered:
        return _chosen(tree, folder, numbered, wanted)
    inside = [name for name in names if not name.startswith(".") and name != _NOT_MODELS]
    if wrappers and len(inside) == 1:
        return locate(tree, folder / inside[0], wanted, wrappers=wrappers - 1)
    found = f"folders found: {_listed(inside)}" if inside else "no folder found"
    raise invalid(f"there is neither {SAVED_MODEL_FILE} nor a folder named by a version number; {found}")


def version_number(name: str) -> int | None:
    """Return the version that a folder's name stands for, or None; ``007`` is 7."""
    if name.isascii() and name.isdigit() and int(name) <= MAX_VERSION:
        return int(name)
    return None


def _numbered(names: Iterable[str]) -> dict[int, str]:
    """Return the folders named by numbers, by number."""
    numbered: dict[int, str] = {}
    for name in names:
        number = version_number(name)
        if number is None:
            continue
        if number in numbered:
            raise invalid(f"the folders {numbered[number]} and {name} are both version {number}")
        numbered[number] = name
    return numbered


def _chosen(tree: BoundedTree, folder: Path, numbered: dict[int, str], wanted: int | None) -> Located:
    """Return the wanted or the highest version."""
    version = max(numbered) if wanted is None else wanted
    if version not in numbered:
        versions = _listed(str(v) for v in sorted(numbered, reverse=True))
        raise not_found(f"there is no version {version}; versions found: {versions}")
    path = folder / numbered[version]
    if not tree.has_file(path / SAVED_MODEL_FILE):
        raise invalid(f"version {version} holds no {SAVED_MODEL_FILE}")
    return Located(path, version)


def _listed(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
