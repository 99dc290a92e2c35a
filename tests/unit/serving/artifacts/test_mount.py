from __future__ import annotations

from pathlib import Path

import pytest

from serval_serving.artifacts.errors import ArtifactFailure
from serval_serving.artifacts.mount import check_mounted


def test_a_folder_with_files_passes(artifact: Path) -> None:
    check_mounted(artifact, "r.test/a@sha256:0")


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    ("image", "named"), [("r.test/a", "the image r.test/a"), ("", "the image")], ids=["named", ""]
)
def test_an_empty_mount_is_named(tmp_path: Path, exists: bool, image: str, named: str) -> None:
    folder = tmp_path / "1"
    if exists:
        folder.mkdir()
    with pytest.raises(ArtifactFailure) as caught:
        check_mounted(folder, image)
    words = f"{named} mounts empty at {folder}: it is a pure OCI artifact, push an ordinary image"
    assert caught.value.message == words
    assert (caught.value.reason, caught.value.permanent) == ("ArtifactMountsEmpty", True)
