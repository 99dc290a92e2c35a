"""A mounted claim as a store of artifacts, for clusters without a registry that can be written.

Each repository is a folder of the claim:

======================  =================================================================================
``sha256-<hex>/``       the files of one image; pods mount this folder by ``subPath`` and see the artifact
``blobs``, ``index.json``, ``oci-layout``   the same images as an OCI image layout, for tools that copy them
======================  =================================================================================

`<hex>` is the digest of the image's manifest. A folder appears by a rename, complete, and is never written
again. https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import uuid4

from serval_contract.models import DIGEST
from serval_serving.artifacts.errors import artifact_invalid, registry_rejected, store_unavailable
from serval_serving.artifacts.folder import File
from serval_serving.artifacts.image import Image
from serval_serving.artifacts.layer import sha256_of
from serval_serving.fetch.oci.reference import MAX_MANIFEST_BYTES, is_repository
from serval_serving.fetch.progress import Deadline

INDEX: Final = "application/vnd.oci.image.index.v1+json"
REF_NAME: Final = "org.opencontainers.image.ref.name"
_INDEX_FILE: Final = "index.json"
_LAYOUT_FILE: Final = "oci-layout"
_LOCK_FILE: Final = ".lock"
_STAGING: Final = ".staging-"
_POLL_SECONDS: Final = 0.5
_FOLDER_MODE: Final = 0o755
_FILE_MODE: Final = 0o644


def folder_name(digest: str) -> str:
    """Return the name of an image's folder in its repository."""
    return digest.replace(":", "-")


class ClaimStore:
    """One repository in a claim.

    Parameters
    ----------
    root:
        Where the claim is mounted.
    repository:
        Path of the repository.
    deadline:
        When all work must be over.
    sleep:
        Waits for a number of seconds, where another program writes the same repository.

    Raises
    ------
    ArtifactFailure
        ``ArtifactInvalid`` if the path is none of a repository.
    """

    def __init__(
        self, root: Path, repository: str, deadline: Deadline, sleep: Callable[[float], None]
    ) -> None:
        if not is_repository(repository):
            raise artifact_invalid(f"{repository!r} is no path of a repository")
        self.folder = root / repository
        self._deadline = deadline
        self._sleep = sleep

    def store(self, image: Image, files: Sequence[File], tag: str) -> Path:
        """Store an image under a tag; return the folder that pods mount.

        Raises
        ------
        ArtifactFailure
            ``StoreUnavailable`` if the claim cannot be written or is full; it is then as it was before.
        """
        final = self.folder / folder_name(image.digest)
        try:
            with self._locked():
                self._clean()
                self._blobs(image)
                if not final.exists():
                    self._publish(files, final)
                self._tag(image, tag)
        except OSError as error:
            raise store_unavailable(error, f"the store {self.folder}") from error
        return final

    def manifest(self, reference: str) -> bytes | None:
        """Return a manifest by tag or digest; None if there is none.

        Raises
        ------
        ArtifactFailure
            ``RegistryRejected`` if the store is damaged.
        """
        digest = reference if DIGEST.fullmatch(reference) else self.tags().get(reference)
        return None if digest is None else self.blob(digest, MAX_MANIFEST_BYTES)

    def tags(self) -> dict[str, str]:
        """Return the digests of manifests by tag.

        Raises
        ------
        ArtifactFailure
            ``RegistryRejected`` if the index is damaged.
        """
        try:
            entries = json.loads((self.folder / _INDEX_FILE).read_bytes())["manifests"]
            found = {entry.get("annotations", {}).get(REF_NAME): str(entry["digest"]) for entry in entries}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise registry_rejected(f"the index of the store {self.folder} is damaged") from error
        return {tag: digest for tag, digest in found.items() if tag and DIGEST.fullmatch(digest)}

    def blob(self, digest: str, most: int) -> bytes | None:
        """Return a blob of at most `most` bytes; None if it is not there or longer.

        Raises
        ------
        ArtifactFailure
            ``RegistryRejected`` if it is damaged.
        """
        try:
            with self._blob_path(digest).open("rb") as file:
                data = file.read(most + 1)
        except OSError:
            return None
        if len(data) > most:
            return None
        if sha256_of((data,))[0] != digest:
            raise registry_rejected(f"{digest} in the store {self.folder} is damaged")
        return data

    def _blob_path(self, digest: str) -> Path:
        return self.folder / "blobs" / digest.replace(":", "/")

    def _blobs(self, image: Image) -> None:
        (self.folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        for blob in (*(layer.blob for layer in image.layers), image.config):
            path = self._blob_path(blob.digest)
            if not path.exists():
                self._write(path, self._checked(blob.chunks()))
        path = self._blob_path(image.digest)
        if not path.exists():
            self._write(path, (image.manifest,))

    def _publish(self, files: Sequence[File], final: Path) -> None:
        staging = self.folder / f"{_STAGING}{uuid4().hex}"
        staging.mkdir()
        staging.chmod(_FOLDER_MODE)  # mkdir obeys the umask
        for file in files:
            path = staging / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as target:
                _copy(target, self._checked(file.chunks()))
        staging.rename(final)

    def _tag(self, image: Image, tag: str) -> None:
        entry = {
            "mediaType": image.media_type,
            "digest": image.digest,
            "size": len(image.manifest),
            "annotations": {REF_NAME: tag},
        }
        path = self.folder / _INDEX_FILE
        try:
            entries = json.loads(path.read_bytes())["manifests"]
            others = [one for one in entries if (one.get("annotations") or {}).get(REF_NAME) != tag]
        except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
            others = []
        self._document(path, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*others, entry]})
        self._document(self.folder / _LAYOUT_FILE, {"imageLayoutVersion": "1.0.0"})

    def _document(self, path: Path, content: Mapping[str, Any]) -> None:
        self._write(path, (json.dumps(content, sort_keys=True).encode(),))

    def _write(self, path: Path, chunks: Iterable[bytes]) -> None:
        """Write a file, which appears complete or not at all."""
        staging = self.folder / f"{_STAGING}{uuid4().hex}"
        with staging.open("xb") as target:
            _copy(target, chunks)
        staging.replace(path)

    def _checked(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._deadline.check()
            yield chunk

    def _clean(self) -> None:
        """Remove what a program left that was ended in the middle; the lock says that none is at work."""
        for path in self.folder.glob(f"{_STAGING}*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK_FILE).open("ab") as lock:
            while not _lock(lock.fileno()):
                self._deadline.check()
                self._sleep(_POLL_SECONDS)
            yield


def _copy(target: BinaryIO, chunks: Iterable[bytes]) -> None:
    """Write a file to the disk before it gets its name."""
    for chunk in chunks:
        target.write(chunk)
    target.flush()
    os.fchmod(target.fileno(), _FILE_MODE)
    os.fsync(target.fileno())


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
