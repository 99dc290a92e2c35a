"""Builds a tiny network in every way, good and bad. Run as a program: it imports TensorFlow.

    python build_cases.py FOLDER

The last line on standard output is JSON with what was found.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_images

from serval_contract.models import WEIGHTS
from serval_contract.progress import Progress
from serval_serving.accel.build.assign import assign_weights
from serval_serving.accel.build.locate import locate_weights
from serval_serving.accel.build.program import build
from serval_serving.accel.build.request import BuildRequest
from serval_serving.accel.build.statistics import set_statistics
from serval_serving.accel.build.stored import open_weights
from serval_serving.accel.classifiers import dense_classifier
from serval_serving.accel.preprocess import preprocess
from serval_serving.accel.transfer import open_featurizer
from serval_serving.fetch.model.frameworks import FRAMEWORKS
from serval_serving.stages.program import StageFailure
from support.fetching import Fetch
from unit.serving.accel.photo_files import encoded
from unit.serving.accel.tiny_network import CHANNELS, CLASSES, TINY, find, make, whole_network

v1 = tf.compat.v1
FEATURES = TINY.features[0].name
assert TINY.classifier is not None
(COPY,) = TINY.classifier.also


def photos() -> list[bytes]:
    first, second = (Image.fromarray(one) for one in load_sample_images().images)
    return [
        encoded(first.resize((64, 43)), "PNG"),
        encoded(second.resize((43, 64)), "JPEG"),
        encoded(first.resize((20, 90)), "PNG"),
    ]


class Cases:
    """What was built, and what came of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = folder / "weights"
        self.weights.mkdir(parents=True)
        self.photos = folder / "photos"
        self.photos.mkdir()
        for index, data in enumerate(photos()):
            suffix = "jpg" if data.startswith(b"\xff") else "png"
            (self.photos / f"{index}.{suffix}").write_bytes(data)
        self.steps: list[str] = []
        tf.keras.utils.set_random_seed(5)
        self.trained = whole_network()
        for index, variable in enumerate(self.trained.variables):
            # No value that a fresh network has.
            variable.assign(tf.random.stateless_uniform(variable.shape, [7, index], 0.02, 0.3))

    def build(self, name: str, weights: object, **options: Any) -> dict[str, Any]:
        request = BuildRequest("ResNet50", str(weights), self.folder / name, **options)
        done = build(request, self.say, find=find, make=make)
        return {"result": asdict(done), **self.look(self.folder / name)}

    def say(self, progress: Progress) -> None:
        self.steps.append(progress.words())

    def look(self, saved_model: Path) -> dict[str, Any]:
        """What the SavedModel answers, through the loader for sessions."""
        with tf.Graph().as_default(), v1.Session() as session:
            loaded = v1.saved_model.loader.load(session, ["serve"], str(saved_model))
            signature = loaded.signature_def["serving_default"]
            (output,) = (one.name for one in signature.outputs.values())
            feed = {"Placeholder:0": photos()}
            fetches = [output, FEATURES, "InputImage:0", output if "own" in saved_model.name else COPY]
            scores, features, inputs, copies = session.run(fetches, feed)
        return {
            "inputs": {alias: one.name for alias, one in signature.inputs.items()},
            "outputs": {alias: one.name for alias, one in signature.outputs.items()},
            "scores": scores.tolist(),
            "copies": copies.tolist(),
            "features": features.tolist(),
            "input_difference": {
                origin: float(np.abs(inputs - preprocess(photos(), how)).max())
                for origin, how in TINY.preprocessing.items()
            },
        }

    def assigned(self, weights: Path) -> Any:
        """What the network gives with these weights, without a SavedModel."""
        made = make(TINY, None, None)
        with open_weights(locate_weights(weights)) as stored:
            assign_weights(made.layers, stored, TINY)
        inputs = preprocess(photos(), TINY.preprocessing["keras"])
        return made.classifier(made.featurizer(inputs, training=False)).numpy().tolist()

    def fetched(self, weights: Path) -> Any:
        """What the network gives with these weights after the Job's fetcher has brought them."""
        # Of a checkpoint, the whole folder.
        source = weights if weights.exists() else weights.parent
        fetch = Fetch(self.folder / "fetched" / source.name)
        uri = f"pvc://c/{source.relative_to(self.weights).as_posix()}"
        report = fetch(uri, None, framework=FRAMEWORKS[WEIGHTS], pvc_mount=self.weights)
        assert report.inputs is None
        return self.assigned(fetch.folder / "models" / "digits")

    def expected(self, model: Any) -> Any:
        return model(preprocess(photos(), TINY.preprocessing["keras"]), training=False).numpy().tolist()

    def refused(self, weights: object, **options: Any) -> dict[str, Any]:
        """Why a build fails; the folder has nothing new afterwards."""
        before = sorted(self.folder.iterdir())
        name = options.pop("featurizer", "ResNet50")
        request = BuildRequest(name, str(weights), self.folder / "bad", **options)
        try:
            build(request, self.say, find=find, make=make)
        except StageFailure as error:
            assert sorted(self.folder.iterdir()) == before
            return {"reason": error.reason, "message": error.message, "permanent": error.permanent}
        except Exception as error:  # noqa: BLE001 - the test of this case tells, and the others go on
            return {"reason": type(error).__name__, "message": str(error)}
        return {"reason": "", "message": "it was built"}


