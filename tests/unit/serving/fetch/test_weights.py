"""Weights of a featurizer, as the Job of a conversion fetches them: the builder finds them by itself."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from serval_contract.models import WEIGHTS
from serval_serving.accel.build.locate import locate_weights
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.fetcher import Fetcher
from serval_serving.fetch.model.frameworks import FRAMEWORKS
from serval_serving.fetch.model.weights import no_weights
from serval_serving.fetch.settings import FetchSettings
from unit.serving.engines.onnx_models import half_plus_two
from unit.serving.fetch.builders import below, model_files, saved_model, tar, write, zipped
from unit.serving.fetch.registries import GZIP, ORAS_DEFAULT, Registry, artifact
from unit.serving.fetch.tls import Site, content

Settings = Callable[..., FetchSettings]


def hdf5() -> bytes:
    """A file as Keras writes one, as far as the first bytes tell."""
    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        made.create_group("layers")
    return file.getvalue()


H5 = hdf5()
KERAS = zipped({"metadata.json": b"{}", "config.json": b"{}", "model.weights.h5": H5}, zipfile.ZIP_STORED)
CHECKPOINT = {"checkpoint": b"text", "w.ckpt.index": b"\0\0table", "w.ckpt.data-00000-of-00001": b"\0" * 9}
SAVED_MODEL = {**model_files(), "variables/variables.index": b"\0\0table"}
ONNX = half_plus_two().SerializeToString()
TORCH = zipped({"net/data.pkl": b"\x80\x02", "net/data/0": bytes(64)}, zipfile.ZIP_STORED)
PAGE = b"\n<!DOCTYPE html><html><body>Log in</body></html>"
CURE = "a featurizer takes a .keras or .h5 file, a SavedModel, or a checkpoint of TensorFlow"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def weights(settings: Settings) -> Settings:
    def make(uri: str, **changes: Any) -> FetchSettings:
        return settings(uri, framework=FRAMEWORKS[WEIGHTS], **changes)

    return make


def fetched(settings: FetchSettings, environment: Environment) -> dict[str, bytes]:
    """Fetch, and return the files by path below the model's folder, without the digest beside them."""
    Fetcher(settings, environment).run()
    model = settings.dest / "digits"
    return {p.relative_to(model).as_posix(): p.read_bytes() for p in model.glob("*/**/*") if p.is_file()}


def fails(settings: FetchSettings, environment: Environment) -> FetchError:
    with pytest.raises(FetchError) as caught:
        Fetcher(settings, environment).run()
    assert not list(settings.dest.iterdir()), "a failure leaves nothing behind"
    return caught.value


@pytest.mark.parametrize(
    ("data", "form"), [(H5, "hdf5"), (KERAS, "keras")], ids=["a .h5 file", "a .keras file"]
)
@pytest.mark.parametrize("scheme", ["https", "pvc"])
def test_a_single_file(
    site: Site,
    source: Path,
    weights: Settings,
    environment: Environment,
    scheme: str,
    data: bytes,
    form: str,
) -> None:
    """A .keras file is a zip, and stays one; `sha256` is that of the file."""
    write(source, {"deep/resnet50": data})
    uri = "pvc://c/deep/resnet50" if scheme == "pvc" else site.serve("/resnet50", content(data))
    made = weights(uri, sha256=hashlib.sha256(data).hexdigest())
    assert fetched(made, environment) == {"1/weights": data}
    assert locate_weights(made.dest / "digits").format == form
    assert locate_weights(made.dest / "digits").path == made.dest / "digits/1/weights"
    other = weights(uri, sha256="0" * 64, dest=made.dest.parent / "other")
    assert fails(other, environment).reason == "ModelDigestMismatch"


FOLDERS = {
    "a Keras file with its name": ({"r.keras": KERAS, "notes.txt": b"b"}, "keras"),
    "a file without a name that says so": ({"resnet50": H5, ".hidden": b""}, "hdf5"),
    "a checkpoint": (CHECKPOINT, "checkpoint"),
    "a SavedModel": (SAVED_MODEL, "savedmodel"),
    "versions": ({**below("2", SAVED_MODEL), "10/r.h5": H5, "labels.txt": b"x"}, "hdf5"),
    "a version without a name that says so": ({"3/resnet50": H5}, "hdf5"),
}
"""Files, and the form that the builder recognises."""
KEPT = {
    "versions": {"10/r.h5": H5},
    "a version without a name that says so": {"3/resnet50": H5},
}


@pytest.mark.parametrize("packed", [False, True], ids=["volume", "archive"])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder(source: Path, weights: Settings, environment: Environment, name: str, packed: bool) -> None:
    files, form = FOLDERS[name]
    write(source, {"net.tar.gz": tar(below("wrapper", files))} if packed else below("net", files))
    made = weights("pvc://c/net.tar.gz" if packed else "pvc://c/net")
    assert fetched(made, environment) == KEPT.get(name, below("1", files))
    assert locate_weights(made.dest / "digits").format == form


def test_the_version_is_that_of_the_spec(source: Path, weights: Settings, environment: Environment) -> None:
    write(source, {"net.h5": H5})
    assert fetched(weights("pvc://c/net.h5", version=7), environment) == {"7/weights": H5}


