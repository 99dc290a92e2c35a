"""The catalogue against its sources, and what follows from its numbers."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serval_serving.accel.artifact import Preprocessing
from serval_serving.accel.catalogue import NETWORKS, network, override_preprocessing, ssd

# Written by hand from the sources that networks.py and preprocessing.py name.
GOLDEN = {
    "ResNet50": ("224x224", 2048, "classifier/resnet_v1_50/predictions/Softmax:0", "softmax"),
    "ResNet152": ("224x224", 2048, "classifier/resnet_v1_152/predictions/Softmax:0", "softmax"),
    "DenseNet121": ("224x224", 1024, "classifier/densenet121/predictions/Softmax:0", "softmax"),
    "VGG16": ("224x224", 4096, "classifier/vgg_16/fc8/squeezed:0", None),
}
RGB = (123.68, 116.779, 103.939)
AZURE = {
    "ResNet50": Preprocessing(224, 224, "ShorterSide", 256, "RGB", RGB, (1, 1, 1)),
    "ResNet152": Preprocessing(224, 224, "ShorterSide", 256, "RGB", RGB, (1, 1, 1)),
    "DenseNet121": Preprocessing(224, 224, "ShorterSide", 256, "RGB", RGB, (0.017, 0.017, 0.017)),
    "VGG16": Preprocessing(224, 224, "ShorterSide", 256, "RGB", RGB, (1, 1, 1)),
    "SSDVGG": Preprocessing(300, 300, "Stretch", 0, "RGB", RGB, (1, 1, 1)),
}
SHAPES = {4: (37, 4), 7: (19, 6), 8: (10, 6), 9: (5, 6), 10: (3, 4), 11: (1, 4)}


def test_the_five_networks() -> None:
    assert set(NETWORKS) == {*GOLDEN, "SSDVGG"}
    for name, (size, channels, output, activation) in GOLDEN.items():
        one = network(name)
        assert (one.name, one.input.name, one.input.dtype) == (name, "InputImage:0", "float32")
        assert "x".join(str(side) for side in one.input.shape[1:3]) == size
        (features,) = one.features
        assert features.name == "brainwave_target_node_1_Version_0.1:0"
        assert features.shape == (None, 1, 1, channels)
        assert one.channels == channels
        assert one.classifier is not None
        assert (one.classifier.output, one.classifier.activation) == (output, activation)
        assert one.classifier.classes == 1000
        assert one.outputs == {"output_alias": output}


def test_ssd_vgg_has_azures_twelve_outputs() -> None:
    one = network("SSDVGG")
    assert one.classifier is None
    expected = [
        (f"ssd_300_vgg/block{block}_box/{end}:0", (None, cells, cells, anchors, size))
        for end, size in (("Reshape_1", 21), ("Reshape", 4))
        for block, (cells, anchors) in SHAPES.items()
    ]
    assert [(tensor.name, tensor.shape) for tensor in one.features] == expected
    assert list(one.outputs.items()) == [(f"out_{i}", name) for i, (name, _) in enumerate(expected)]
    with pytest.raises(ValueError, match="SSDVGG is a detector"):
        _ = one.channels


@pytest.mark.parametrize("name", AZURE)
def test_azures_preprocessing(name: str) -> None:
    assert network(name).preprocessing["azure"] == AZURE[name]


@pytest.mark.parametrize("name", ["ResNet50", "ResNet152", "VGG16", "SSDVGG"])
def test_keras_mode_caffe(name: str) -> None:
    keras = network(name).preprocessing["keras"]
    assert (keras.order, keras.means, keras.scales) == ("BGR", (103.939, 116.779, 123.68), (1, 1, 1))


def test_keras_mode_torch() -> None:
    keras = network("DenseNet121").preprocessing["keras"]
    grey = 128.0
    for mean, scale, torch_mean, deviation in zip(
        keras.means, keras.scales, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True
    ):
        assert math.isclose((grey - mean) * scale, (grey / 255 - torch_mean) / deviation, rel_tol=1e-9)
    assert keras.order == "RGB"


def test_an_unknown_network_is_named() -> None:
    with pytest.raises(ValueError, match=r"'Resnet50'.*ResNet50, ResNet152, DenseNet121, VGG16, SSDVGG"):
        network("Resnet50")


def test_overrides() -> None:
    base = AZURE["ResNet50"]
    changed = override_preprocessing(base, {"shorterSide": 232, "interpolation": "Bicubic"})
    assert (changed.shorter_side, changed.interpolation, changed.means) == (232, "Bicubic", base.means)
    turned = override_preprocessing(base, {"order": "BGR"})
    assert turned == NETWORKS["ResNet50"].preprocessing["keras"]
    given_means = override_preprocessing(base, {"order": "BGR", "means": [1, 2, 3], "scales": [0.5, 1, 2]})
    assert (given_means.means, given_means.scales) == ((1.0, 2.0, 3.0), (0.5, 1.0, 2.0))
    assert override_preprocessing(base, {"order": "RGB"}) == base


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 224}, "no field 'size'"),
        ({"order": "GBR"}, "preprocessing.order is 'GBR', not one of RGB, BGR"),
        ({"resize": "stretch"}, "not one of ShorterSide, Stretch"),
        ({"means": [1, 2]}, "preprocessing.means is .*three numbers"),
        ({"means": "123"}, "preprocessing.means is .*three numbers"),
        ({"scales": [1, math.nan, 1]}, "preprocessing.scales has nan"),
        ({"scales": [1, True, 1]}, "preprocessing.scales has True"),
        ({"shorterSide": 200}, "200, less than the network's input of 224x224"),
        ({"shorterSide": 10**6}, "not a whole number up to 4096"),
        ({"shorterSide": "256"}, "not a whole number"),
    ],
)
def test_an_override_that_cannot_be_used_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override_preprocessing(AZURE["ResNet50"], fields)


def test_anchors() -> None:
    anchors = ssd.anchors()
    assert anchors.shape == (8432, 4)
    assert anchors.dtype == np.float32
    start = 0
    for head in ssd.HEADS:
        cells, count = SHAPES[head.block]
        grid = anchors[start : (start := start + cells * cells * count)].reshape(cells, cells, count, 4)
        # All anchors of a cell share its centre; x grows along a row, y from row to row, by the step.
        assert np.ptp(grid[..., :2], axis=2).max() == 0
        np.testing.assert_allclose(grid[0, 0, 0, :2], head.step / 2 / 300, rtol=1e-6)
        np.testing.assert_allclose(np.diff(grid[..., 0], axis=1), head.step / 300, rtol=1e-4)
        np.testing.assert_allclose(np.diff(grid[..., 1], axis=0), head.step / 300, rtol=1e-4)
        area = grid[0, 0, :, 2] * grid[0, 0, :, 3] * 300**2
        expected = [head.smaller**2, head.smaller * head.larger, *[head.smaller**2] * (count - 2)]
        np.testing.assert_allclose(area, expected, rtol=1e-5)
        np.testing.assert_allclose(grid[0, 0, 2:, 2] / grid[0, 0, 2:, 3], head.ratios, rtol=1e-5)
    assert start == 8432


def test_no_offset_decodes_to_the_anchor() -> None:
    anchors = ssd.anchors()
    boxes = ssd.decode(np.zeros_like(anchors), anchors)
    np.testing.assert_allclose(boxes[:, 2] - boxes[:, 0], anchors[:, 3], atol=1e-6)
    np.testing.assert_allclose(boxes[:, 3] - boxes[:, 1], anchors[:, 2], atol=1e-6)
    np.testing.assert_allclose((boxes[:, 0] + boxes[:, 2]) / 2, anchors[:, 1], atol=1e-6)


def outputs_of(seed: int, images: int = 1, spread: float = 1.0) -> dict[str, Any]:
    chance = np.random.default_rng(seed)
    found = {}
    for tensor in ssd.OUTPUTS:
        values = chance.normal(0, spread, (images, *tensor.shape[1:])).astype(np.float32)
        if tensor.shape[-1] == 21:
            values[..., 1:] *= 3
            values[..., 0] += 9  # mostly background
        found[tensor.name] = values
    return found


def test_each_image_is_judged_by_itself() -> None:
    both = outputs_of(3, images=2)
    first, second = ssd.detections(both)
    for index, expected in enumerate((first, second)):
        (alone,) = ssd.detections({name: value[index : index + 1] for name, value in both.items()})
        np.testing.assert_array_equal(alone.boxes, expected.boxes)
        np.testing.assert_array_equal(alone.classes, expected.classes)
    aliases = {f"out_{i}": both[tensor.name] for i, tensor in enumerate(ssd.OUTPUTS)}
    np.testing.assert_array_equal(ssd.detections(aliases)[1].scores, second.scores)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(0.5, 30))
def test_what_holds_of_all_detections(seed: int, spread: float) -> None:
    (found,) = ssd.detections(outputs_of(seed, spread=spread))
    assert len(found.scores) <= ssd.MOST
    assert (found.scores > 0.5).all()
    assert (np.diff(found.scores) <= 0).all()
    assert ((found.boxes >= 0) & (found.boxes <= 1)).all()
    assert ((found.classes >= 1) & (found.classes <= 20)).all()
    for index in range(min(len(found.classes), 50)):
        same = found.classes[index + 1 :] == found.classes[index]
        assert (ssd.overlap(found.boxes[index], found.boxes[index + 1 :])[same] <= 0.45 + 1e-6).all()


def test_an_output_that_is_missing_or_misshapen_is_named() -> None:
    good = outputs_of(1)
    name = ssd.OUTPUTS[3].name
    with pytest.raises(ValueError, match=rf"{name} \(out_3\) is missing"):
        ssd.detections({key: value for key, value in good.items() if key != name})
    with pytest.raises(ValueError, match=r"has the shape \[1, 5, 5, 6, 20\], not \[None, 5, 5, 6, 21\]"):
        ssd.detections({**good, name: good[name][..., :20]})
    with pytest.raises(ValueError, match="different numbers of images"):
        ssd.detections({**good, name: np.concatenate([good[name]] * 2)})


def azures_post_processing() -> ModuleType | None:
    """The module of azureml-accel-models, where it is installed."""
    for folder in sys.path:
        path = Path(folder) / "azureml" / "accel" / "_external" / "ssdvgg_utils.py"
        if path.is_file():
            spec = importlib.util.spec_from_file_location("ssdvgg_utils", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return None


@pytest.mark.skipif(azures_post_processing() is None, reason="azureml-accel-models is not installed")
@pytest.mark.parametrize("seed", range(5))
def test_the_same_is_found_as_by_azures_own_post_processing(seed: int) -> None:
    module = azures_post_processing()
    assert module is not None
    outputs = outputs_of(seed)
    classes, scores, boxes = module.postprocess([outputs[tensor.name] for tensor in ssd.OUTPUTS])
    (ours,) = ssd.detections(outputs)
    assert 10 < len(ours.classes) < ssd.MOST
    # Scores that differ by rounding alone may be in either order.
    mine, theirs = np.lexsort([ours.scores, ours.classes]), np.lexsort([scores, classes])
    np.testing.assert_array_equal(ours.classes[mine], classes[theirs])
    np.testing.assert_allclose(ours.scores[mine], scores[theirs], atol=1e-6)
    np.testing.assert_allclose(ours.boxes[mine], boxes[theirs], atol=1e-6)
