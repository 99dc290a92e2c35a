"""A tiny network through the whole build: what the SavedModel holds and answers, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serval_contract.build_reasons import BUILD_REASONS
from serval_contract.stage_report import REASON, parse_stage_report
from serval_serving.accel.build_record import read_build_record
from unit.serving.accel.tiny_network import CHANNELS, CLASSES, TINY

PROGRAM = Path(__file__).with_name("build_cases.py")
FORMATS = (
    "keras",
    "h5",
    "weights.h5",
    "weights.h5 in a folder",
    "weights.h5 of a model within a model",
    "h5 of a model within a model",
    "weights.h5 without names",
    "h5 with other names",
    "exported SavedModel",
    "saved_model.save",
    "checkpoint of TensorFlow 2",
)
BAD = {
    "another width": (
        "WeightsMismatch",
        "layer first: kernel expected [3, 3, 3, 4], found [3, 3, 3, 9]; layer first: bias expected [4]",
    ),
    "one layer": (
        "WeightsMismatch",
        "there is no layer norm; there is no layer second; there is no layer pre",
    ),
    "another network": (
        "WeightsMismatch",
        "fit no layer of ResNet50: they have 1 layers, such as else",
    ),
    "slim": ("SlimCheckpoint", "this is a TF-Slim checkpoint (it has conv1/weights)"),
    "slim index": ("SlimCheckpoint", "this is a TF-Slim checkpoint"),
    "frozen": ("WeightsInvalid", "the SavedModel has no variables"),
    "link": ("WeightsInvalid", "layers is a link to another file"),
    "external": ("WeightsInvalid", "the values of 0 are in another file"),
    "text": ("WeightsInvalid", "text.h5 is none of these: a .keras, .h5"),
    "cut zip": ("WeightsInvalid", "cut.keras is none of these"),
    "cut hdf5": ("WeightsInvalid", "cut.h5 cannot be read: "),
    "nothing": ("WeightsNotFound", "there is no "),
    "empty folder": ("WeightsNotFound", "has no weights; expected a .keras"),
    "many files": ("WeightsNotFound", "has several weights ("),
    "featurizer": ("FeaturizerUnknown", "there is no network 'Resnet50'"),
    "preprocessing": ("PreprocessingInvalid", "preprocessing.order is 'GBR'"),
    "origin": ("PreprocessingInvalid", "preprocessing.origin is not one of Azure, Keras"),
    "classifier of other features": ("ClassifierInvalid", "the classifier takes 7 features; ResNet50 has 6"),
    "classifier with nan": ("ClassifierInvalid", "numbers that are not finite"),
    "classifier with objects": ("ClassifierInvalid", "Object arrays cannot be loaded"),
    "no classifier": ("ClassifierInvalid", "the classifier cannot be used"),
    "classifier that is a network": ("ClassifierInvalid", "the classifier takes [[16, 16, 3]]"),
    "photos": ("CalibrationInvalid", "bad photos: photo 0: the bytes are neither a JPEG nor a PNG"),
    "no photos": ("CalibrationInvalid", "has no photos"),
}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("built")


@pytest.fixture(scope="module")
def found(folder: Path) -> Any:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(folder)], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_signature_and_tensors(found: Any) -> None:
    assert TINY.classifier is not None
    for name in ("random", "keras"):
        one = found["good"][name]
        assert one["inputs"] == {"images": "Placeholder:0"}
        assert one["outputs"] == {"output_alias": TINY.classifier.output}
        assert np.shape(one["features"]) == (3, 1, 1, CHANNELS)
        assert np.shape(one["scores"]) == (3, CLASSES)
        np.testing.assert_allclose(np.sum(one["scores"], axis=1), 1, rtol=1e-5)
        assert one["copies"] == one["scores"]


def test_the_graph_preprocesses_as_the_origin_of_the_weights_wants(found: Any) -> None:
    for name, origin, other in (
        ("random", "azure", "keras"),
        ("keras", "keras", "azure"),
        ("azure", "azure", "keras"),  # an override
        ("own of azure", "azure", "keras"),  # what the SavedModel says of itself
    ):
        differences = found["good"][name]["input_difference"]
        assert differences[origin] < 1e-5
        assert differences[other] > 1


def test_random_weights_depend_on_the_seed_alone(found: Any) -> None:
    first, again, other = (found["good"][name] for name in ("random", "random again", "random, other seed"))
    assert first["scores"] == again["scores"]
    assert first["scores"] != other["scores"]
    assert first["result"]["weights"] == "Random"
    assert first["result"]["source_digest"] == ""


def test_statistics_from_photos(found: Any) -> None:
    assert found["statistics"]["count"] == 1
    assert found["statistics"]["mean"] < 1e-5
    assert found["statistics"]["variance"] < 0.01
    assert found["statistics"]["unchanged"] is True
    assert found["statistics"]["momentum"] == 0.99
    one = found["good"]["random, statistics"]
    assert (one["result"]["batch_norms"], one["result"]["photos"]) == (1, 3)
    assert one["features"] != found["good"]["random"]["features"]


@pytest.mark.parametrize("name", FORMATS)
def test_weights_of_each_format(name: str, found: Any) -> None:
    np.testing.assert_allclose(found["good"]["formats"][name], found["good"]["expected"], rtol=1e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_weights_of_each_format_come_through_the_fetcher(name: str, found: Any) -> None:
    """The folder that the Job's fetcher leaves is what the builder gets."""
    np.testing.assert_allclose(found["good"]["fetched"][name], found["good"]["expected"], rtol=1e-5)


