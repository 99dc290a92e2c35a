"""Brings a model's files from a volume, a mounted image or an archive."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serval_serving.fetch.archive import Unpacker, is_archive
from serval_serving.fetch.budget import Budget
from serval_serving.fetch.cached import through_cache
from serval_serving.fetch.digest import file_sha256
from serval_serving.fetch.errors import MODEL_NOT_FOUND, FetchError
from serval_serving.fetch.https import Downloader
from serval_serving.fetch.progress import human
from serval_serving.fetch.settings import Work
from serval_serving.fetch.sources import HttpsSource, ImageSource, VolumeSource
from serval_serving.fetch.tree import BoundedTree, Copier, Linker
from serval_serving.fetch.versions import MAX_WRAPPERS, Located, locate

SINGLE: Final = "single"
"""What a file that has not been looked at is called in the staging folder."""
_LOG: Final = logging.getLogger("serval.fetch")


@dataclass(frozen=True, slots=True)
class Brought:
    """Files that arrived.

    Attributes
    ----------
    located:
        The version to serve, in the staging folder.
    compared:
        Whether the expected digest was that of an archive and has been compared.
    """

    located: Located[Path]
    compared: bool = False


def from_https(work: Work, source: HttpsSource, staging: Path) -> Brought:
    """Download an archive into `staging` and unpack it.

    Raises
    ------
    FetchError
        If it cannot be had, is not the expected one, or holds no such model.
    """
    downloader = Downloader(
        work.transport(),
        max_bytes=work.settings.max_bytes,
        deadline=work.deadline,
        progress=work.progress,
        sleep=work.surroundings.sleep,
    )
    archive = staging / SINGLE

    def download() -> str:
        done = downloader.download(source, archive)
        _LOG.info("downloaded %s, sha256 %s", human(done.size), done.sha256)
        return done.sha256

    return from_file(work, archive, through_cache(work, archive, download), staging)


def from_file(work: Work, file: Path, sha256: str, staging: Path) -> Brought:
    """Make a model of a single file in `staging`: unpack an archive, or take it as it is where that can be.

    Parameters
    ----------
    sha256:
        Digest of its bytes, hexadecimal; compared here with the expected one.

    Raises
    ------
    FetchError
        If it is not the expected one, holds what is refused, or no such model.
    """
    framework = work.wanted.framework
    if framework.bare_file is not None and not is_archive(file):
        work.compare(sha256, "the file")
        folder = staging / "bare"
        folder.mkdir()
        file.rename(folder / framework.bare_file)
        return Brought(Located(folder, work.wanted.number(folder)), compared=True)
    work.compare(sha256, "the archive")
    folder = staging / "unpacked"
    Unpacker(work.budget, work.deadline, work.progress).unpack(file, folder)
    file.unlink()
    return Brought(locate(BoundedTree(folder), folder, work.wanted, wrappers=MAX_WRAPPERS), compared=True)


def from_volume(work: Work, source: VolumeSource, staging: Path) -> Brought:
    """Copy a version, or an archive's content, out of a mounted claim into `staging`.

    Raises
    ------
    FetchError
        If it is not there, or holds what is refused.
    """
    mount = work.settings.pvc_mount
    path, tree = mount.joinpath(*source.parts), BoundedTree(mount)
    if tree.has_file(path):
        single = staging / SINGLE
        whole = Budget(work.settings.max_bytes, 1)
        Copier(tree, whole, work.deadline, work.progress).copy(path, single)
        return from_file(work, single, file_sha256(single), staging)
    try:
        located = locate(tree, path, work.wanted)
    except FileNotFoundError as error:
        text = f"there is no {source.path} in the volume claim {source.claim}"
        raise FetchError(MODEL_NOT_FOUND, text, permanent=False) from error
    except FetchError as error:
        if error.reason != MODEL_NOT_FOUND:
            raise
        # Not permanent: it may be copied there at any moment, and looking again costs nothing.
        raise FetchError(MODEL_NOT_FOUND, error.message, permanent=False) from error
    copied = staging / "copied"
    Copier(tree, work.budget, work.deadline, work.progress).copy(located.folder, copied)
    return Brought(Located(copied, located.version))


def from_mounted_image(work: Work, source: ImageSource, mount: Path, staging: Path) -> Brought:
    """Link to a version in a mounted image: the server sees the image at the same place.

    Raises
    ------
    FetchError
        If the image holds no such model, or what is refused.
    """
    tree = BoundedTree(mount)
    try:
        located = locate(tree, mount, work.wanted, wrappers=MAX_WRAPPERS)
    except FileNotFoundError as error:
        text = f"the image {source.uri} is not mounted at {mount}"
        raise FetchError(MODEL_NOT_FOUND, text, permanent=False) from error
    linked = staging / "linked"
    Linker(tree, work.budget, work.deadline, work.progress).copy(located.folder, linked)
    return Brought(Located(linked, located.version))
