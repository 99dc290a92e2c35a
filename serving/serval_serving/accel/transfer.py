"""Transfer learning: features of photos for a classifier of the user's own, and the classifier in its place.

    with open_featurizer(Path("resnet50")) as featurizer:   # a SavedModel, or a converted artifact
        features = featurizer.features(photos)
    model = LogisticRegression().fit(features, labels)
    dense_classifier(model.coef_.T, model.intercept_).save(Path("own.npz"))

A converted artifact gives the features that its device computes. A classifier that is trained on these fits
the quantised network better than one that is trained on the float one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serval_serving.accel.artifact import (
    CLASSIFIER_FILE,
    CONVERSION_FILE,
    DEVICE_ONNX,
    HOST_FILE,
    Conversion,
    Part,
    Tensor,
    read_conversion,
)
from serval_serving.accel.build_record import read_build_record
from serval_serving.accel.catalogue import OUTPUT_ALIAS, OWN_CLASSIFIER_TENSOR
from serval_serving.accel.classifiers import DenseClassifier
from serval_serving.accel.preprocess import preprocess

BATCH: Final = 16
OPSET: Final = 17
IR_VERSION: Final = 8

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Featurizer:
    """A network without its classifier.

    Attributes
    ----------
    quantised:
        Whether its features are those of a quantised network.
    run:
        Returns the features of a batch of encoded photos, [N, ...].
    """

    quantised: bool
    run: Callable[[Sequence[bytes]], NDArray[Any]]

    def features(self, photos: Sequence[bytes]) -> Floats:
        """Return the features of JPEGs or PNGs in any number: float32 [N, C].

        Raises
        ------
        ValueError
            A photo cannot be decoded.
        """
        rows = [self.run(photos[start : start + BATCH]) for start in range(0, len(photos), BATCH)]
        if not rows:
            raise ValueError("there are no photos")
        return np.concatenate([np.asarray(one, np.float32).reshape(len(one), -1) for one in rows])


@contextmanager
def open_featurizer(folder: Path) -> Iterator[Featurizer]:
    """Open a SavedModel that was built here, or an artifact that was converted of one.

    Raises
    ------
    ArtifactError
        The artifact or the record of the build is damaged.
    ValueError
        The folder is neither of both, or it holds a detector.
    """
    if (folder / CONVERSION_FILE).is_file():
        yield _of_artifact(folder, read_conversion(folder))
        return
    record = read_build_record(folder)
    if record is None or len(record.features) != 1:
        raise ValueError(
            f"{folder} is neither an artifact nor a classification model of `serval accel build`"
        )
    import tensorflow as tf  # noqa: PLC0415 - an artifact needs none

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        v1.saved_model.loader.load(session, ["serve"], str(folder))
        yield Featurizer(False, lambda photos: session.run(record.features[0], {record.images: list(photos)}))


def _of_artifact(folder: Path, conversion: Conversion) -> Featurizer:
    how, device = conversion.host.preprocessing, conversion.device
    if how is None or device.file != DEVICE_ONNX or len(device.outputs) != 1:
        raise ValueError(f"{folder} is no artifact of one feature tensor that takes photos and runs as ONNX")
    import onnxruntime  # noqa: PLC0415 - a SavedModel needs none

    session = onnxruntime.InferenceSession(str(folder / device.file), providers=["CPUExecutionProvider"])
    names = [one.name for one in device.outputs]

    def run(photos: Sequence[bytes]) -> NDArray[Any]:
        (found,) = session.run(names, {device.inputs[0].name: preprocess(photos, how)})
        result: NDArray[Any] = found
        return result

    return Featurizer(conversion.quantization == "Int8", run)


def attach_classifier(artifact: Path, classifier: DenseClassifier, out: Path) -> Conversion:
    """Copy an artifact with another classifier; the device part does not change.

    Parameters
    ----------
    artifact:
        Of a network with one feature tensor.
    classifier:
        Trained on its features.
    out:
        Folder to make.

    Returns
    -------
    What the new `conversion.json` says.

    Raises
    ------
    ValueError
        The classifier does not fit the features.
    FileExistsError
        The folder is there.
    """
    conversion = read_conversion(artifact)
    features = conversion.device.outputs
    channels = [int(np.prod([size or 1 for size in one.shape[1:]])) for one in features]
    if channels != [classifier.kernel.shape[0]]:
        raise ValueError(
            f"the classifier takes {classifier.kernel.shape[0]} features, the network has {channels}"
        )
    scores = Tensor(OWN_CLASSIFIER_TENSOR, "float32", (None, classifier.kernel.shape[1]))
    data = _onnx_classifier(classifier, features[0], scores).SerializeToString()
    out.mkdir(parents=True)
    for name in (conversion.device.file, HOST_FILE):
        if (artifact / name).is_file():
            shutil.copyfile(artifact / name, out / name)
    (out / CLASSIFIER_FILE).write_bytes(data)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    changed: Conversion = replace(
        conversion,
        outputs={OUTPUT_ALIAS: scores},
        classifier=Part(CLASSIFIER_FILE, digest, (features[0],), (scores,)),
    )
    (out / CONVERSION_FILE).write_text(changed.dump(), encoding="utf-8")
    return changed


def _onnx_classifier(classifier: DenseClassifier, features: Tensor, scores: Tensor) -> Any:
    """Return the classifier as an ONNX model between two tensors."""
    import onnx  # noqa: PLC0415 - features need none
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    last = {"softmax": "Softmax", "sigmoid": "Sigmoid", "linear": "Identity"}[classifier.activation]
    options = {"axis": 1} if last == "Softmax" else {}
    nodes = [
        helper.make_node("Flatten", [features.name], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "kernel", "bias"], ["logits"]),
        helper.make_node(last, ["logits"], [scores.name], **options),
    ]
    ends = [
        [helper.make_tensor_value_info(one.name, TensorProto.FLOAT, ["N", *one.shape[1:]])]
        for one in (features, scores)
    ]
    weights = [
        numpy_helper.from_array(array, name)
        for name, array in (("kernel", classifier.kernel), ("bias", classifier.bias))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "classifier", *ends, weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model)
    return model
