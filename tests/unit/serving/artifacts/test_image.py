"""Layers and images: the same files give the same bytes, and what is made can be read by others."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serval_contract.models import DIGEST
from serval_serving.artifacts.errors import ArtifactFailure
from serval_serving.artifacts.folder import Limits, bytes_file, read_folder
from serval_serving.artifacts.image import append_layers, created, make_image, parse_manifest
from serval_serving.artifacts.layer import GZIP, TAR, Layer, make_layer, sha256_of
from unit.serving.artifacts.conftest import write_artifact

LIMITS = Limits()


def content(layer: Layer) -> bytes:
    return b"".join(layer.blob.chunks())


def folder_layer(folder: Path, **options: Any) -> Layer:
    return make_layer(read_folder(folder, LIMITS), **options)


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_same_files_give_the_same_bytes(tmp_path: Path, compress: bool) -> None:
    layers = []
    for index, order in enumerate((("b", "a/x", "é" * 80), ("é" * 80, "a/x", "b"))):
        folder = tmp_path / str(index)
        for name in order:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(name[:1].encode() * 700)
        os.utime(folder / "b", (index, index))
        (folder / "b").chmod(0o600 + index)
        layers.append(folder_layer(folder, compress=compress))
    assert content(layers[0]) == content(layers[1])
    assert layers[0].blob.digest == layers[1].blob.digest == sha256_of((content(layers[0]),))[0]
    assert layers[0].blob.size == len(content(layers[0]))


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_a_layer_is_a_tar_that_others_read(artifact: Path, compress: bool) -> None:
    (artifact / "inner").mkdir()
    (artifact / "inner" / "x").write_bytes(b"")
    layer = folder_layer(artifact, compress=compress)
    data = content(layer)
    assert layer.blob.media_type == (GZIP if compress else TAR)
    plain = gzip.decompress(data) if compress else data
    assert layer.diff_id == sha256_of((plain,))[0]
    assert len(plain) % tarfile.RECORDSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        members = archive.getmembers()
        assert [one.name for one in members] == sorted(one.name for one in members)
        assert {(one.mtime, one.uid, one.gid, one.uname, one.gname) for one in members} == {(0, 0, 0, "", "")}
        assert {one.name: one.mode for one in members}["inner"] == 0o755
        read = {one.name: archive.extractfile(one).read() for one in members if one.isreg()}  # type: ignore[union-attr]
    files = {p.relative_to(artifact).as_posix(): p.read_bytes() for p in artifact.rglob("*") if p.is_file()}
    assert read == files


def test_the_bytes_of_a_layer_are_those_of_earlier_releases() -> None:
    # A digest that changes without a cause makes every artifact that is pushed again a new one.
    layer = make_layer([bytes_file("b/c", b"content"), bytes_file("a", b"")], below="models/1")
    image = make_image([layer], {"x": "y"})
    assert layer.diff_id == "sha256:5014bcbfb12a26f461d5a46d35f7a47c7fb4b4dd6b1cf623b667f0cab39a5b1b"
    assert image.digest == "sha256:f3af2d26f42267296caa701833fb644742e4c2f8ce2b70c63b787e4f8af32294"


def test_image_is_ordinary() -> None:
    layers = [make_layer([bytes_file(name, b"1")], compress=name == "b") for name in ("a", "b")]
    image = make_image(layers, {"dev.serval.network": "VGG16"})
    manifest = json.loads(image.manifest)
    assert manifest["artifactType"] == "application/vnd.serval.model.v1"
    assert manifest["annotations"] == {"dev.serval.network": "VGG16"}
    assert manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    config = json.loads(b"".join(image.config.chunks()))
    assert config["rootfs"] == {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    assert len(config["history"]) == 2
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    read = parse_manifest(image.manifest)
    assert read.digest == image.digest
    assert [one.digest for one in read.layers] == [layer.blob.digest for layer in layers]
    assert read.size == image.size


def base(kind: str = "oci", config: dict[str, Any] | None = None) -> tuple[bytes, bytes]:
    made: dict[str, Any] = {
        "os": "linux",
        "config": {"Entrypoint": ["server"], "Cmd": ["--old"], "Env": ["A=1"]},
    }
    made |= {
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]},
        "history": [{"created_by": "x"}],
    }
    text = json.dumps({**made, **(config or {})}).encode()
    prefix = {"oci": "application/vnd.oci.image", "docker": "application/vnd.docker"}[kind]
    types = {
        "oci": (f"{prefix}.manifest.v1+json", f"{prefix}.config.v1+json", f"{prefix}.layer.v1.tar+gzip"),
        "docker": (
            f"{prefix}.distribution.manifest.v2+json",
            f"{prefix}.container.image.v1+json",
            f"{prefix}.image.rootfs.diff.tar.gzip",
        ),
    }[kind]
    manifest = {
        "schemaVersion": 2,
        "mediaType": types[0],
        "config": {"mediaType": types[1], "digest": sha256_of((text,))[0], "size": len(text)},
        "layers": [{"mediaType": types[2], "digest": "sha256:" + "2" * 64, "size": 9}],
    }
    return json.dumps(manifest).encode(), text


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_layer_on_top_of_a_base_image(kind: str) -> None:
    manifest, config = base(kind)
    layer = make_layer([bytes_file("conversion.json", b"{}")], below="models/m/1")
    image = append_layers(manifest, config, [layer], arguments=["--model_name=m"], annotations={"a": "b"})
    made, of = json.loads(image.manifest), json.loads(b"".join(image.config.chunks()))
    assert image.media_type == made["mediaType"] == json.loads(manifest)["mediaType"]
    assert made["layers"][0] == json.loads(manifest)["layers"][0] == image.inherited[0]
    family = "application/vnd.docker.image.rootfs.diff.tar" if kind == "docker" else TAR
    assert (made["layers"][1]["mediaType"], made["layers"][1]["digest"]) == (family, layer.blob.digest)
    assert of["rootfs"]["diff_ids"] == ["sha256:" + "1" * 64, layer.diff_id]
    assert len(of["history"]) == 2
    assert of["config"] == {"Entrypoint": ["server"], "Cmd": ["--model_name=m"], "Env": ["A=1"]}
    assert made["annotations"] == {"a": "b"}
    other = append_layers(manifest, config, [layer], entrypoint=["other"])
    assert json.loads(b"".join(other.config.chunks()))["config"]["Entrypoint"] == ["other"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _, c: (b"[]", c), "none of an image"),
        (lambda _, c: (b"{", c), "none of an image"),
        (lambda m, c: (json.dumps({**json.loads(m), "layers": 7}).encode(), c), "none of an image"),
        (lambda m, c: (m, c + b" "), "not the one"),
        (lambda *_: base(config={"rootfs": {"type": "layers", "diff_ids": []}}), "other layers"),
    ],
)
def test_what_is_no_base_image(change: Callable[[bytes, bytes], tuple[bytes, bytes]], words: str) -> None:
    with pytest.raises(ArtifactFailure, match=words):
        append_layers(*change(*base()), [make_layer([])])


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"null", b'{"config": {"digest": "x"}, "layers": []}', b"[" * 99999]
)
def test_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(ArtifactFailure, match="RegistryRejected"):
        parse_manifest(data)


@pytest.mark.parametrize("seconds", [-1e30, 0, 1.5, 1e30])
def test_any_time_can_be_written(seconds: float) -> None:
    assert created(seconds).endswith("Z")


LINKS: dict[str, Callable[[Path], object]] = {
    "symbolic link": lambda folder: (folder / "x").symlink_to("/etc/hostname"),
    "symbolic  link to a folder": lambda folder: (folder / "x").symlink_to("/etc"),
    "hard link": lambda folder: (folder / "x").hardlink_to(folder / "device.onnx"),
    "device, pipe": lambda folder: os.mkfifo(folder / "x"),
    "characters": lambda folder: (folder / "a\nb").touch(),
    "characters ": lambda folder: (folder / "a\\b").touch(),
    "folders deep": lambda folder: (folder / "/".join("d" * 40)).mkdir(parents=True),
}


@pytest.mark.parametrize("words", LINKS)
def test_folder_with_what_is_refused(artifact: Path, words: str) -> None:
    LINKS[words](artifact)
    with pytest.raises(ArtifactFailure, match=" ".join(words.split()[:2])) as caught:
        read_folder(artifact, LIMITS)
    assert (caught.value.reason, caught.value.permanent) == ("ArtifactInvalid", True)


def test_folder_that_is_a_link_or_none(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(artifact)
    for path in (tmp_path / "link", tmp_path / "nothing", artifact / "device.onnx"):
        with pytest.raises(ArtifactFailure, match="ArtifactInvalid"):
            read_folder(path, LIMITS)


@pytest.mark.parametrize("limits", [Limits(max_bytes=7999), Limits(max_entries=2)], ids=["bytes", "entries"])
def test_folder_above_the_limits(tmp_path: Path, limits: Limits) -> None:
    artifact = write_artifact(tmp_path / "a", b"x" * 8000)
    with pytest.raises(ArtifactFailure, match="ArtifactTooLarge"):
        read_folder(artifact, limits)


def swapped(folder: Path) -> None:
    (folder / "device.onnx").unlink()
    (folder / "device.onnx").symlink_to("/etc/hostname")


def replaced(folder: Path) -> None:
    size = (folder / "device.onnx").stat().st_size
    (folder / "new").write_bytes(b"y" * size)
    (folder / "new").rename(folder / "device.onnx")


@pytest.mark.parametrize(
    "change", [swapped, replaced, lambda folder: (folder / "device.onnx").write_bytes(b"z")]
)
def test_file_that_changes_after_it_was_seen(artifact: Path, change: Callable[[Path], object]) -> None:
    files = read_folder(artifact, LIMITS)
    change(artifact)
    with pytest.raises(ArtifactFailure, match="ArtifactInvalid"):
        make_layer(files)


def test_folder_on_the_way_that_becomes_a_link(artifact: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (artifact / "inner").mkdir()
    (artifact / "inner" / "x").write_bytes(b"of the user")
    files = read_folder(artifact, LIMITS)
    (artifact / "inner" / "x").rename(secret / "x")
    (artifact / "inner").rmdir()
    (artifact / "inner").symlink_to(secret)
    with pytest.raises(ArtifactFailure, match="symbolic link"):
        make_layer(files)


def test_digest_form() -> None:
    assert DIGEST.fullmatch(make_layer([]).diff_id)
