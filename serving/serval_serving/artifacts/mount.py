"""Says by name that an artifact's mount is empty, which nodes do not report.

A pure OCI artifact (empty configuration, layers of a private type) is pulled and mounted by containerd
without an error, and the folder in the container has no file.
"""

from __future__ import annotations

from pathlib import Path

from serval_contract.artifact_reasons import ARTIFACT_MOUNTS_EMPTY
from serval_serving.artifacts.errors import ArtifactFailure


def check_mounted(folder: Path, image: str = "") -> None:
    """Refuse a version folder that should hold an artifact and is empty.

    Parameters
    ----------
    folder:
        Where the image is mounted.
    image:
        Its name, for the message; empty if it is not known.

    Raises
    ------
    ArtifactFailure
        ``ArtifactMountsEmpty`` if there is no entry in the folder, or no folder. Anything else is for the
        reader of the artifact to judge.
    """
    try:
        empty = next(folder.iterdir(), None) is None
    except (FileNotFoundError, NotADirectoryError):
        empty = True
    if empty:
        named = f"the image {image}" if image else "the image"
        raise ArtifactFailure(
            ARTIFACT_MOUNTS_EMPTY,
            f"{named} mounts empty at {folder}: it is a pure OCI artifact, push an ordinary image",
            permanent=True,
        )
