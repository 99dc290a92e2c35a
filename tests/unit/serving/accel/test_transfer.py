"""Classifiers of the user's own: their arithmetic, their files, and their place in an artifact."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from serval_serving.accel.artifact import (
    CLASSIFIER_FILE,
    CONVERSION_FILE,
    DEVICE_ONNX,
    STRING,
    Conversion,
    Host,
    Part,
    Preprocessing,
    Tensor,
    read_conversion,
)
from serval_serving.accel.classifiers import DenseClassifier, dense_classifier, load_classifier
from serval_serving.accel.preprocess import preprocess
from serval_serving.accel.transfer import BATCH, attach_classifier, open_featurizer
from unit.serving.accel.photo_files import kinds, sizes

IMAGES = Tensor("Placeholder:0", STRING, (None,))
INPUT = Tensor("InputImage:0", "float32", (None, 8, 8, 3))
FEATURES = Tensor("features:0", "float32", (None, 1, 1, 3))
HOW = Preprocessing(8, 8, "ShorterSide", 10, "RGB", (1.0, 2.0, 3.0), (0.01, 0.01, 0.01))


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """An artifact whose device part gives the mean of each channel."""
    ends = [
        [helper.make_tensor_value_info(one.name, TensorProto.FLOAT, ["N", *one.shape[1:]])]
        for one in (INPUT, FEATURES)
    ]
    mean = helper.make_node("ReduceMean", [INPUT.name], [FEATURES.name], axes=[1, 2], keepdims=1)
    model = helper.make_model(
        helper.make_graph([mean], "device", *ends),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    folder = tmp_path / "artifact"
    folder.mkdir()
    data = model.SerializeToString()
    (folder / DEVICE_ONNX).write_bytes(data)
    part = Part(DEVICE_ONNX, f"sha256:{hashlib.sha256(data).hexdigest()}", (INPUT,), (FEATURES,))
    conversion = Conversion(
        inputs={"images": IMAGES},
        outputs={"output_alias": FEATURES},
        host=Host("Images", (IMAGES,), (INPUT,), HOW),
        device=part,
        classifier=None,
        quantization="Int8",
    )
    (folder / CONVERSION_FILE).write_text(conversion.dump())
    return folder


def own(activation: str = "softmax") -> DenseClassifier:
    chance = np.random.default_rng(1)
    return dense_classifier(chance.normal(size=(3, 4)), chance.normal(size=4), activation)


def test_features_of_any_number_of_photos(artifact: Path) -> None:
    photos = [*sizes().values(), *kinds().values()]
    assert len(photos) > BATCH
    with open_featurizer(artifact) as featurizer:
        features = featurizer.features(photos)
        assert featurizer.quantised
        with pytest.raises(ValueError, match="no photos"):
            featurizer.features([])
        with pytest.raises(ValueError, match="neither a JPEG nor a PNG"):
            featurizer.features([b"text"])
    np.testing.assert_allclose(features, preprocess(photos, HOW).mean(axis=(1, 2)), atol=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "linear"])
def test_an_attached_classifier(activation: str, artifact: Path, tmp_path: Path) -> None:
    classifier = own(activation)
    attach_classifier(artifact, classifier, tmp_path / "own")
    conversion = read_conversion(tmp_path / "own")
    assert conversion.outputs == {"output_alias": Tensor("classifier_output/Softmax:0", "float32", (None, 4))}
    before = read_conversion(artifact)
    assert conversion == replace(before, outputs=conversion.outputs, classifier=conversion.classifier)
    assert (tmp_path / "own" / DEVICE_ONNX).read_bytes() == (artifact / DEVICE_ONNX).read_bytes()
    assert conversion.classifier is not None
    data = (tmp_path / "own" / CLASSIFIER_FILE).read_bytes()
    assert conversion.classifier.sha256 == f"sha256:{hashlib.sha256(data).hexdigest()}"
    features = np.random.default_rng(2).normal(size=(5, 1, 1, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (scores,) = session.run([conversion.classifier.outputs[0].name], {FEATURES.name: features})
    np.testing.assert_allclose(scores, classifier(features.reshape(5, 3)), rtol=1e-5)
    assert onnx.load_from_string(data).ir_version == 8


def test_a_classifier_that_does_not_fit_leaves_no_folder(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"takes 5 features, the network has \[3\]"):
        attach_classifier(artifact, dense_classifier(np.ones((5, 2)), np.ones(2)), tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_a_folder_that_is_there_stays(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    with pytest.raises(FileExistsError):
        attach_classifier(artifact, own(), tmp_path / "own")


def test_what_has_no_features_is_refused(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither an artifact nor"), open_featurizer(tmp_path):
        pass
    conversion = read_conversion(artifact)
    numbers = replace(conversion, host=Host("None"))
    (artifact / CONVERSION_FILE).write_text(numbers.dump())
    with pytest.raises(ValueError, match="no artifact of one feature tensor"), open_featurizer(artifact):
        pass


def test_files(tmp_path: Path) -> None:
    own("sigmoid").save(tmp_path / "own.npz")
    read = load_classifier(tmp_path / "own.npz")
    np.testing.assert_array_equal(read.kernel, own().kernel)
    np.testing.assert_array_equal(read.bias, own().bias)
    assert read.activation == "sigmoid"


@pytest.mark.parametrize(
    ("kernel", "bias", "activation", "message"),
    [
        (np.ones(3), np.ones(3), "softmax", r"not \[3\] and \[3\]"),
        (np.ones((3, 2)), np.ones(3), "softmax", r"not \[3, 2\] and \[3\]"),
        (np.full((3, 2), np.inf), np.ones(2), "softmax", "not finite"),
        (np.ones((3, 2)), np.ones(2), "relu", "'relu', not one of softmax, sigmoid, linear"),
    ],
)
def test_arrays_that_are_no_classifier(kernel: Any, bias: Any, activation: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dense_classifier(kernel, bias, activation)


def test_files_that_are_no_classifier(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("text")
    np.savez(tmp_path / "other.npz", weights=np.ones(3))
    np.savez(tmp_path / "pickle.npz", kernel=np.array([{}], object), bias=np.ones(1))
    for name, message in (
        ("text.npz", "is no .npz file"),
        ("other.npz", "has no arrays `kernel` and `bias`"),
        ("pickle.npz", "Object arrays cannot be loaded"),
        ("missing.npz", "is no .npz file"),
    ):
        with pytest.raises(ValueError, match=message):
            load_classifier(tmp_path / name)
