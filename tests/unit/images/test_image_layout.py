from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from serval_lab.images.layout import Layout
from unit.images.layouts import MANIFEST, write_image


def test_a_layout_that_was_never_written_holds_nothing(tmp_path: Path) -> None:
    assert Layout(tmp_path / "none").find("image") is None


@pytest.mark.parametrize("torn", ["", "{", '{"schemaVersion": 2}'])
def test_an_index_that_a_killed_build_left_holds_nothing(tmp_path: Path, torn: str) -> None:
    write_image(tmp_path, "image", [b"layer"])
    (tmp_path / "index.json").write_text(torn)
    assert Layout(tmp_path).find("image") is None


def test_an_image_is_found_with_its_size(tmp_path: Path) -> None:
    digest = write_image(tmp_path, "image", [b"first", b"second"])
    image = Layout(tmp_path).find("image")
    assert image is not None
    assert image.manifest.digest == digest
    assert image.media_type == MANIFEST
    assert [blob.size for blob in image.blobs[1:]] == [5, 6]
    assert image.size == 11 + image.blobs[0].size


def test_an_image_with_a_blob_missing_or_short_is_not_there(tmp_path: Path) -> None:
    write_image(tmp_path, "image", [b"first", b"second"])
    layout = Layout(tmp_path)
    image = layout.find("image")
    assert image is not None
    for blob in (image.manifest, *image.blobs):
        content = blob.path.read_bytes()
        blob.path.write_bytes(content[:-1])
        assert layout.find("image") is None
        blob.path.unlink()
        assert layout.find("image") is None
        blob.path.write_bytes(content)
    assert layout.find("image") == image


def test_pruning_keeps_what_is_named_and_every_blob_that_it_shares(tmp_path: Path) -> None:
    write_image(tmp_path, "old", [b"shared", b"old code"])
    write_image(tmp_path, "new", [b"shared", b"new code"])
    layout = Layout(tmp_path)
    layout.prune(["new", "never built"])
    assert layout.find("old") is None
    image = layout.find("new")
    assert image is not None
    blobs = {path for path in (tmp_path / "blobs").rglob("*") if path.is_file()}
    assert blobs == {blob.path for blob in (image.manifest, *image.blobs)}


def test_an_archive_is_a_layout_of_one_image_that_containerd_can_name(tmp_path: Path) -> None:
    root = tmp_path / "layout"
    write_image(root, "other", [b"other"])
    digest = write_image(root, "image", [b"layer"])
    layout = Layout(root)
    image = layout.find("image")
    assert image is not None
    path = tmp_path / "image.tar"
    layout.archive(image, "localhost/serval-operator:1", path)
    unpacked = tmp_path / "unpacked"
    with tarfile.open(path) as tar:
        tar.extractall(unpacked, filter="data")
    (entry,) = json.loads((unpacked / "index.json").read_text())["manifests"]
    assert entry["digest"] == digest
    assert entry["annotations"]["io.containerd.image.name"] == "localhost/serval-operator:1"
    found = Layout(unpacked).find("1")
    assert found is not None
    assert [blob.digest for blob in found.blobs] == [blob.digest for blob in image.blobs]
    assert json.loads((unpacked / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
