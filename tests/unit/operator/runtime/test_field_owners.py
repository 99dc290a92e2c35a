"""Which fields other writers took, and who they are."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from serval_operator.api.snapshots import parse_owner
from serval_operator.runtime.field_owners import UNNAMED, Taken, taken
from support import gen
from unit.operator.configuration import resolved
from unit.operator.rendering import rendered

pytestmark = pytest.mark.unit

MANIFEST = rendered(parse_owner(gen.model()), resolved())


def entry(manager: str, fields: gen.Object, operation: str = "Update", subresource: str = "") -> gen.Object:
    return {"manager": manager, "operation": operation, "subresource": subresource, "fieldsV1": fields}


def live(ours: gen.Object, *others: gen.Object) -> gen.Object:
    own = entry("serval-operator", ours, "Apply")
    return {"metadata": {"managedFields": [own, *others]}}


SENT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {
        "name": "digits",
        "namespace": "vision",
        "labels": {"a.b/c": "d"},
        "ownerReferences": [{"uid": "u", "kind": "ModelDeployment", "name": "digits"}],
    },
    "spec": {
        "replicas": 1,
        "ports": [{"port": 80, "name": "http"}, {"port": 90, "name": "grpc"}],
        "args": ["--one", "--two"],
        "env": [],
    },
}
OWNED: dict[str, Any] = {
    # An owner reference is owned as a whole.
    "f:metadata": {"f:labels": {"f:a.b/c": {}, "f:x": {}}, "f:ownerReferences": {'k:{"uid":"u"}': {}}},
    "f:spec": {
        "f:replicas": {},
        "f:args": {},
        "f:ports": {
            'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:name": {}},
            'k:{"port":90,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:name": {}},
        },
    },
}


def without(*path: str) -> gen.Object:
    fields = deepcopy(OWNED)
    inner = fields
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return fields


HPA = entry("kube-controller-manager", {"f:spec": {"f:replicas": {}}}, subresource="scale")
STATUS = entry("kubelet", {"f:spec": {"f:replicas": {}}}, subresource="status")
PORT = 'k:{"port":90,"protocol":"TCP"}'


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        (live(OWNED), None),
        (live(OWNED, entry("kubectl", {"f:metadata": {"f:annotations": {"f:x": {}}}})), None),
        (live(OWNED, HPA), None),
        (
            live(without("f:spec", "f:replicas"), HPA),
            Taken(("kube-controller-manager",), ("spec.replicas",)),
        ),
        (live(without("f:spec", "f:replicas"), STATUS), Taken((UNNAMED,), ("spec.replicas",))),
        (
            live(without("f:metadata", "f:labels", "f:a.b/c")),
            Taken((UNNAMED,), ("metadata.labels.a.b/c",)),
        ),
        (
            live(
                without("f:spec", "f:ports", PORT, "f:name"),
                entry("argocd", {"f:spec": {"f:ports": {PORT: {"f:name": {}}}}}),
            ),
            Taken(("argocd",), ("spec.ports.name",)),
        ),
        (
            live(without("f:spec", "f:ports", PORT), entry("argocd", {"f:spec": {"f:ports": {}}})),
            Taken(("argocd",), ("spec.ports",)),
        ),
        (
            live(without("f:spec", "f:args"), entry("b", OWNED), entry("a", OWNED)),
            Taken(("a", "b"), ("spec.args",)),
        ),
    ],
    ids=[
        "all is ours", "a field of their own", "one that both own", "a number", "a status does not count",
        "a removed label", "a field of an item", "an item", "several",
    ],
)  # fmt: skip
def test_taken(stored: gen.Object, found: Taken | None) -> None:
    assert taken(SENT, stored) == found


def test_a_whole_manifest_is_ours_when_it_was_applied() -> None:
    assert taken(MANIFEST, gen.stored(MANIFEST)) is None


@pytest.mark.parametrize("stored", [{}, {"metadata": {"managedFields": [None, {"fieldsV1": 3}]}}])
def test_odd_objects_do_not_fail(stored: gen.Object) -> None:
    assert taken(SENT, stored) is not None
