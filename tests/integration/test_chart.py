"""The chart's manifests before a real API server: known fields only, and no warning of Pod Security."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from support.chart import NAMESPACE, render
from support.plane import kubectl

EVERYTHING = (
    "metrics.service.enabled=true",
    "podDisruptionBudget.enabled=true",
    "networkPolicy.enabled=true",
    "operator.priorityClassName=system-cluster-critical",
    "imagePullSecrets[0].name=registry",
    "operator.replicas=2",
    "rbac.capacity=always",
)


@pytest.mark.parametrize("values", [(), EVERYTHING, (*EVERYTHING, f"watchNamespaces={{{NAMESPACE}}}")])
def test_manifests_are_taken_without_a_warning(control_plane: Any, values: tuple[str, ...]) -> None:
    labels = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/warn": "restricted",
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    made = kubectl(control_plane, "apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(namespace))
    assert made.returncode == 0, made.stderr
    # The CRD has tests of its own, and stands in the cluster under another field manager.
    objects = [one for one in render(control_plane, *values) if one["kind"] != "CustomResourceDefinition"]
    done = kubectl(
        control_plane,
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
        stdin=yaml.safe_dump_all(objects),
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "deployment.apps/serval-operator serverside-applied (server dry run)" in done.stdout
