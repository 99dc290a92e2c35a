"""ModelDeployments and AcceleratedModels for tests."""

from __future__ import annotations

from typing import Any

from support.cluster import Object


def model_deployment(name: str, namespace: str, **spec: Any) -> Object:
    """A ModelDeployment; fields of the spec by keyword, over one small https model."""
    return {
        "apiVersion": "serval.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"uri": "https://models.example.com/digits.tar.gz"}, **spec},
    }


def accelerated_model(name: str, namespace: str, **spec: Any) -> Object:
    """An AcceleratedModel; fields of the spec by keyword."""
    return {
        "apiVersion": "serval.dev/v1alpha1",
        "kind": "AcceleratedModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