def formats(cases: Cases) -> Mapping[str, Callable[[Path], Path]]:
    """Writers of the trained network in each format; each returns the path to build from."""
    model = cases.trained

    def written(path: Path, write: Callable[[Path], Any]) -> Path:
        write(path)
        return path

    def nested(path: Path) -> Path:
        outer = tf.keras.Sequential([model, tf.keras.layers.Dense(2, name="other")])
        outer.build((None, 16, 16, 3))
        outer.save_weights(path := path.with_suffix(".weights.h5"))
        return path

    def without_names(path: Path) -> Path:
        model.save_weights(path := path.with_suffix(".weights.h5"))
        with h5py.File(path, "a") as file:
            file.visititems(lambda _, one: one.attrs.pop("name", None) and None)
        return path

    def renamed(path: Path) -> Path:
        other = whole_network(suffix="_of_old")
        other.set_weights(model.get_weights())
        other.save(path := path.with_suffix(".h5"))
        return path

    def nested_legacy(path: Path) -> Path:
        outer = tf.keras.Sequential([model, tf.keras.layers.Dense(2, name="other")])
        outer.build((None, 16, 16, 3))
        outer.save(path := path.with_suffix(".h5"))
        return path

    def in_a_folder(path: Path) -> Path:
        (path / "1").mkdir(parents=True)
        model.save_weights(path / "1" / "a.weights.h5")
        return path

    def checkpoint(path: Path) -> Path:
        return Path(tf.train.Checkpoint(model=model).save(str(path / "ckpt")))

    return {
        "keras": lambda path: written(path.with_suffix(".keras"), model.save),
        "h5": lambda path: written(path.with_suffix(".h5"), model.save),
        "weights.h5": lambda path: written(path.with_suffix(".weights.h5"), model.save_weights),
        "weights.h5 in a folder": in_a_folder,
        "weights.h5 of a model within a model": nested,
        "h5 of a model within a model": nested_legacy,
        "weights.h5 without names": without_names,
        "h5 with other names": renamed,
        "exported SavedModel": lambda path: written(path, lambda to: model.export(to, verbose=False)),
        "saved_model.save": lambda path: written(path, lambda to: tf.saved_model.save(model, str(to))),
        "checkpoint of TensorFlow 2": checkpoint,
    }


def good(cases: Cases) -> dict[str, Any]:
    found: dict[str, Any] = {"expected": cases.expected(cases.trained)}
    found["random"] = cases.build("random", "random", seed=3)
    found["steps"] = cases.steps[:]
    found["random again"] = cases.build("random again", "random", seed=3)
    found["random, other seed"] = cases.build("other", "random", seed=4)
    found["random, statistics"] = cases.build("statistics", "random", seed=3, photos=cases.photos)
    found["formats"], found["fetched"] = {}, {}
    for name, write in formats(cases).items():
        path = cases.weights / name.replace(" ", "-").replace(".", "-")
        written = write(path)
        found["formats"][name] = cases.assigned(written)
        found["fetched"][name] = cases.fetched(written)
    own = cases.folder / "of keras"
    found["keras"] = cases.build("of keras", cases.weights / "keras.keras")
    with open_featurizer(own) as featurizer:
        found["featurizer"] = featurizer.features(photos() * 9).tolist()
    found["own SavedModel"] = cases.build("of ours", own)
    found["own checkpoint"] = cases.build("of our checkpoint", own / "variables" / "variables")
    found["azure"] = cases.build("azure", own, preprocessing={"origin": "Azure"})
    found["own of azure"] = cases.build("of azure", cases.folder / "azure")
    two = whole_network(classes=2)
    two.save(path := cases.weights / "two.keras")
    found["two classes"] = cases.build("of two", path)
    return found


def classifiers(cases: Cases) -> dict[str, Any]:
    chance = np.random.default_rng(3)
    dense = dense_classifier(chance.normal(0, 0.02, (CHANNELS, 3)), chance.normal(size=3))
    dense.save(npz := cases.weights / "own.npz")
    model = tf.keras.Sequential([tf.keras.layers.Input((1, 1, CHANNELS)), tf.keras.layers.Flatten()])
    model.add(tf.keras.layers.Dense(3, activation="softmax"))
    model.layers[-1].set_weights([dense.kernel, dense.bias])
    model.save(keras := cases.weights / "own.keras")
    headless = tf.keras.Model(cases.trained.input, cases.trained.layers[-2].output)
    headless.save_weights(no_top := cases.weights / "notop.weights.h5")
    found = {
        "npz": cases.build("own npz", no_top, classifier=npz),
        "keras": cases.build("own keras", no_top, classifier=keras),
    }
    features = np.asarray(found["npz"]["features"], np.float32).reshape(-1, CHANNELS)
    return {**found, "expected": dense(features).tolist(), "no top": cases.refused(no_top)}


