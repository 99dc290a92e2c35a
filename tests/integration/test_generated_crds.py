"""The CRD of a kind that shares blocks is one that a real API server accepts, and its rules work there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tools.crds import crd_text

from integration.crd_samples import NAMESPACE, Document, install_crd
from support.plane import kubectl
from support.toy.spec import TOY_CRD
from support.wait import until


@pytest.fixture(scope="module")
def installed(control_plane: Any) -> Iterator[Any]:
    install_crd(control_plane)  # for the namespace
    applied = kubectl(control_plane, "apply", "-f", "-", stdin=crd_text(TOY_CRD))
    assert applied.returncode == 0, applied.stderr
    crd = f"crd/{TOY_CRD.name}"
    assert kubectl(control_plane, "wait", "--for=condition=Established", crd, "--timeout=20s").returncode == 0
    until("the API server serves toys", lambda: kubectl(control_plane, "get", "toys", "-A").returncode == 0)
    yield control_plane
    kubectl(control_plane, "delete", crd, "--timeout=20s")


def toy(**spec: Any) -> Document:
    return {
        "apiVersion": "serval.dev/v1alpha1",
        "kind": "Toy",
        "metadata": {"name": "toy", "namespace": NAMESPACE},
        "spec": {"model": {"uri": "pvc://models/digits"}, "steps": 2, **spec},
    }


def created(installed: Any, body: Document) -> Any:
    done = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    return kubectl(installed, *done, stdin=json.dumps(body))


def test_is_structural_and_stored_as_generated(installed: Any) -> None:
    got = json.loads(kubectl(installed, "get", "crd", TOY_CRD.name, "-o", "json").stdout)
    conditions = {one["type"]: one["status"] for one in got["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert got["spec"] == TOY_CRD.document()["spec"]


def test_accepts_shared_blocks(installed: Any) -> None:
    done = created(installed, toy(scheduling={"nodeSelector": {"pool": "gpu"}}))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["spec"]["mode"] == "Forward"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"model": {"uri": "ftp://host/a"}}, "must start with pvc://"),
        (
            {"scheduling": {"priorityClassName": "system-node-critical"}},
            "must not be one of the cluster's own",
        ),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"steps": 1, "parallel": 2}, "`steps` must be at least `parallel`"),
        ({"mode": "Sideways"}, "Unsupported value"),
        ({"other": 1}, "unknown field"),
    ],
)
def test_refuses_by_the_rules_of_shared_blocks(installed: Any, spec: Document, message: str) -> None:
    done = created(installed, toy(**spec))
    assert done.returncode != 0
    assert message in done.stderr
