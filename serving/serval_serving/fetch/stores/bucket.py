"""What the object stores share: a model is downloaded several objects at once, large ones in parts."""

from __future__ import annotations

import os
import re
import threading
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from serval_contract.reasons import MODEL_ACCESS_DENIED
from serval_contract.schemes import Scheme
from serval_serving.fetch.acquire import SINGLE, Brought, from_file
from serval_serving.fetch.cache.client import through_cache
from serval_serving.fetch.credentials import Access, Forms, Values, check, read_secret
from serval_serving.fetch.errors import FetchError, from_os_error, not_found, too_large, unavailable
from serval_serving.fetch.model.versions import Located, locate
from serval_serving.fetch.objects import Objects, opened
from serval_serving.fetch.progress import human
from serval_serving.fetch.retry import retrying
from serval_serving.fetch.safety.safe_paths import place
from serval_serving.fetch.settings import FetchContext
from serval_serving.fetch.sources import bare, path_parts
from serval_serving.fetch.stores.base import Store
from serval_serving.models.folder_digest import file_sha256

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_BUCKET: Final = re.compile(r"[$a-z0-9]([a-z0-9._-]{0,220}[a-z0-9])?")
THREADS: Final = 8
PART_BYTES: Final = 32 << 20
"""A longer object is read in parts of this size, which may come at the same time and are retried alone."""


@dataclass(frozen=True, slots=True)
class BucketStore(Store):
    """A place in a bucket or container of an object store.

    Parameters
    ----------
    bucket:
        Bucket or container.
    key:
        The path inside it, without slashes at its ends; empty for all of it.

    Attributes
    ----------
    identity_variables:
        Environment variables that `access` reads, and the form of their values.
    """

    identity_variables: ClassVar[Forms] = MappingProxyType({})
    bucket: str
    key: str

    @classmethod
    def words(cls) -> str:
        """How an address is written, for messages."""
        return f"a model in an object store is written {cls.scheme.form}"

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read an address of a bucket and a path."""
        rest = bare(uri, cls.words())
        return cls(*bucket_and_key(rest, cls.scheme, f"{cls.words()}; this one names no bucket"))

    @property
    def container(self) -> str:
        """The address without the path, for messages."""
        return f"{self.scheme.prefix}{self.bucket}"

    @abstractmethod
    def access(self, secret: Values, environment: Values | None) -> Access:
        """Choose how to reach the store: by the Secret, by the pod's identity, or anonymously.

        Parameters
        ----------
        secret:
            Values of those of `secret_keys` that the Secret has.
        environment:
            Environment variables, in which the cloud announces the pod's identity; None not to use one.

        Raises
        ------
        FetchError
            ``ModelAccessDenied`` if the Secret is incomplete or contradicts the address.
        """

    @abstractmethod
    def open(self, config: Any, client: ClientConfig, retry: RetryConfig) -> ObjectStore:
        """Open the bucket with the library's settings.

        Parameters
        ----------
        config:
            That of `access`; its keys are those of the one store.
        """

    def bring(self, context: FetchContext, staging: Path) -> Brought:
        """Download a version, or one object and make a model of it."""
        settings = context.settings
        secret = read_secret(settings.credentials_dir, self.scheme, self.secret_keys)
        identity = os.environ if settings.identity and not secret else None
        check(identity or {}, self.identity_variables)
        with opened(context, self, self.access(secret, identity)) as objects:
            path = PurePosixPath(self.key)
            single = _look(objects, path)
            if single is not None and single["size"]:
                return _single(context, objects, single, staging)
            try:
                located = locate(objects, path, context.wanted)
            except FileNotFoundError as error:
                raise not_found(f"there is nothing at {self.container}/{self.key}") from error
            folder = staging / "downloaded"
            folder.mkdir()
            _download(context, objects, _planned(context, objects, located.folder, folder))
            return Brought(Located(folder, located.version))


def bucket_and_key(rest: str, scheme: Scheme, words: str) -> tuple[str, str]:
    """Read ``BUCKET/PATH``.

    Raises
    ------
    FetchError
        ``ModelNotFound`` with `words` if there is no bucket, or the path leads elsewhere.
    """
    bucket, _, path = rest.partition("/")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise not_found(words)
    return bucket, "/".join(path_parts(path, scheme))


def _look(objects: Objects, path: PurePosixPath) -> ObjectMeta | None:
    """Return the object `path` if there is one. An empty one may stand for a folder."""
    if path == PurePosixPath():
        return None
    try:
        return objects.look(path)
    except FetchError as error:
        if error.reason != MODEL_ACCESS_DENIED:
            raise
        # Some stores answer so if there is none. If it is true, listing is denied too, and says why.
        return None


def _single(context: FetchContext, objects: Objects, meta: ObjectMeta, staging: Path) -> Brought:
    """Download one object and make a model of it."""
    most = context.settings.max_bytes
    if meta["size"] > most:
        raise too_large(f"the file has {human(meta['size'])}; at most {human(most)} are allowed")
    file = staging / SINGLE

    def download() -> str:
        file.unlink(missing_ok=True)
        _download(context, objects, [_Planned(meta, file)])
        return file_sha256(file)

    return from_file(context, file, through_cache(context, file, download), staging)


@dataclass(frozen=True, slots=True)
class _Planned:
    """An object and where it goes."""

    meta: ObjectMeta
    to: Path


def _planned(context: FetchContext, objects: Objects, folder: PurePosixPath, to: Path) -> list[_Planned]:
    """Plan the download of all objects below `folder`, and make the folders for them.

    Sizes and numbers are judged by what the store says of the objects, before any is read.
    """
    found: list[_Planned] = []
    for meta in objects.below(folder, context.settings.max_entries):
        context.budget.entry()
        context.budget.grow(meta["size"])
        found.append(_Planned(meta, place(str(PurePosixPath(meta["path"]).relative_to(folder)), to)))
    folders = {parent for one in found for parent in one.to.parents if parent.is_relative_to(to)}
    planned = [
        one
        for one in found
        if one.to not in folders
        and (one.meta["size"] or not objects.marks_folder(PurePosixPath(one.meta["path"])))
    ]
    for path in sorted(folders - {to}):
        context.budget.entry()
        path.mkdir()
    return planned


def _download(context: FetchContext, objects: Objects, planned: Iterable[_Planned]) -> None:
    """Read all objects, several at once, and write them where they go."""
    every = list(planned)
    context.progress.start("downloaded", sum(one.meta["size"] for one in every))
    stop = threading.Event()
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="fetch")
    try:
        for one in every:
            with one.to.open("xb") as file:
                file.truncate(one.meta["size"])
        parts = [part for one in every for part in _parts(one)]
        futures = [pool.submit(_part, context, objects, part, stop) for part in parts]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    except OSError as error:
        raise from_os_error(error, "the download", context.settings.dest) from error
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


def _part(context: FetchContext, objects: Objects, part: _Part, stop: threading.Event) -> None:
    """Read one part, again where that may help."""

    def attempt() -> None:
        written = part.start
        with part.of.to.open("r+b") as file:
            file.seek(written)
            for piece in objects.read(part.of.meta, part.start, part.end):
                if stop.is_set():
                    return
                context.deadline.check()
                written += len(piece)
                if written > part.end:
                    break
                file.write(piece)
                context.progress.add(len(piece))
        if written != part.end:
            raise unavailable(f"{part.of.meta['path']}: the store sent another number of bytes than it said")

    retrying(attempt, context.deadline, context.environment.sleep)
