"""Brings a model from an object store: several objects at once, large ones in parts."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from serval_serving.fetch.bring import SINGLE, Brought, from_file
from serval_serving.fetch.cached import through_cache
from serval_serving.fetch.credentials import access, read_credentials
from serval_serving.fetch.digest import file_sha256
from serval_serving.fetch.errors import (
    MODEL_ACCESS_DENIED,
    FetchError,
    not_found,
    too_large,
    unavailable,
    written_badly,
)
from serval_serving.fetch.names import place
from serval_serving.fetch.objects import Objects, opened
from serval_serving.fetch.progress import human
from serval_serving.fetch.retry import retrying
from serval_serving.fetch.settings import Work
from serval_serving.fetch.sources import StoreSource
from serval_serving.fetch.versions import Located, locate

if TYPE_CHECKING:
    from obstore import ObjectMeta

THREADS: Final = 8
PART_BYTES: Final = 32 << 20
"""A longer object is read in parts of this size, which may come at the same time and are retried alone."""


def from_store(work: Work, source: StoreSource, staging: Path) -> Brought:
    """Download a version, or an archive and its content, into `staging`.

    Raises
    ------
    FetchError
        If it cannot be had, is not the expected one, or is no such model.
    """
    settings = work.settings
    secret = read_credentials(settings.credentials_dir, source)
    identity = os.environ if settings.identity and not secret else None
    with opened(work, source, access(source, secret, identity)) as objects:
        path = PurePosixPath(source.key)
        single = _look(objects, path)
        if single is not None and single["size"]:
            return _single(work, objects, single, staging)
        try:
            located = locate(objects, path, work.wanted)
        except FileNotFoundError as error:
            raise not_found(f"there is nothing at {source.container}/{source.key}") from error
        folder = staging / "downloaded"
        folder.mkdir()
        _download(work, objects, _planned(work, objects, located.folder, folder))
        return Brought(Located(folder, located.version))


def _look(objects: Objects, path: PurePosixPath) -> ObjectMeta | None:
    """Return the object `path` if there is one. An empty one may stand for a folder."""
    if path == PurePosixPath():
        return None
    try:
        return objects.look(path)
    except FetchError as error:
        if error.reason != MODEL_ACCESS_DENIED:
            raise
        # Some stores answer so where there is none. If it is true, listing is denied too, and says why.
        return None


def _single(work: Work, objects: Objects, meta: ObjectMeta, staging: Path) -> Brought:
    """Download one object and make a model of it."""
    most = work.settings.max_bytes
    if meta["size"] > most:
        raise too_large(f"the file has {human(meta['size'])}; at most {human(most)} are allowed")
    file = staging / SINGLE

    def download() -> str:
        file.unlink(missing_ok=True)
        _download(work, objects, [_Planned(meta, file)])
        return file_sha256(file)

    return from_file(work, file, through_cache(work, file, download), staging)


@dataclass(frozen=True, slots=True)
class _Planned:
    """An object and where it goes."""

    meta: ObjectMeta
    to: Path


def _planned(work: Work, objects: Objects, folder: PurePosixPath, to: Path) -> list[_Planned]:
    """Plan the download of all objects below `folder`, and make the folders for them.

    Sizes and numbers are judged by what the store says of the objects, before any is read.
    """
    found: list[_Planned] = []
    for meta in objects.below(folder, work.settings.max_entries):
        work.budget.entry()
        work.budget.grow(meta["size"])
        found.append(_Planned(meta, place(str(PurePosixPath(meta["path"]).relative_to(folder)), to)))
    folders = {parent for one in found for parent in one.to.parents if parent.is_relative_to(to)}
    planned = [
        one
        for one in found
        if one.to not in folders
        and (one.meta["size"] or not objects.marks_folder(PurePosixPath(one.meta["path"])))
    ]
    for path in sorted(folders - {to}):
        work.budget.entry()
        path.mkdir()
    return planned


def _download(work: Work, objects: Objects, planned: Iterable[_Planned]) -> None:
    """Read all objects, several at once, and write them where they go."""
    every = list(planned)
    work.progress.start("downloaded", sum(one.meta["size"] for one in every))
    stop = threading.Event()
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="fetch")
    try:
        for one in every:
            with one.to.open("xb") as file:
                file.truncate(one.meta["size"])
        parts = [part for one in every for part in _parts(one)]
        futures = [pool.submit(_part, work, objects, part, stop) for part in parts]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    except OSError as error:
        raise written_badly(error, "the download", work.settings.dest) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes of an object from `start` until before `end`."""

    of: _Planned
    start: int
    end: int


def _parts(one: _Planned) -> Iterator[_Part]:
    size = one.meta["size"]
    for start in range(0, size, PART_BYTES):
        yield _Part(one, start, min(start + PART_BYTES, size))


def _part(work: Work, objects: Objects, part: _Part, stop: threading.Event) -> None:
    """Read one part, again where that may help."""

    def attempt() -> None:
        written = part.start
        with part.of.to.open("r+b") as file:
            file.seek(written)
            for piece in objects.read(part.of.meta, part.start, part.end):
                if stop.is_set():
                    return
                work.deadline.check()
                written += len(piece)
                if written > part.end:
                    break
                file.write(piece)
                work.progress.add(len(piece))
        if written != part.end:
            raise unavailable(f"{part.of.meta['path']}: the store sent another number of bytes than it said")

    retrying(attempt, work.deadline, work.surroundings.sleep)
