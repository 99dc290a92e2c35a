"""Specs whose Jobs are kept as goldens; together they set every field on which a conversion depends."""

from __future__ import annotations

from typing import Any

from unit.operator.kinds.accelerated_model.world import FEATURIZER, configured

CASES: dict[str, dict[str, Any]] = {
    "least": FEATURIZER,
    "random": {"featurizer": "VGG16", "weights": "Random"},
    "claim": FEATURIZER,
    "everything": {
        "featurizer": "DenseNet121",
        "weights": "Azure",
        "model": {
            "uri": "s3://models/densenet",
            "name": "dense",
            "version": 3,
            "sha256": "0" * 64,
            "caConfigMapRef": {"name": "store-ca"},
            "credentials": {"secretRef": {"name": "store-keys"}},
        },
        "preprocessing": {
            "resize": "Stretch",
            "shorterSide": 240,
            "interpolation": "Bicubic",
            "order": "BGR",
            "means": [1, 2.5, 3],
            "scales": [0.1, 0.1, 0.2],
        },
        "conversion": {
            "quantization": "Float",
            "calibration": {"uri": "pvc://photos/of/cats/"},
            "accuracy": {"minCosine": 0.97, "minAgreement": 0.9},
            "resources": {"requests": {"cpu": 2}, "limits": {"memory": "4Gi"}},
        },
        "scheduling": {"priorityClassName": "batch", "nodeSelector": {"pool": "fpga"}},
        "imagePullSecrets": [{"name": "mirror"}],
        "podMetadata": {"labels": {"team": "vision"}, "annotations": {"note": "kept"}},
        "suspend": True,
        "rollout": {"trigger": "2"},
    },
    "tensors": {
        "model": {"uri": "oci://registry.example/vision/digits:3"},
        "inputs": [{"name": "import/Placeholder:0", "shape": [-1, 28, 28, 1]}],
        "outputs": [{"name": "scores:0"}, {"name": "x/y:0", "shape": [-1, 10]}],
    },
}
CLAIM = configured(
    conversion={
        "image": "registry.example/serval-converter:1",
        "pushImage": "registry.example/pusher:1",
        "artifacts": {
            "claim": "artifacts",
            "pullSecret": "pull",
            "plainHttp": True,
            "caConfigMap": "registry-ca",
        },
    }
)
"""A configuration in which a claim takes the place of a registry."""
