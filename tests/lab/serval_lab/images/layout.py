"""An OCI image layout on disk: which images it holds whole, their blobs, and what may go.

Format: https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"


@dataclass(frozen=True, slots=True)
class Blob:
    """One content-addressed file of an image.

    Parameters
    ----------
    digest:
        ``sha256:`` and 64 hexadecimal digits.
    size:
        In bytes, as its descriptor says.
    path:
        Where it lies.
    """

    digest: str
    size: int
    path: Path

    def is_whole(self) -> bool:
        """Whether the file is there in full length; contents were checked when it was written."""
        return self.path.is_file() and self.path.stat().st_size == self.size


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a layout.

    Parameters
    ----------
    name:
        Its reference name in the layout.
    media_type:
        Of the manifest.
    manifest:
        The manifest's own blob.
    blobs:
        Configuration and layers.
    """

    name: str
    media_type: str
    manifest: Blob
    blobs: tuple[Blob, ...]

    @property
    def size(self) -> int:
        """Bytes that a registry stores and a node pulls."""
        return sum(blob.size for blob in self.blobs)


class Layout:
    """The images in one folder.

    Parameters
    ----------
    root:
        Folder of the layout; it need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, name: str) -> Image | None:
        """The image of that reference name, or None where it is missing or not whole."""
        for descriptor in self._index():
            if descriptor.get("annotations", {}).get(REF_NAME) == name:
                manifest = self._blob(descriptor)
                if not manifest.is_whole():
                    return None
                content = json.loads(manifest.path.read_bytes())
                blobs = tuple(self._blob(item) for item in (content["config"], *content["layers"]))
                if not all(blob.is_whole() for blob in blobs):
                    return None
                return Image(name, descriptor["mediaType"], manifest, blobs)
        return None

    def prune(self, keep: Iterable[str]) -> None:
        """Forget every image that is not named, and delete the blobs that no other image uses."""
        images = [image for image in map(self.find, keep) if image is not None]
        used = {blob.path for image in images for blob in (image.manifest, *image.blobs)}
        for path in (self.root / "blobs").glob("*/*"):
            if path not in used:
                path.unlink()
        names = {image.name for image in images}
        kept = [item for item in self._index() if item.get("annotations", {}).get(REF_NAME) in names]
        partial = self.root / "index.partial"
        partial.write_text(json.dumps({"schemaVersion": 2, "manifests": kept}))
        partial.rename(self.root / "index.json")

    def archive(self, image: Image, reference: str, path: Path) -> None:
        """Write one image as an OCI archive that ``ctr image import`` takes under ``reference``."""
        descriptor = {
            "mediaType": image.media_type,
            "digest": image.manifest.digest,
            "size": image.manifest.size,
            "annotations": {CONTAINERD_NAME: reference, REF_NAME: reference.rpartition(":")[2]},
        }
        index = json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()
        partial = path.with_suffix(".partial")
        with tarfile.open(partial, "w") as tar:
            _add_bytes(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
            _add_bytes(tar, "index.json", index)
            for blob in (image.manifest, *image.blobs):
                tar.add(blob.path, blob.path.relative_to(self.root).as_posix())
        partial.rename(path)

    def _index(self) -> Iterator[dict[str, Any]]:
        try:
            manifests = json.loads((self.root / "index.json").read_bytes())["manifests"]
        except (FileNotFoundError, ValueError, KeyError):
            return  # nothing was written yet, or a build was killed while it wrote
        yield from manifests

    def _blob(self, descriptor: dict[str, Any]) -> Blob:
        algorithm, _, value = descriptor["digest"].partition(":")
        path = self.root / "blobs" / algorithm / value
        return Blob(descriptor["digest"], descriptor["size"], path)


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o644
    tar.addfile(entry, io.BytesIO(content))
