"""The key of a revision: what changes it, what does not, and that upgrades never do."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serval_operator.api.schema import Block, Items, Nested, fields_of
from serval_operator.errors import InvalidSpec
from serval_operator.kinds.model_deployment.spec import ModelSpec, parse_spec
from serval_operator.workload.revision_key import revision_key
from support import gen
from unit.crd.schema import CRD_FILE, walk
from unit.operator.kinds.model_deployment.manifests.cases import CASES, FULL, HTTPS, SPECS

pytestmark = pytest.mark.unit

Spec = dict[str, Any]
LEAST: Spec = {"model": {"uri": HTTPS}}
GPU: Spec = {**LEAST, "accelerator": {"profile": "nvidia-gpu"}}
TOLERATION = {"key": "sku", "value": "gpu"}
CREDENTIALS = {"secretRef": {"name": "keys"}}


def key(spec: Spec) -> str:
    return revision_key(parse_spec(gen.MODEL, spec))


def test_a_front_is_part_of_it() -> None:
    asks = parse_spec(gen.MODEL, {**LEAST, "endpoint": {"rawBytes": "Enabled"}})
    keys = [revision_key(asks, fronted=one) for one in (False, True)]
    assert keys[0] == key(LEAST)
    assert keys[1] != keys[0]


def leaves(block: type[Block], path: str = "", *, shapes_pods: bool = True) -> Iterator[tuple[str, bool]]:
    """Fields that hold no others, with their paths, and whether they shape pods."""
    for one in fields_of(block):
        inner = one.about.item if isinstance(one.about, Items) else one.about
        shapes = shapes_pods and one.about.shapes_pods
        if isinstance(inner, Nested):
            below = f"{path}.{one.name}" + ("" if inner is one.about else "[]")
            yield from leaves(inner.block, below, shapes_pods=shapes)
        else:
            yield f"{path}.{one.name}", shapes


def model(**fields: Any) -> Spec:
    return {"model": {**LEAST["model"], **fields}}


def scheduling(**fields: Any) -> Spec:
    return {**LEAST, "scheduling": fields}


def batching(**fields: Any) -> Spec:
    return {**LEAST, "runtime": {"batching": {"maxBatchSize": 8, **fields}}}


SHAPES: dict[str, tuple[Spec, Spec]] = {
    "model.uri": (LEAST, model(uri=HTTPS + "?v=2")),
    "model.name": (LEAST, model(name="other")),
    "model.version": (LEAST, model(version=1)),
    "model.version, 0": (LEAST, model(version=0)),
    "model.framework": (LEAST, model(framework="ONNX")),
    "model.sha256": (LEAST, model(sha256="0" * 64)),
    "model.caConfigMapRef.name": (LEAST, model(caConfigMapRef={"name": "ca"})),
    "model.caConfigMapRef.key": (
        model(caConfigMapRef={"name": "ca"}),
        model(caConfigMapRef={"name": "ca", "key": "ca.pem"}),
    ),
    "model.credentials.secretRef.name": (LEAST, model(credentials=CREDENTIALS)),
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
    "scheduling.nodeSelector": (LEAST, scheduling(nodeSelector={"a": ""})),
    "scheduling.tolerations[].key": (LEAST, scheduling(tolerations=[TOLERATION])),
    **{
        f"scheduling.tolerations[].{field}": (
            scheduling(tolerations=[TOLERATION]),
            scheduling(tolerations=[{**TOLERATION, field: value}]),
        )
        for field, value in (
            ("operator", "Exists"),
            ("value", "x"),
            ("effect", "NoSchedule"),
            ("tolerationSeconds", 0),
        )
    },
    "scheduling.topologySpread": (LEAST, scheduling(topologySpread="Disabled")),
    "scheduling.priorityClassName": (LEAST, scheduling(priorityClassName="high")),
    "scheduling.runtimeClassName": (LEAST, scheduling(runtimeClassName="nvidia")),
    "scheduling.schedulerName": (LEAST, scheduling(schedulerName="volcano")),
    "runtime.batching.maxBatchSize": (LEAST, batching()),
    "runtime.batching.maxBatchSize, another": (batching(), batching(maxBatchSize=9)),
    "runtime.batching.timeoutMicros, 0": (batching(), batching(timeoutMicros=0)),
    "runtime.batching.maxEnqueued": (batching(), batching(maxEnqueued=10)),
    "rollout.trigger": (LEAST, {**LEAST, "rollout": {"trigger": "1"}}),
    "endpoint.rawBytes": (LEAST, {**LEAST, "endpoint": {"rawBytes": "Disabled"}}),
    "endpoint.timeoutSeconds": (LEAST, {**LEAST, "endpoint": {"timeoutSeconds": 5}}),
    "endpoint.maxConcurrentRequests": (LEAST, {**LEAST, "endpoint": {"maxConcurrentRequests": 5}}),
    **{
        f"probes.{probe}.{field}": (LEAST, {**LEAST, "probes": {probe: {field: 5}}})
        for probe in ("startup", "readiness", "liveness")
        for field in ("periodSeconds", "timeoutSeconds", "failureThreshold")
    },
    "imagePullSecrets[].name": (LEAST, {**LEAST, "imagePullSecrets": [{"name": "a"}]}),
    "podMetadata.labels": (LEAST, {**LEAST, "podMetadata": {"labels": {"a": ""}}}),
    "podMetadata.annotations": (LEAST, {**LEAST, "podMetadata": {"annotations": {"a": ""}}}),
}
"""Two specs that differ in one field, and in what their pods look like."""

CPU = {"resources": {"requests": {"cpu": 1}}}
SHAPES_NOT: dict[str, tuple[Spec, Spec]] = {
    "replicas": (LEAST, {**LEAST, "replicas": 5}),
    "suspend": (LEAST, {**LEAST, "suspend": True}),
    "accelerator.whenUnavailable": (
        GPU,
        {**LEAST, "accelerator": {"profile": "nvidia-gpu", "whenUnavailable": "Refuse"}},
    ),
    "accelerator.whenBusy": (GPU, {**LEAST, "accelerator": {"profile": "nvidia-gpu", "whenBusy": "Replace"}}),
    "rollout.strategy": (LEAST, {**LEAST, "rollout": {"strategy": "InPlace"}}),
    "rollout.startDeadlineSeconds": (LEAST, {**LEAST, "rollout": {"startDeadlineSeconds": 60}}),
    "rollout.minReadySeconds": (LEAST, {**LEAST, "rollout": {"minReadySeconds": 60}}),
    "rollout.onFailure": (LEAST, {**LEAST, "rollout": {"onFailure": "Revert"}}),
    "autoscaling.maxReplicas": ({**LEAST, **CPU}, {**LEAST, **CPU, "autoscaling": {"maxReplicas": 5}}),
    "autoscaling.minReplicas": (
        {**LEAST, **CPU},
        {**LEAST, **CPU, "autoscaling": {"maxReplicas": 5, "minReplicas": 2}},
    ),
    "autoscaling.metrics[].targetUtilization": (
        {**LEAST, **CPU},
        {
            **LEAST,
            **CPU,
            "autoscaling": {"maxReplicas": 5, "metrics": [{"type": "CPU", "targetUtilization": 9}]},
        },
    ),
    "autoscaling.metrics[].type": (
        {**LEAST, "endpoint": {"maxConcurrentRequests": 5}},
        {
            **LEAST,
            "endpoint": {"maxConcurrentRequests": 5},
            "autoscaling": {"maxReplicas": 5, "metrics": [{"type": "RequestsInFlight"}]},
        },
    ),
    "disruption.maxUnavailable": (LEAST, {**LEAST, "disruption": {"maxUnavailable": 2}}),
}
"""Two specs that differ in one field, and whose pods look the same."""

NOT_IN_FULL = {
    ".accelerator.profile": "FULL has resourceName instead",
    ".model.credentials.serviceAccountName": "FULL has secretRef instead",
    ".scheduling.tolerations[].operator": "FULL has Equal, which leaves no trace",
}
"""Fields that shape the pods and are tested only by their rows in SHAPES."""
SHAPED = [path.removeprefix(".") for path, shapes in leaves(ModelSpec) if shapes and path not in NOT_IN_FULL]

DEFAULTS: tuple[tuple[str, Any], ...] = (
    ("model.name", gen.MODEL),
    ("model.framework", "TensorFlow"),
    ("model.caConfigMapRef.key", "ca.crt"),
    ("runtime.args", []),
    ("runtime.env", []),
    ("resources.requests", {}),
    ("resources.limits", {}),
    ("accelerator.count", 1),
    ("accelerator.whenUnavailable", "Auto"),
    ("scheduling.nodeSelector", {}),
    ("scheduling.tolerations", []),
    ("scheduling.topologySpread", "Preferred"),
    ("endpoint.rawBytes", "Enabled"),
    ("probes.startup", {}),
    ("probes.readiness", {}),
    ("probes.liveness", {}),
    ("imagePullSecrets", []),
    ("podMetadata.labels", {}),
    ("podMetadata.annotations", {}),
    ("replicas", 1),
    ("suspend", False),
    ("rollout.strategy", "Auto"),
    ("rollout.startDeadlineSeconds", 1800),
    ("rollout.minReadySeconds", 0),
    ("rollout.onFailure", "Hold"),
    ("rollout.trigger", ""),
    ("disruption.maxUnavailable", 1),
)
"""What a later CRD could fill in when an object is next written."""
ONLY_WITHIN = ("accelerator", "model.caConfigMapRef")
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


def without(spec: Spec, path: str) -> Spec:
    """The spec without a field; of lists, without the field of each item."""
    left = deepcopy(spec)
    *parents, last = path.split(".")
    places = [left]
    for parent in parents:
        found = [place[parent.removesuffix("[]")] for place in places]
        places = [item for one in found for item in one] if parent.endswith("[]") else found
    for place in places:
        place.pop(last, None)
    return left


@pytest.mark.parametrize(("spec", "other"), SHAPES.values(), ids=SHAPES.keys())
def test_what_shapes_the_pods_is_a_new_revision(spec: Spec, other: Spec) -> None:
    assert key(spec) != key(other)


@pytest.mark.parametrize(("spec", "other"), SHAPES_NOT.values(), ids=SHAPES_NOT.keys())
def test_what_does_not_shape_them_is_none(spec: Spec, other: Spec) -> None:
    assert key(spec) == key(other)


def test_these_fields_shape_nothing() -> None:
    """So that a field is excluded from the keys on purpose; each is tested above."""
    assert {path.removeprefix(".") for path, shapes in leaves(ModelSpec) if not shapes} == set(SHAPES_NOT)


@pytest.mark.parametrize("path", SHAPED)
def test_every_other_field_is_part_of_the_key(path: str) -> None:
    try:
        assert key(without(FULL, path)) != key(FULL)
    except InvalidSpec:
        assert path in SHAPES, f"{path} is required, or another field needs it: add a row to SHAPES"


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
        scheduling(tolerations=[one]) for one in (TOLERATION, {**TOLERATION, "operator": "Equal"})
    )
    assert key(plain) == key(spelled)


@given(SPECS)
def test_every_value_of_the_trigger_is_another_revision(spec: Spec) -> None:
    rollout = spec.get("rollout", {})
    keys = [key({**spec, "rollout": {**rollout, "trigger": text}}) for text in ("", "1", "2")]
    assert len(set(keys)) == 3
    assert all(len(one) == 10 and one.isalnum() for one in keys)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("gpu-profile", "7ead19ca53"),
        ("suspended", "63fbe731df"),
        ("onnx-image", "1d8e0dcffe"),
        ("bucket-account", "edc7080c2e"),
        ("resource-tolerations", "2327c99eeb"),
        ("cpu-scheduled", "f4cf110801"),
        ("gpu-batching", "66cbfa3d54"),
        ("blob-secret", "ed089119e6"),
    ],
)
def test_keys_outlive_releases(name: str, known: str) -> None:
    """A key that changes here restarts every model of every cluster at the upgrade."""
    assert key(CASES[name]) == known
