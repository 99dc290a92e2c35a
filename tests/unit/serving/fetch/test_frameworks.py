from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from serval_contract.models import ONNX, TENSORFLOW
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.fetcher import Fetcher
from serval_serving.fetch.model.frameworks import FRAMEWORKS
from serval_serving.fetch.settings import FetchSettings
from unit.serving.engines.onnx_models import half_plus_two
from unit.serving.fetch.builders import below, model_files, saved_model, tar, write
from unit.serving.fetch.tls import Site, content

Settings = Callable[..., FetchSettings]
MODEL = half_plus_two().SerializeToString()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def fails(settings: FetchSettings, environment: Environment) -> FetchError:
    with pytest.raises(FetchError) as caught:
        Fetcher(settings, environment).run()
    assert not list(settings.dest.iterdir()), "a failure leaves nothing behind"
    return caught.value


@pytest.mark.parametrize("file", ["model.onnx", "anything.onnx"])
def test_onnx_model_in_a_volume(
    source: Path, settings: Settings, environment: Environment, file: str
) -> None:
    write(source, {f"net/1/{file}": MODEL, f"net/2/{file}": MODEL, "net/2/labels.txt": b"a b"})
    made = settings("pvc://c/net", framework=FRAMEWORKS[ONNX])
    fetched = Fetcher(made, environment).run()
    assert fetched.version == 2
    assert sorted(p.name for p in (made.dest / "digits/2").iterdir()) == sorted([file, "labels.txt"])
    assert [one.name for one in fetched.inputs or ()] == ["x"]


@pytest.mark.parametrize(
    "data",
    [MODEL, tar({"3/model.onnx": MODEL}), zstd.compress(tar({"3/model.onnx": MODEL}, mode="w:"))],
    ids=["file", "tar.gz", "tar.zst"],
)
def test_onnx_model_over_https(site: Site, settings: Settings, environment: Environment, data: bytes) -> None:
    uri = site.serve("/net", content(data))
    made = settings(uri, framework=FRAMEWORKS[ONNX], sha256=hashlib.sha256(data).hexdigest(), version=3)
    assert Fetcher(made, environment).run().version == 3
    assert (made.dest / "digits/3/model.onnx").read_bytes() == MODEL
    other = settings(uri, framework=FRAMEWORKS[ONNX], sha256="0" * 64, dest=made.dest.parent / "other")
    assert fails(other, environment).reason == "ModelDigestMismatch"


@pytest.mark.parametrize("name", ["digits.tar.gz", "digits"])
def test_archive_in_a_volume(source: Path, settings: Settings, environment: Environment, name: str) -> None:
    data = tar(below("digits/6", model_files()))
    write(source, {f"packed/{name}": data})
    made = settings(
        f"pvc://c/packed/{name}", sha256=hashlib.sha256(data).hexdigest(), max_bytes=len(data) + 400
    )
    assert Fetcher(made, environment).run().version == 6
    assert (
        fails(
            settings(f"pvc://c/packed/{name}", max_bytes=100, dest=source.parent / "other"), environment
        ).reason
        == "ModelTooLarge"
    )


def test_single_onnx_file_in_a_volume(source: Path, settings: Settings, environment: Environment) -> None:
    write(source, {"net/any.onnx": MODEL})
    made = settings("pvc://c/net/any.onnx", framework=FRAMEWORKS[ONNX])
    assert Fetcher(made, environment).run().version == 1
    assert (made.dest / "digits/1/model.onnx").read_bytes() == MODEL


@pytest.mark.parametrize(
    ("asked", "files", "words"),
    [
        (
            TENSORFLOW,
            {"net/1/model.onnx": MODEL},
            "version 1 holds an ONNX model, and a SavedModel is asked for; set spec.model",
        ),
        (TENSORFLOW, {"net/a.onnx": MODEL, "net/b.onnx": MODEL}, "set spec.model.framework to ONNX"),
        (ONNX, below("net/1", model_files()), "set spec.model.framework to TensorFlow"),
        (ONNX, {"net/1/a.onnx": MODEL, "net/1/b.onnx": MODEL}, "several ONNX files"),
        (ONNX, {"net/1/model.onnx": b"damaged"}, "version 1: model.onnx is damaged"),
        (ONNX, {"net/1/x": b""}, "version 1 holds no model.onnx or other ONNX file"),
        (ONNX, {"net/1/m.tflite": b""}, "version 1 holds no model.onnx or other ONNX file; m.tflite is a"),
        (
            TENSORFLOW,
            {"net/m.tflite": b""},
            "the source holds no saved_model.pb; m.tflite is a TensorFlow Lite",
        ),
        (ONNX, {"net/1/model.onnx": MODEL} | below("net/1", model_files()), "beside model.onnx there is a"),
    ],
)
def test_wrong_model_is_named(
    source: Path,
    settings: Settings,
    environment: Environment,
    asked: str,
    files: dict[str, bytes],
    words: str,
) -> None:
    write(source, files)
    error = fails(settings("pvc://c/net", framework=FRAMEWORKS[asked]), environment)
    assert (error.reason, error.permanent) == ("ModelInvalid", True)
    assert words in error.message


@pytest.mark.parametrize("asked", [ONNX, TENSORFLOW])
def test_a_single_file_of_another_kind_is_named(
    site: Site, settings: Settings, environment: Environment, asked: str
) -> None:
    uri = site.serve("/net", content(b"\x1c\0\0\0TFL3" + bytes(100)))
    error = fails(settings(uri, framework=FRAMEWORKS[asked]), environment)
    assert (error.reason, error.permanent) == ("ModelInvalid", True)
    assert error.message.startswith("the file is a TensorFlow Lite model, which is not served; deploy the")


def test_the_graph_with_the_tags_of_the_server_is_read(
    source: Path, settings: Settings, environment: Environment
) -> None:
    write(source, {"net/1/saved_model.pb": saved_model(tags=("serve", "gpu"))})
    assert Fetcher(settings("pvc://c/net", tags=("gpu", "serve")), environment).run().version == 1
    other = settings("pvc://c/net", dest=source.parent / "other")
    assert "tags found: 'serve', 'gpu'" in fails(other, environment).message


def test_web_page_is_no_onnx_model(site: Site, settings: Settings, environment: Environment) -> None:
    uri = site.serve("/net", content(b"<!DOCTYPE html><html>"))
    assert fails(settings(uri, framework=FRAMEWORKS[ONNX]), environment).reason == "ModelInvalid"
