"""The key of a revision: what changes it, what does not, and that upgrades never do."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serval_operator.api.model import parse_spec
from serval_operator.api.shape import revision_key
from support import gen
from unit.crd.schema import CRD_FILE, walk
from unit.operator.builders.cases import CASES, HTTPS, SPECS

pytestmark = pytest.mark.unit

Spec = dict[str, Any]
LEAST: Spec = {"model": {"uri": HTTPS}}
GPU: Spec = {**LEAST, "accelerator": {"profile": "nvidia-gpu"}}
TOLERATION = {"key": "sku", "value": "gpu"}
CREDENTIALS = {"secretName": "keys"}


def key(spec: Spec, update: str = "") -> str:
    return revision_key(parse_spec(gen.MODEL, spec), update)


def test_a_front_is_part_of_it() -> None:
    asks = parse_spec(gen.MODEL, {**LEAST, "endpoint": {"scoring": "Enabled"}})
    keys = [revision_key(asks, "", fronted=one) for one in (False, True)]
    assert keys[0] == key(LEAST)
    assert keys[1] != keys[0]


def model(**fields: Any) -> Spec:
    return {"model": {**LEAST["model"], **fields}}


SHAPES: dict[str, tuple[Spec, Spec]] = {
    "model.uri": (LEAST, model(uri=HTTPS + "?v=2")),
    "model.name": (LEAST, model(name="other")),
    "model.version": (LEAST, model(version=1)),
    "model.version, 0": (LEAST, model(version=0)),
    "model.framework": (LEAST, model(framework="ONNX")),
    "model.sha256": (LEAST, model(sha256="0" * 64)),
    "model.caConfigMap.name": (LEAST, model(caConfigMap={"name": "ca"})),
    "model.caConfigMap.key": (
        model(caConfigMap={"name": "ca"}),
        model(caConfigMap={"name": "ca", "key": "ca.pem"}),
    ),
    "model.credentials.secretName": (LEAST, model(credentials=CREDENTIALS)),
    "model.credentials.serviceAccountName": (
        model(credentials=CREDENTIALS),
        model(credentials={"serviceAccountName": "keys"}),
    ),
    "runtime.name": (LEAST, {**LEAST, "runtime": {"name": "tensorflow-serving"}}),
    "runtime.args": (LEAST, {**LEAST, "runtime": {"args": ["--a"]}}),
    "runtime.env[].name": (LEAST, {**LEAST, "runtime": {"env": [{"name": "A", "value": ""}]}}),
    "runtime.env[].value": (
        {**LEAST, "runtime": {"env": [{"name": "A", "value": ""}]}},
        {**LEAST, "runtime": {"env": [{"name": "A", "value": "1"}]}},
    ),
    "resources.requests": (LEAST, {**LEAST, "resources": {"requests": {"cpu": 1}}}),
    "resources.limits": (
        {**LEAST, "resources": {"requests": {"cpu": 1}}},
        {**LEAST, "resources": {"limits": {"cpu": 1}}},
    ),
    "accelerator.profile": (LEAST, GPU),
    "accelerator.resourceName": (GPU, {**LEAST, "accelerator": {"resourceName": "nvidia.com/gpu"}}),
    "accelerator.count": (GPU, {**LEAST, "accelerator": {"profile": "nvidia-gpu", "count": 2}}),
    "accelerator.nodeSelector": (
        GPU,
        {**LEAST, "accelerator": {"profile": "nvidia-gpu", "nodeSelector": {"a": ""}}},
    ),
    "accelerator.tolerations[].key": (
        GPU,
        {**LEAST, "accelerator": {"profile": "nvidia-gpu", "tolerations": [TOLERATION]}},
    ),
    **{
        f"accelerator.tolerations[].{field}": (
            {**LEAST, "accelerator": {"profile": "nvidia-gpu", "tolerations": [TOLERATION]}},
            {
                **LEAST,
                "accelerator": {"profile": "nvidia-gpu", "tolerations": [{**TOLERATION, field: value}]},
            },
        )
        for field, value in (
            ("operator", "Exists"),
            ("value", "x"),
            ("effect", "NoSchedule"),
            ("tolerationSeconds", 0),
        )
    },
    "endpoint.scoring": (LEAST, {**LEAST, "endpoint": {"scoring": "Disabled"}}),
    "endpoint.timeoutSeconds": (LEAST, {**LEAST, "endpoint": {"timeoutSeconds": 5}}),
    "endpoint.maxConcurrentRequests": (LEAST, {**LEAST, "endpoint": {"maxConcurrentRequests": 5}}),
    **{
        f"probes.{probe}.{field}": (LEAST, {**LEAST, "probes": {probe: {field: 5}}})
        for probe in ("startup", "readiness", "liveness")
        for field in ("periodSeconds", "timeoutSeconds", "failureThreshold")
    },
    "imagePullSecrets[].name": (LEAST, {**LEAST, "imagePullSecrets": [{"name": "a"}]}),
    "priorityClassName": (LEAST, {**LEAST, "priorityClassName": "high"}),
    "podMetadata.labels": (LEAST, {**LEAST, "podMetadata": {"labels": {"a": ""}}}),
    "podMetadata.annotations": (LEAST, {**LEAST, "podMetadata": {"annotations": {"a": ""}}}),
    "topologySpread": (LEAST, {**LEAST, "topologySpread": "Disabled"}),
}
"""Two specs that differ in one field, and in what their pods look like."""

CPU = {"resources": {"requests": {"cpu": 1}}}
SHAPES_NOT: dict[str, tuple[Spec, Spec]] = {
    "replicas": (LEAST, {**LEAST, "replicas": 5}),
    "suspend": (LEAST, {**LEAST, "suspend": True}),
    "endpoint.expose": (LEAST, {**LEAST, "endpoint": {"expose": "ClusterIP"}}),
    "accelerator.whenUnavailable": (
        GPU,
        {**LEAST, "accelerator": {"profile": "nvidia-gpu", "whenUnavailable": "Refuse"}},
    ),
    "rollout.strategy": (LEAST, {**LEAST, "rollout": {"strategy": "InPlace"}}),
    "rollout.progressDeadlineSeconds": (LEAST, {**LEAST, "rollout": {"progressDeadlineSeconds": 60}}),
    "rollout.minReadySeconds": (LEAST, {**LEAST, "rollout": {"minReadySeconds": 60}}),
    "rollout.onFailure": (LEAST, {**LEAST, "rollout": {"onFailure": "Revert"}}),
    "autoscaling.maxReplicas": ({**LEAST, **CPU}, {**LEAST, **CPU, "autoscaling": {"maxReplicas": 5}}),
    "autoscaling.minReplicas": (
        {**LEAST, **CPU},
        {**LEAST, **CPU, "autoscaling": {"maxReplicas": 5, "minReplicas": 2}},
    ),
    "autoscaling.targetUtilization": (
        {**LEAST, **CPU},
        {**LEAST, **CPU, "autoscaling": {"maxReplicas": 5, "targetUtilization": 9}},
    ),
    "autoscaling.metric": (
        {**LEAST, "endpoint": {"maxConcurrentRequests": 5}},
        {
            **LEAST,
            "endpoint": {"maxConcurrentRequests": 5},
            "autoscaling": {"maxReplicas": 5, "metric": "RequestsInFlight"},
        },
    ),
    "disruption.maxUnavailable": (LEAST, {**LEAST, "disruption": {"maxUnavailable": 2}}),
}
"""Two specs that differ in one field, and whose pods look the same."""

DEFAULTS: tuple[tuple[str, Any], ...] = (
    ("model.name", gen.MODEL),
    ("model.framework", "TensorFlow"),
    ("model.caConfigMap.key", "ca.crt"),
    ("runtime.args", []),
    ("runtime.env", []),
    ("resources.requests", {}),
    ("resources.limits", {}),
    ("accelerator.count", 1),
    ("accelerator.nodeSelector", {}),
    ("accelerator.tolerations", []),
    ("accelerator.whenUnavailable", "Auto"),
    ("endpoint.expose", "ClusterIP"),
    ("endpoint.scoring", "Enabled"),
    ("probes.startup", {}),
    ("probes.readiness", {}),
    ("probes.liveness", {}),
    ("imagePullSecrets", []),
    ("podMetadata.labels", {}),
    ("podMetadata.annotations", {}),
    ("topologySpread", "Preferred"),
    ("replicas", 1),
    ("suspend", False),
    ("rollout.strategy", "Auto"),
    ("rollout.progressDeadlineSeconds", 1800),
    ("rollout.minReadySeconds", 0),
    ("rollout.onFailure", "Hold"),
    ("disruption.maxUnavailable", 1),
)
"""What a later CRD could fill in when an object is next written."""
ONLY_WITHIN = ("accelerator", "model.caConfigMap")
"""Blocks that mean something by being there: nobody fills in fields of one that is absent."""


def fill_in(spec: Spec, path: str, value: Any) -> Spec:
    """The spec with a default filled in where the field is absent, as the API server does it."""
    filled = deepcopy(spec)
    *parents, last = path.split(".")
    place = filled
    for depth, parent in enumerate(parents, 1):
        if parent not in place and ".".join(parents[:depth]) in ONLY_WITHIN:
            return filled
        place = place.setdefault(parent, {})
    place.setdefault(last, value)
    return filled


def leaves() -> set[str]:
    """Fields of the spec that hold no others."""
    (version,) = yaml.safe_load(CRD_FILE.read_text(encoding="utf-8"))["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return {
        path.removeprefix(".")
        for path, child in walk(schema)
        if "properties" not in child
        and "properties" not in child.get("items", {})
        and not path.endswith(("[]", "{}"))
    }


@pytest.mark.parametrize(("spec", "other"), SHAPES.values(), ids=SHAPES.keys())
def test_what_shapes_the_pods_is_a_new_revision(spec: Spec, other: Spec) -> None:
    assert key(spec) != key(other)


@pytest.mark.parametrize(("spec", "other"), SHAPES_NOT.values(), ids=SHAPES_NOT.keys())
def test_what_does_not_shape_them_is_none(spec: Spec, other: Spec) -> None:
    assert key(spec) == key(other)


def test_every_field_of_the_crd_is_one_or_the_other() -> None:
    assert {path.partition(",")[0] for path in SHAPES} | set(SHAPES_NOT) == leaves()
    assert not set(SHAPES) & set(SHAPES_NOT)


@given(SPECS, st.sets(st.sampled_from(DEFAULTS).map(lambda one: one[0])))
def test_defaults_that_are_filled_in_change_nothing(spec: Spec, paths: set[str]) -> None:
    filled = spec
    for path, value in DEFAULTS:
        if path in paths:
            filled = fill_in(filled, path, value)
    assert key(filled) == key(spec)


def test_all_defaults_of_the_crd_are_among_them() -> None:
    (version,) = yaml.safe_load(CRD_FILE.read_text(encoding="utf-8"))["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    stored = {
        (path.removeprefix("."), child["default"]) for path, child in walk(schema) if "default" in child
    }
    assert stored <= {(path, value) for path, value in DEFAULTS if not isinstance(value, list | dict)}


def test_quantities_are_compared_as_texts() -> None:
    number, text = ({**LEAST, "resources": {"limits": {"cpu": amount}}} for amount in (2, "2"))
    assert key(number) == key(text)


def test_a_toleration_without_an_operator_compares() -> None:
    plain, spelled = (
        {**LEAST, "accelerator": {"profile": "gpu", "tolerations": [one]}}
        for one in (TOLERATION, {**TOLERATION, "operator": "Equal"})
    )
    assert key(plain) == key(spelled)


@given(SPECS)
def test_an_asked_for_update_is_a_new_revision_each_time(spec: Spec) -> None:
    keys = [key(spec, update) for update in ("", "1", "2")]
    assert len(set(keys)) == 3
    assert all(len(one) == 10 and one.isalnum() for one in keys)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("gpu-profile", "7ead19ca53"),
        ("suspended", "63fbe731df"),
        ("onnx-image", "be8ba422f1"),
        ("bucket-account", "edc7080c2e"),
        ("resource-tolerations", "ca84e4c31d"),
    ],
)
def test_keys_outlive_releases(name: str, known: str) -> None:
    """A key that changes here restarts every model of every cluster at the upgrade."""
    assert key(CASES[name]) == known
