"""How ModelDeployments behave on a real API server: stored, shown, scaled, and their status written."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from integration.crd_samples import (
    CRD_FILE,
    CRD_NAME,
    EVERYTHING,
    NAMESPACE,
    STATUS,
    Document,
    condition,
    document,
    install_crd,
)
from support.plane import kubectl

ApplyStatus = Callable[[Document], Any]


@pytest.fixture(scope="module")
def installed(control_plane: Any) -> Any:
    install_crd(control_plane)
    return control_plane


@pytest.fixture
def stored(installed: Any) -> Iterator[Callable[[Document], Any]]:
    """Store documents through ``kubectl apply``; they are deleted after the test."""
    names: list[str] = []

    def apply(body: Document) -> Any:
        names.append(body["metadata"]["name"])
        return kubectl(installed, "apply", "-f", "-", stdin=json.dumps(body))

    yield apply
    for name in set(names):
        kubectl(installed, "delete", "mdep", name, "-n", NAMESPACE, "--ignore-not-found", "--timeout=20s")


def read(installed: Any, name: str) -> Document:
    got = kubectl(installed, "get", "mdep", name, "-n", NAMESPACE, "-o", "json")
    assert got.returncode == 0, got.stderr
    body: Document = json.loads(got.stdout)
    return body


def test_stores_the_crd_as_it_is_written(installed: Any) -> None:
    """Whatever the API server added or rewrote would be drift for ever to a GitOps tool."""
    got = kubectl(installed, "get", "crd", CRD_NAME, "-o", "json")
    assert json.loads(got.stdout)["spec"] == yaml.safe_load(CRD_FILE.read_text(encoding="utf-8"))["spec"]


def test_takes_the_crd_again_unchanged(installed: Any) -> None:
    again = kubectl(installed, "apply", "-f", str(CRD_FILE))
    assert again.stdout.strip().endswith("unchanged"), again.stdout + again.stderr


def test_crd_has_no_complaints(installed: Any) -> None:
    got = kubectl(installed, "get", "crd", CRD_NAME, "-o", "json")
    conditions = {one["type"]: one["status"] for one in json.loads(got.stdout)["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}  # no NonStructuralSchema


def test_stores_what_was_written_and_few_defaults(installed: Any, stored: Any) -> None:
    applied = stored(EVERYTHING)
    assert applied.returncode == 0, applied.stderr
    assert read(installed, "resnet50")["spec"] == EVERYTHING["spec"]
    assert stored(document("least")).returncode == 0
    assert read(installed, "least")["spec"] == {**document()["spec"], "replicas": 1}


def test_new_object_is_seen_by_nobody_yet(installed: Any, stored: Any) -> None:
    body = {**document("fresh"), "status": {"replicas": 7}}
    assert stored(body).returncode == 0
    assert read(installed, "fresh")["status"] == {"observedGeneration": -1}


def test_explains_every_field_of_the_spec(installed: Any) -> None:
    explained = kubectl(installed, "explain", "modeldeployment.spec", "--recursive")
    assert explained.returncode == 0, explained.stderr
    for field in (
        "uri",
        "caConfigMapRef",
        "secretRef",
        "maxBatchSize",
        "runtimeClassName",
        "targetUtilization",
        "resourceName",
        "tolerationSeconds",
        "failureThreshold",
        "minReplicas",
    ):
        assert f"{field}\t<" in explained.stdout
    uri = kubectl(installed, "explain", "mdep.spec.model.uri")
    assert "PersistentVolumeClaim" in uri.stdout


def test_scales(installed: Any, stored: Any) -> None:
    assert stored(document("scaled", replicas=2)).returncode == 0
    scale = ("scale", "mdep/scaled", "-n", NAMESPACE)
    scaled = kubectl(installed, *scale, "--replicas=5", "--current-replicas=2")
    assert scaled.returncode == 0, scaled.stderr
    assert read(installed, "scaled")["spec"]["replicas"] == 5
    refused = kubectl(installed, *scale, "--replicas=1001")
    assert "less than or equal to 1000" in refused.stderr


@pytest.fixture
def shown(installed: Any, stored: Any) -> ApplyStatus:
    """Store an object named ``shown`` and apply a status to it as the operator would."""
    assert stored(document("shown", replicas=2)).returncode == 0

    def apply_status(status: Document) -> Any:
        body = {**document("shown"), "status": status}
        del body["spec"]
        return kubectl(
            installed,
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=serval-operator",
            "--subresource=status",
            "-f",
            "-",
            stdin=json.dumps(
                {k: v for k, v in document("shown").items() if k != "spec"} | {"status": status}
            ),
        )

    return apply_status


def test_status_is_kept_whole_and_shown_as_a_table(installed: Any, shown: ApplyStatus) -> None:
    applied = shown(STATUS)
    assert applied.returncode == 0, applied.stderr
    assert read(installed, "shown")["status"] == STATUS
    header, row = kubectl(installed, "get", "mdep", "shown", "-n", NAMESPACE).stdout.splitlines()
    assert header.split() == [
        "NAME",
        "AVAILABLE",
        "READY",
        "REASON",
        "REPLICAS",
        "MODEL",
        "ACCELERATOR",
        "AGE",
    ]
    assert row.split()[:-1] == ["shown", "True", "False", "Unschedulable", "1/2", "resnet50/3", "nvidia-gpu"]
    wide = kubectl(installed, "get", "serval", "-n", NAMESPACE, "-o", "wide").stdout
    assert "shown.crd-test.svc:8500" in wide
    header, row = wide.splitlines()
    column = header.index("UPDATED")
    assert row[column:].split()[0] == str(STATUS["updatedReplicas"])
    assert "0/3 nodes are available" in wide
    scale = kubectl(installed, "get", "mdep", "shown", "-n", NAMESPACE, "--subresource=scale", "-o", "json")
    assert json.loads(scale.stdout)["status"] == {"replicas": 2, "selector": STATUS["selector"]}


def test_condition_that_is_left_out_goes_away(installed: Any, shown: ApplyStatus) -> None:
    assert shown(STATUS).returncode == 0
    before = read(installed, "shown")["metadata"]["resourceVersion"]
    assert shown(STATUS).returncode == 0
    assert read(installed, "shown")["metadata"]["resourceVersion"] == before, "a no-op must write nothing"
    fewer = {**STATUS, "conditions": STATUS["conditions"][:2]}
    assert shown(fewer).returncode == 0
    kinds = [one["type"] for one in read(installed, "shown")["status"]["conditions"]]
    assert kinds == ["Ready", "Available"]


BAD_STATUS: dict[str, tuple[list[str], Any, str]] = {
    "unknown field": (["phase"], "Running", "phase"),
    "condition without reason": (["conditions", "0", "reason"], "", "reason"),
    "condition status": (["conditions", "0", "status"], "true", "Unsupported value"),
    "digest": (["model", "digest"], "md5:1", "should match"),
    "replicas": (["replicas"], -1, "greater than or equal to 0"),
    "generation": (["observedGeneration"], -2, "greater than or equal to -1"),
    "dimension": (["model", "inputs", "0", "shape"], ["?"], "expected numeric"),
}


@pytest.mark.parametrize(("path", "value", "message"), BAD_STATUS.values(), ids=BAD_STATUS.keys())
def test_status_is_strict(shown: ApplyStatus, path: list[str], value: Any, message: str) -> None:
    status = copy.deepcopy(STATUS)
    target: Any = status
    for step in path[:-1]:
        target = target[int(step)] if step.isdigit() else target[step]
    target[path[-1]] = value
    applied = shown(status)
    assert applied.returncode != 0
    assert message in applied.stderr


def test_wait_follows_the_generation(installed: Any, shown: ApplyStatus) -> None:
    ready = {"observedGeneration": 1, "conditions": [condition("Ready", "True", "Serving")]}
    assert shown(ready).returncode == 0
    wait = ("wait", "--for=condition=Ready", "mdep/shown", "-n", NAMESPACE)
    assert kubectl(installed, *wait, "--timeout=10s").returncode == 0
    assert kubectl(installed, "scale", "mdep/shown", "-n", NAMESPACE, "--replicas=3").returncode == 0
    assert kubectl(installed, *wait, "--timeout=1s").returncode != 0, (
        "Ready of an older generation must not count"
    )
