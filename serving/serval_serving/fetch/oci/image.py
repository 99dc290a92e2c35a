"""Brings a model from an image in a registry."""

from __future__ import annotations

from pathlib import Path

from serval_serving.fetch.acquire import Brought, stays_packed
from serval_serving.fetch.errors import rejected, too_large
from serval_serving.fetch.model.tree import BoundedTree
from serval_serving.fetch.model.versions import IMAGE_FOLDER, MAX_WRAPPERS, locate
from serval_serving.fetch.oci.layers import LayerUnpacker
from serval_serving.fetch.oci.reference import ImageReference
from serval_serving.fetch.oci.registry import Layer, Registry
from serval_serving.fetch.progress import human
from serval_serving.fetch.safety.archive import holds_files
from serval_serving.fetch.safety.safe_paths import place, shown
from serval_serving.fetch.settings import FetchContext


def from_registry(context: FetchContext, image: ImageReference, staging: Path) -> Brought:
    """Download the layers of an image, and stack them in `staging`.

    Raises
    ------
    FetchError
        If they cannot be had, hold what is refused, or no such model.
    """
    registry = Registry(context, image)
    layers = registry.layers()
    total, most = sum(layer.size for layer in layers), context.settings.max_bytes
    if total > most:
        raise too_large(f"the image has {human(total)}; at most {human(most)} are allowed")
    files = [staging / f"layer-{index}" for index in range(len(layers))]
    for layer, file in zip(layers, files, strict=True):
        registry.download(layer, file)
    folder = staging / "stacked"
    folder.mkdir()
    titled = any(layer.title for layer in layers)
    # An image with an operating system is looked through for the models alone.
    for only in (None,) if titled else (IMAGE_FOLDER, None):
        _stack(context, layers, files, folder, only)
        if any(folder.iterdir()):
            break
    for file in files:
        file.unlink(missing_ok=True)
    return Brought(locate(BoundedTree(folder), folder, context.wanted, wrappers=MAX_WRAPPERS))


def _stack(
    context: FetchContext, layers: list[Layer], files: list[Path], folder: Path, only: str | None
) -> None:
    unpacker = LayerUnpacker(context.budget, context.deadline, context.progress, only)
    for layer, file in zip(layers, files, strict=True):
        if _is_archive(context, layer, file):
            unpacker.unpack(file, folder)
        else:
            _file(context, layer, file, folder)


def _is_archive(context: FetchContext, layer: Layer, file: Path) -> bool:
    """Whether a layer is unpacked, not kept under its title.

    Its first bytes decide, and its title: an archive beside a model's other files, below a folder, is one of
    those, unless the manifest says that it was packed for the transport. So is a file that is a model.
    """
    if not layer.title or not holds_files(file):
        return not layer.title
    return layer.packed or ("/" not in layer.title.strip("/") and not stays_packed(context, file))


def _file(context: FetchContext, layer: Layer, file: Path, folder: Path) -> None:
    """Keep a layer that is a file of its own, under its title."""
    path = place(layer.title, folder)
    if path == folder or path.exists():
        raise rejected(f"{shown(layer.title)} is no name for a layer, or comes twice")
    context.budget.entry()
    context.budget.grow(layer.size)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.rename(path)