def bad(cases: Cases) -> dict[str, Any]:
    folder = cases.weights
    wide = whole_network(filters=9)
    wide.save_weights(folder / "wide.weights.h5")
    short = tf.keras.Sequential(
        [tf.keras.layers.Input((16, 16, 3)), tf.keras.layers.Conv2D(4, 3, name="first")]
    )
    short.save_weights(folder / "short.weights.h5")
    tf.keras.Sequential([tf.keras.layers.Input((2,)), tf.keras.layers.Dense(2, name="else")]).save_weights(
        folder / "else.weights.h5"
    )
    with h5py.File(folder / "link.weights.h5", "w") as file:
        file["layers"] = h5py.ExternalLink("wide.weights.h5", "/layers")
    with h5py.File(folder / "external.weights.h5", "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.create_dataset("0", (3, 3, 3, 4), np.float32, external=[("/etc/passwd", 0, 432)])
    (folder / "text.h5").write_text("no weights")
    (folder / "cut.keras").write_bytes((folder / "keras.keras").read_bytes()[:-500])
    (folder / "cut.h5").write_bytes((folder / "h5.h5").read_bytes()[:3000])
    (folder / "empty").mkdir()
    np.savez(folder / "other.npz", kernel=np.ones((CHANNELS + 1, 2)), bias=np.ones(2))
    np.savez(folder / "nan.npz", kernel=np.full((CHANNELS, 2), np.nan), bias=np.ones(2))
    np.savez(folder / "pickle.npz", kernel=np.array([{}], object), bias=np.ones(2))
    bad_photos = cases.folder / "bad photos"
    bad_photos.mkdir()
    (bad_photos / "0.jpg").write_text("no photo")
    return {
        "another width": cases.refused(folder / "wide.weights.h5"),
        "one layer": cases.refused(folder / "short.weights.h5"),
        "another network": cases.refused(folder / "else.weights.h5"),
        "slim": cases.refused(_slim(folder / "slim.ckpt")),
        "slim index": cases.refused(folder / "slim.ckpt.index"),
        "frozen": cases.refused(_frozen(folder / "frozen")),
        "link": cases.refused(folder / "link.weights.h5"),
        "external": cases.refused(folder / "external.weights.h5"),
        "text": cases.refused(folder / "text.h5"),
        "cut zip": cases.refused(folder / "cut.keras"),
        "cut hdf5": cases.refused(folder / "cut.h5"),
        "nothing": cases.refused(folder / "nothing.h5"),
        "empty folder": cases.refused(folder / "empty"),
        "many files": cases.refused(folder),
        "featurizer": cases.refused("random", featurizer="Resnet50"),
        "preprocessing": cases.refused("random", preprocessing={"order": "GBR"}),
        "origin": cases.refused("random", preprocessing={"origin": "Torch"}),
        "classifier of other features": cases.refused("random", classifier=folder / "other.npz"),
        "classifier with nan": cases.refused("random", classifier=folder / "nan.npz"),
        "classifier with objects": cases.refused("random", classifier=folder / "pickle.npz"),
        "no classifier": cases.refused("random", classifier=folder / "text.h5"),
        "classifier that is a network": cases.refused("random", classifier=folder / "keras.keras"),
        "photos": cases.refused("random", photos=bad_photos),
        "no photos": cases.refused("random", photos=folder / "empty"),
    }


def _slim(path: Path) -> Path:
    with tf.Graph().as_default(), v1.Session() as session:
        for name, shape in (("conv1/weights", (7, 7, 3, 64)), ("conv1/BatchNorm/gamma", (64,))):
            v1.get_variable(f"resnet_v1_50/{name}", shape)
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(path), write_meta_graph=False)
    return path


def _frozen(path: Path) -> Path:
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2])
        v1.saved_model.simple_save(session, str(path), {"x": x}, {"y": x @ tf.constant([[1.0], [2.0]])})
    return path


def statistics() -> dict[str, Any]:
    """What a batch norm gives for the photos that its statistics are from."""
    model = whole_network()
    before = [one.numpy() for one in model.trainable_variables]
    inputs = preprocess(photos(), TINY.preprocessing["azure"])
    count = set_statistics(model, inputs)
    normalised = tf.keras.Model(model.input, model.get_layer("norm").output)(inputs, training=False).numpy()
    return {
        "count": count,
        "mean": np.abs(normalised.mean(axis=(0, 1, 2))).max().item(),
        "variance": np.abs(normalised.var(axis=(0, 1, 2)) - 1).max().item(),
        "unchanged": all(
            (a == b.numpy()).all() for a, b in zip(before, model.trainable_variables, strict=True)
        ),
        "momentum": model.get_layer("norm").momentum,
    }


def main() -> None:
    warnings.simplefilter("ignore")
    cases = Cases(Path(sys.argv[1]))
    found = {
        "good": good(cases),
        "classifiers": classifiers(cases),
        "bad": bad(cases),
        "statistics": statistics(),
        "classes": CLASSES,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