def test_a_zip_with_a_file_of_weights_is_unpacked(
    source: Path, weights: Settings, environment: Environment
) -> None:
    write(source, {"net.zip": zipped({"r.h5": H5, "config.json": b"{}"})})
    files = fetched(weights("pvc://c/net.zip"), environment)
    assert files == {"1/r.h5": H5, "1/config.json": b"{}"}


def test_a_layer_of_an_image(site: Site, weights: Settings, environment: Environment) -> None:
    registry = Registry(site)
    registry.push((GZIP, tar({"models/r.keras": KERAS})))
    assert fetched(weights(registry.uri()), environment) == {"1/r.keras": KERAS}


@pytest.mark.parametrize(("title", "data"), [("r.keras", KERAS), ("r.weights.h5", H5)])
def test_a_file_as_oras_pushes_it(
    site: Site, weights: Settings, environment: Environment, title: str, data: bytes
) -> None:
    """A .keras file is a zip, and stays one."""
    registry = Registry(site)
    artifact(registry, {title: data}, ORAS_DEFAULT)
    assert fetched(weights(registry.uri()), environment) == {f"1/{title}": data}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty; " + CURE),
        (PAGE, "a web page, and no weights: name the address of the file itself; " + CURE),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a pointer of Git LFS"),
        ("Gewichte für später\n".encode(), "text, and no weights; " + CURE),
        (ONNX, "an ONNX model, and no weights of Keras; " + CURE),
        (TORCH, "a file of PyTorch, and no weights of Keras; set them in the network of tf.keras."),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "a pickled Python object (PyTorch's older files"),
        (b"\x1c\0\0\0TFL3" + bytes(60), "a TensorFlow Lite model, and no weights of Keras"),
        (b'\x40\0\0\0\0\0\0\0{"a":{"dtype"' + bytes(9), "a file of safetensors, and no weights of Keras"),
    ],
    ids=["empty", "page", "LFS", "text", "ONNX", "PyTorch", "pickle", "TFLite", "safetensors"],
)
def test_a_file_that_cannot_be_weights(
    site: Site, source: Path, weights: Settings, environment: Environment, data: bytes, words: str
) -> None:
    """As a single file, and as the only file of a folder, whatever its name says."""
    for uri in (site.serve("/r.h5", content(data)), "pvc://c/r.h5"):
        write(source, {"r.h5": data})
        error = fails(weights(uri), environment)
        assert (error.reason, error.permanent) == ("ModelInvalid", True)
        assert error.message.startswith(f"the file is {words}")
    if data != TORCH:  # in a folder it is known by its name
        write(source, {"net/r.h5": data})
        error = fails(weights("pvc://c/net"), environment)
        assert (error.reason, error.permanent) == ("ModelInvalid", True)
        assert error.message.startswith(f"version 1: r.h5 is {words}")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"m.onnx": ONNX}, "the source holds no weights of Keras; m.onnx is an ONNX model"),
        ({"r.PTH": TORCH, "readme.md": b"x"}, "the source holds no weights of Keras; r.PTH is a file of Py"),
        ({"3/r.pt": TORCH}, "version 3 holds no weights of Keras; r.pt is a file of PyTorch"),
        (
            {"3/readme.md": b"x"},
            "version 3 holds no file with weights (a .keras or .h5 file, a SavedModel, or",
        ),
        ({"a/r.h5": H5, "b/r.h5": H5}, "there is neither file with weights (a .keras"),
        ({"readme.md": b"x"}, "there is neither file with weights (a .keras"),
    ],
)
def test_a_folder_that_holds_no_weights(
    source: Path, weights: Settings, environment: Environment, files: dict[str, bytes], words: str
) -> None:
    write(source, below("net", files))
    error = fails(weights("pvc://c/net"), environment)
    assert (error.reason, error.permanent) == ("ModelInvalid", True)
    assert error.message.startswith(words)


def test_one_file_that_may_be_weights_is_enough(
    source: Path, weights: Settings, environment: Environment
) -> None:
    write(source, {"net/a.h5": PAGE, "net/m.onnx": ONNX, "net/r.h5": H5})
    assert sorted(fetched(weights("pvc://c/net"), environment)) == ["1/a.h5", "1/m.onnx", "1/r.h5"]


def test_a_zip_that_is_damaged(source: Path, weights: Settings, environment: Environment) -> None:
    write(source, {"r.keras": KERAS[:-30]})
    assert fails(weights("pvc://c/r.keras"), environment).reason == "ModelArtifactRejected"


def test_a_directory_of_a_zip_that_is_too_long(
    source: Path, weights: Settings, environment: Environment
) -> None:
    """It is bounded before it is read into memory."""
    entries = {f"{'n' * 200}{index}": b"" for index in range(6000)}
    many = zipped({"metadata.json": b"{}", "config.json": b"{}", **entries}, zipfile.ZIP_STORED)
    write(source, {"r.keras": many})
    error = fails(weights("pvc://c/r.keras"), environment)
    assert error.message == "a header of the archive is longer than any model needs"


def test_a_saved_model_is_not_taken_for_onnx() -> None:
    """Both begin with the number of a version, and so do checkpoints' tables with none of them."""
    assert no_weights("saved_model.pb", saved_model()) == ""
    assert no_weights("", ONNX) != ""
    assert no_weights("weights.bin", bytes(range(256))) == ""