def test_no_format_is_left_out(found: Any) -> None:
    assert set(found["good"]["formats"]) == set(found["good"]["fetched"]) == set(FORMATS)


@pytest.mark.parametrize("name", ["keras", "own SavedModel", "own checkpoint"])
def test_the_saved_model_has_the_weights(name: str, found: Any) -> None:
    one = found["good"][name]
    np.testing.assert_allclose(one["scores"], found["good"]["expected"], rtol=1e-5)
    assert one["result"]["weights"] == "User"
    assert one["result"]["source_digest"].startswith("sha256:")
    # Not one class for all photos, with a probability of 1, whatever the weights.
    assert np.ptp(one["scores"], axis=0).max() > 1e-4


def test_the_number_of_classes_is_that_of_the_weights(found: Any) -> None:
    assert found["good"]["two classes"]["result"]["classes"] == 2
    assert np.shape(found["good"]["two classes"]["scores"]) == (3, 2)


@pytest.mark.parametrize("kind", ["npz", "keras"])
def test_a_classifier_of_the_users_own(kind: str, found: Any) -> None:
    one = found["classifiers"][kind]
    assert one["outputs"] == {"output_alias": "classifier_output/Softmax:0"}
    np.testing.assert_allclose(one["scores"], found["classifiers"]["expected"], rtol=1e-4)
    assert one["result"]["classes"] == 3


def test_features_of_the_saved_model(found: Any) -> None:
    expected = np.reshape(found["good"]["keras"]["features"], (3, CHANNELS))
    np.testing.assert_allclose(found["good"]["featurizer"], np.tile(expected, (9, 1)), rtol=1e-5)


def test_weights_without_a_classifier_need_one(found: Any) -> None:
    refused = found["classifiers"]["no top"]
    assert refused["reason"] == "WeightsMismatch"
    assert "no layer predictions, the classifier; give a classifier of your own" in refused["message"]


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_built_is_named(name: str, found: Any) -> None:
    reason, message = BAD[name]
    assert found["bad"][name]["reason"] == reason
    assert message in found["bad"][name]["message"]
    assert found["bad"][name]["permanent"] is True


def test_every_bad_input_was_tried(found: Any) -> None:
    assert set(found["bad"]) == set(BAD)
    reported = {one["reason"] for one in found["bad"].values()}
    assert reported == BUILD_REASONS - {"WeightsDownloadFailed"}
    assert all(REASON.fullmatch(one) for one in BUILD_REASONS)


def test_progress_names_each_step(found: Any) -> None:
    steps = found["good"]["steps"]
    assert [one.partition(":")[0] for one in steps] == [f"{number} of 5 steps" for number in range(1, 6)]


def test_the_record_tells_the_converter_where_to_cut(folder: Path, found: Any) -> None:
    assert found
    record = read_build_record(folder / "of keras")
    assert record is not None
    assert (record.images, record.input) == ("Placeholder:0", "InputImage:0")
    assert record.features == ("brainwave_target_node_1_Version_0.1:0",)
    assert record.preprocessing == TINY.preprocessing["keras"]
    assert (record.network, record.weights) == ("ResNet50", "User")


def test_the_stage_reports_a_download_that_fails(tmp_path: Path) -> None:
    log = tmp_path / "termination"
    log.write_text("")
    # A proxy that nothing listens at: no download gets further.
    nowhere = "http://127.0.0.1:9"
    environment = {"https_proxy": nowhere, "http_proxy": nowhere, "KERAS_HOME": str(tmp_path)}
    arguments = ["--featurizer=DenseNet121", "--weights=keras:imagenet", f"--out={tmp_path}/out"]
    done = subprocess.run(
        [sys.executable, "-m", "serval_serving.accel.build.stage", *arguments, f"--termination-log={log}"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 1
    report = parse_stage_report(log.read_text())
    assert report is not None
    assert (report.stage, report.reason, report.permanent) == ("build", "WeightsDownloadFailed", False)
    assert "Keras could not download the weights of DenseNet121" in report.message
    assert not (tmp_path / "out").exists()
