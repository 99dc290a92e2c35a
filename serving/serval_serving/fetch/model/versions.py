"""Finds the version to serve, by TensorFlow Serving's rules: folders named by numbers, the highest wins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, Generic, Protocol, TypeVar

from serval_contract.models import MAX_VERSION
from serval_serving.fetch.errors import invalid, not_found
from serval_serving.fetch.model.frameworks import Framework

DEFAULT_VERSION: Final = 1
"""Of a model that stands in no numbered folder."""
MAX_WRAPPERS: Final = 3
"""Folders around the model that an archive may have, such as ``resnet50/`` around ``resnet50/3/``."""
IMAGE_FOLDER: Final = "models"
"""Where images keep models by convention, beside whatever else they hold."""
_SHOWN: Final = 10
_NOT_MODELS: Final = "__MACOSX"

AnyPath = TypeVar("AnyPath", bound=PurePath)
ListedPath_contra = TypeVar("ListedPath_contra", bound=PurePath, contravariant=True)


@dataclass(frozen=True, slots=True)
class Listing:
    """The names in one folder.

    Attributes
    ----------
    files, folders:
        Sorted.
    """

    files: tuple[str, ...]
    folders: tuple[str, ...]


class Tree(Protocol[ListedPath_contra]):
    """Folders that can be listed: on a disk, or in an object store."""

    def listing(self, path: ListedPath_contra) -> Listing:
        """Return what the folder `path` holds.

        Raises
        ------
        FetchError
            If it cannot be listed.
        FileNotFoundError
            If it is not there.
        """


@dataclass(frozen=True, slots=True)
class Located(Generic[AnyPath]):
    """A version to serve.

    Attributes
    ----------
    folder:
        The folder that holds the model.
    version:
        Its number.
    """

    folder: AnyPath
    version: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for.

    Attributes
    ----------
    framework:
        What makes a folder a model.
    version:
        The version to take; None for the highest.
    """

    framework: Framework
    version: int | None

    def number(self, folder: PurePath) -> int:
        """Return the version of a model in `folder` that is no choice among several."""
        named = version_number(folder.name)
        return next(v for v in (self.version, named, DEFAULT_VERSION) if v is not None)


def locate(tree: Tree[AnyPath], folder: AnyPath, wanted: Wanted, *, wrappers: int = 0) -> Located[AnyPath]:
    """Find the version to serve in or below `folder`.

    Parameters
    ----------
    tree:
        What bounds the search.
    folder:
        A model, or a base path with numbered versions.
    wanted:
        What is looked for.
    wrappers:
        How many single folders around the model may be stepped into; where there are several, one of the
        name `IMAGE_FOLDER` counts as single.

    Raises
    ------
    FetchError
        ``ModelNotFound`` if the wanted version is not there, ``ModelInvalid`` if there is no model.
    FileNotFoundError
        If `folder` is not there.
    """
    found = tree.listing(folder)
    if wanted.framework.marker(found.files):
        return Located(folder, wanted.number(folder))
    numbered = _numbered(found.folders)
    if numbered:
        return _chosen(tree, folder, numbered, wanted)
    if wanted.framework.may_be(found.files):
        return Located(folder, wanted.number(folder))
    inside = [name for name in found.folders if not name.startswith(".") and name != _NOT_MODELS]
    step = inside[0] if len(inside) == 1 else IMAGE_FOLDER
    if wrappers and step in inside:
        return locate(tree, folder / step, wanted, wrappers=wrappers - 1)
    wrong = wanted.framework.wrong(found.files, "the source")
    if wrong is not None:
        raise wrong
    seen = f"folders found: {_listed(inside)}" if inside else "no folder found"
    raise invalid(
        f"there is neither {wanted.framework.format.wanted} nor a folder named by a version number; {seen}"
    )


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


def _chosen(
    tree: Tree[AnyPath], folder: AnyPath, numbered: dict[int, str], wanted: Wanted
) -> Located[AnyPath]:
    """Return the wanted or the highest version."""
    version = max(numbered) if wanted.version is None else wanted.version
    if version not in numbered:
        versions = _listed(str(v) for v in sorted(numbered, reverse=True))
        raise not_found(f"there is no version {version}; versions found: {versions}")
    path = folder / numbered[version]
    files = tree.listing(path).files
    framework = wanted.framework
    if not framework.marker(files) and not framework.may_be(files):
        lacks = invalid(f"version {version} holds no {framework.format.wanted}")
        raise framework.wrong(files, f"version {version}") or lacks
    return Located(path, version)


def _listed(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
