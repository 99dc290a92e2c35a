"""One fetch, from the URI to the published version."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from serval_serving.fetch.addresses import AddressPolicy, Resolve, system_resolve
from serval_serving.fetch.archive import Unpacker
from serval_serving.fetch.digest import folder_content
from serval_serving.fetch.errors import MODEL_DIGEST_MISMATCH, MODEL_NOT_FOUND, FetchError, invalid
from serval_serving.fetch.https import Downloader
from serval_serving.fetch.models_folder import ModelsFolder
from serval_serving.fetch.progress import Clock, Deadline, Progress, human
from serval_serving.fetch.report import Fetched
from serval_serving.fetch.sources import HttpsSource, VolumeSource, parse_source, public_uri
from serval_serving.fetch.transport import Transport, tls_context
from serval_serving.fetch.tree import BoundedTree, Copier
from serval_serving.fetch.versions import MAX_WRAPPERS, Located, locate
from serval_serving.models.savedmodel import DEFAULT_SIGNATURE, ModelInvalid, SavedModel, read_saved_model

_LOG: Final = logging.getLogger("serval.fetch")


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """What to fetch, and within which limits.

    Attributes
    ----------
    uri:
        ``https://`` of an archive, or ``pvc://claim/path``.
    name:
        The model's name: the folder below `dest`.
    dest:
        Where the model server looks for models.
    max_bytes:
        Most bytes of the archive, and most bytes of all files of the model.
    max_entries:
        Most files and folders.
    version:
        The version that is wanted; None for the highest.
    sha256:
        Expected digest, hexadecimal: of the archive, or of the files of a volume. None: not checked.
    ca_file:
        Certificates of authorities to trust beside the system's.
    pvc_mount:
        Where the claim is mounted.
    max_seconds:
        How long the whole may take.
    """

    uri: str
    name: str
    dest: Path
    max_bytes: int
    max_entries: int
    version: int | None
    sha256: str | None
    ca_file: Path | None
    pvc_mount: Path
    max_seconds: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the fetch touches besides files.

    Attributes
    ----------
    clock:
        Monotonic clock, seconds.
    sleep:
        Waits for a number of seconds.
    resolve:
        Name resolution.
    policy:
        Addresses that models may come from.
    """

    clock: Clock = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    resolve: Resolve = system_resolve
    policy: AddressPolicy = field(default_factory=AddressPolicy)


class Fetcher:
    """Fetches one model.

    Parameters
    ----------
    settings:
        What to fetch.
    surroundings:
        Clock and network.
    """

    def __init__(self, settings: FetchSettings, surroundings: Surroundings) -> None:
        self._settings = settings
        self._surroundings = surroundings
        self._deadline = Deadline(surroundings.clock, settings.max_seconds)
        self._progress = Progress(surroundings.clock)

    def run(self) -> Fetched:
        """Fetch the model and publish it.

        Raises
        ------
        FetchError
            If that cannot be done; nothing is published then.
        OSError
            If the destination cannot be written.
        """
        started = self._surroundings.clock()
        settings = self._settings
        source = parse_source(settings.uri)
        _LOG.info("fetching %s", public_uri(settings.uri))
        folder = ModelsFolder(settings.dest)
        with folder.staging() as staging:
            located = self._bring(source, staging)
            model = _read(located)
            content = folder_content(located.folder)
            if isinstance(source, VolumeSource):
                self._compare(content.sha256, "the files in the volume")
            folder.publish(located.folder, settings.name, located.version)
        seconds = self._surroundings.clock() - started
        _LOG.info("%s version %d: %s in %.1f s", settings.name, located.version, human(content.size), seconds)
        signature = model.signatures.get(DEFAULT_SIGNATURE)
        return Fetched(located.version, f"sha256:{content.sha256}", content.size, seconds, signature)

    def _bring(self, source: HttpsSource | VolumeSource, staging: Path) -> Located:
        """Put the files into `staging` and return where the version is."""
        if isinstance(source, HttpsSource):
            return self._from_archive(source, staging)
        return self._from_volume(source, staging)

    def _from_archive(self, source: HttpsSource, staging: Path) -> Located:
        settings, surroundings = self._settings, self._surroundings
        transport = Transport(tls_context(settings.ca_file), surroundings.resolve, surroundings.policy)
        downloader = Downloader(
            transport,
            max_bytes=settings.max_bytes,
            deadline=self._deadline,
            progress=self._progress,
            sleep=surroundings.sleep,
        )
        archive = staging / "archive"
        download = downloader.download(source, archive)
        _LOG.info("downloaded %s, sha256 %s", human(download.size), download.sha256)
        self._compare(download.sha256, "the archive")
        unpacked = staging / "unpacked"
        unpacker = Unpacker(
            max_bytes=settings.max_bytes,
            max_entries=settings.max_entries,
            deadline=self._deadline,
            progress=self._progress,
        )
        unpacker.unpack(archive, unpacked)
        archive.unlink()
        return locate(BoundedTree(unpacked), unpacked, settings.version, wrappers=MAX_WRAPPERS)

    def _from_volume(self, source: VolumeSource, staging: Path) -> Located:
        settings = self._settings
        tree = BoundedTree(settings.pvc_mount)
        folder = settings.pvc_mount.joinpath(*source.parts)
        try:
            located = locate(tree, folder, settings.version)
        except FileNotFoundError as error:
            text = f"there is no {source.path} in the volume claim {source.claim}"
            raise FetchError(MODEL_NOT_FOUND, text, permanent=False) from error
        except FetchError as error:
            if error.reason != MODEL_NOT_FOUND:
                raise
            # Not permanent: it may be copied there at any moment, and looking again costs nothing.
            raise FetchError(MODEL_NOT_FOUND, error.message, permanent=False) from error
        copier = Copier(
            tree,
            max_bytes=settings.max_bytes,
            max_entries=settings.max_entries,
            deadline=self._deadline,
            progress=self._progress,
        )
        copied = staging / "copied"
        copier.copy(located.folder, copied)
        return Located(copied, located.version)

    def _compare(self, actual: str, what: str) -> None:
        """Raise if a digest is pinned and `actual` is another."""
        expected = self._settings.sha256
        if expected is not None and actual != expected:
            text = f"sha256 of {what} is {actual}; {expected} is expected"
            raise FetchError(MODEL_DIGEST_MISMATCH, text, permanent=True)


def _read(located: Located) -> SavedModel:
    """Read the model's signatures, so that what cannot be served fails here, with a name."""
    try:
        return read_saved_model(located.folder)
    except ModelInvalid as error:
        raise invalid(f"version {located.version}: {error}") from error
