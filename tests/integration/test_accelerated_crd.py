"""What a real API server takes and refuses of AcceleratedModels, and with which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serval_lab import Lab
from support.cluster import Cluster, Object
from support.plane import kubectl

MODEL = {"uri": "pvc://models/resnet50"}
ARTIFACT = "oci://registry.example/models/resnet50@sha256:" + "a" * 64
TENSORS = {"inputs": [{"name": "x:0", "shape": [-1, 8]}], "outputs": [{"name": "y:0"}]}
ONE_OF = "exactly one of `featurizer`, `inputs` and `artifact` must be set"

GOOD: dict[str, dict[str, Any]] = {
    "the least": {"featurizer": "ResNet50", "model": MODEL},
    "random weights": {"featurizer": "VGG16", "weights": "Random"},
    "an artifact": {"artifact": {"uri": ARTIFACT, "secretRef": {"name": "pull"}}},
    "a tag beside the digest": {"artifact": {"uri": ARTIFACT.replace("@", ":1@")}},
    "tensors": {"model": MODEL, **TENSORS},
    "everything": {
        "featurizer": "DenseNet121",
        "weights": "Azure",
        "model": {**MODEL, "framework": "TensorFlow"},
        "preprocessing": {"order": "BGR", "means": [1, 2.5, 3], "scales": [1, 1, 1]},
        "conversion": {
            "quantization": "Int8",
            "calibration": {"uri": "pvc://photos/cats"},
            "accuracy": {"minCosine": 0.9, "minAgreement": 1},
            "resources": {"limits": {"memory": "5Gi"}},
        },
        "runtime": {"name": "serval"},
        "accelerator": {"profile": "u250"},
        "replicas": 2,
        "suspend": True,
    },
}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, ONE_OF),
    "two of them": ({"featurizer": "VGG16", "model": MODEL, **TENSORS}, ONE_OF),
    "another network": ({"featurizer": "AlexNet", "model": MODEL}, "Unsupported value"),
    "no model": ({"featurizer": "VGG16"}, "`model` must be set, and must be absent when `weights` is Random"),
    "a model beside random weights": (
        {"featurizer": "VGG16", "weights": "Random", "model": MODEL},
        "must be absent when `weights` is Random",
    ),
    "an artifact beside a model": (
        {"artifact": {"uri": ARTIFACT}, "model": MODEL},
        "must be absent when `artifact` is set",
    ),
    "an artifact beside a conversion": (
        {"artifact": {"uri": ARTIFACT}, "conversion": {"quantization": "Float"}},
        "must be absent when `artifact` is set",
    ),
    "an artifact by tag": (
        {"artifact": {"uri": "oci://registry.example/models/resnet50:1"}},
        "must be oci://REGISTRY/REPOSITORY@sha256:DIGEST",
    ),
    "inputs without outputs": (
        {"model": MODEL, "inputs": TENSORS["inputs"]},
        "`inputs` and `outputs` must be set together",
    ),
    "two inputs": ({"model": MODEL, **TENSORS, "inputs": [{"name": "a"}, {"name": "b"}]}, "Too many"),
    "weights of no network": (
        {"model": MODEL, **TENSORS, "weights": "Azure"},
        "`weights` and `preprocessing` must be absent when `featurizer` is absent",
    ),
    "an ONNX model": (
        {"featurizer": "VGG16", "model": {**MODEL, "framework": "ONNX"}},
        "must be TensorFlow: no other framework is converted",
    ),
    "two devices for one pod": (
        {"featurizer": "VGG16", "model": MODEL, "accelerator": {"profile": "u250", "count": 2}},
        "must be 1: each replica programs one device",
    ),
    "photos from the network": (
        {"featurizer": "VGG16", "model": MODEL, "conversion": {"calibration": {"uri": "https://a/b"}}},
        "must be pvc://CLAIM/PATH",
    ),
    "photos outside of the claim": (
        {"featurizer": "VGG16", "model": MODEL, "conversion": {"calibration": {"uri": "pvc://a/../b"}}},
        "must not contain `..`",
    ),
    "more than certain": (
        {"featurizer": "VGG16", "model": MODEL, "conversion": {"accuracy": {"minCosine": 1.1}}},
        "should be less than or equal to 1",
    ),
    "two means": (
        {"featurizer": "VGG16", "model": MODEL, "preprocessing": {"means": [1, 2]}},
        "should have at least 3 items",
    ),
    "a flag of the device": (
        {"featurizer": "VGG16", "model": MODEL, "runtime": {"args": ["--device_engine=emulator"]}},
        "must not be one that the operator sets",
    ),
}


def document(spec: dict[str, Any], name: str = "a") -> Object:
    return {
        "apiVersion": "serval.dev/v1alpha1",
        "kind": "AcceleratedModel",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def create(plane: Lab, body: Object) -> tuple[int, str]:
    """Ask the API server to create a document, without storing it."""
    done = kubectl(plane, "create", "--dry-run=server", "-f", "-", stdin=json.dumps(body))
    return done.returncode, done.stderr


@pytest.mark.parametrize("spec", GOOD.values(), ids=GOOD.keys())
def test_takes(control_plane: Lab, cluster: Cluster, spec: dict[str, Any]) -> None:
    assert create(control_plane, document(spec)) == (0, "")


@pytest.mark.parametrize(("spec", "words"), BAD.values(), ids=BAD.keys())
def test_refuses(control_plane: Lab, cluster: Cluster, spec: dict[str, Any], words: str) -> None:
    code, text = create(control_plane, document(spec))
    assert code == 1
    assert words in text


@pytest.mark.parametrize("name", ["a" * 54, "1a", "a.b"])
def test_refuses_names_that_no_service_can_have(control_plane: Lab, cluster: Cluster, name: str) -> None:
    code, text = create(control_plane, document(GOOD["the least"], name))
    assert code == 1
    assert "metadata.name must start with a letter" in text
