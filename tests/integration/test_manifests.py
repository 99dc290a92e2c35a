"""The manifests that the operator makes, before a real API server and its real controllers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from serval_lab import Lab
from serval_operator.api.naming import Manifest
from serval_operator.api.snapshots import OwnerView, parse_owner, parse_revision
from serval_operator.kinds.model_deployment.manifests.autoscaler import autoscaler
from serval_operator.kinds.model_deployment.manifests.pin import pin
from serval_operator.workload.manifests.revision import facts_of, revision_record
from support import gen
from support.cluster import Cluster, condition
from support.models import model_deployment
from support.plane import kubectl
from support.wait import until
from unit.operator.configuration import resolved

UNIT = Path(__file__).parents[1] / "unit" / "operator"
GOLDENS = UNIT / "kinds" / "model_deployment" / "manifests" / "golden"
JOB_GOLDENS = UNIT / "jobs" / "golden"
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
SCALED = {"autoscaling": {"maxReplicas": 4, "minReplicas": 3}, "resources": {"requests": {"cpu": "1"}}}


def goldens() -> list[Any]:
    """Every manifest that is kept as a golden."""
    return [
        pytest.param(manifest, id=f"{path.stem}-{number}")
        for folder in (GOLDENS, JOB_GOLDENS)
        for path in sorted(folder.glob("*.yaml"))
        for number, manifest in enumerate(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    ]


@pytest.fixture(scope="module")
def strict_namespace(control_plane: Lab, cluster: Cluster) -> str:
    """The goldens' namespace, with Pod Security at its strictest."""
    labelled = {"name": gen.NAMESPACE, "labels": RESTRICTED}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": labelled})
    return gen.NAMESPACE


@pytest.mark.parametrize("manifest", goldens())
def test_is_taken_whole_and_without_a_warning(
    control_plane: Lab, strict_namespace: str, manifest: Manifest
) -> None:
    arguments = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-")
    done = kubectl(control_plane, *arguments, stdin=json.dumps(manifest))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert lacking(manifest, json.loads(done.stdout)) == []


def lacking(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Places where an object does not hold what was sent. The server may add; it may drop what is empty."""
    if found is None and wanted in ([], {}):
        return []
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return [path]
        return [one for key in wanted for one in lacking(wanted[key], found.get(key), f"{path}.{key}")]
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return [path]
        pairs = enumerate(zip(wanted, found, strict=True))
        return [one for index, (a, b) in pairs for one in lacking(a, b, f"{path}[{index}]")]
    return [] if wanted == found else [f"{path}: {wanted!r} became {found!r}"]


@pytest.fixture
def owner(cluster: Cluster, namespace: str) -> OwnerView:
    return parse_owner(cluster.create(model_deployment("digits", namespace, **SCALED)))


FACTS = facts_of(resolved())


def record(owner: OwnerView, template: dict[str, Any]) -> dict[str, Any]:
    """A ControllerRevision with a template."""
    return revision_record(owner, key="0123456789", template=template, facts=FACTS, number=1)


class TestRevision:
    def test_keeps_a_template_as_it_was_and_nobody_can_change_it(
        self, control_plane: Lab, cluster: Cluster, owner: OwnerView
    ) -> None:
        (deployment,) = yaml.safe_load_all((GOLDENS / "everything.yaml").read_text(encoding="utf-8"))
        template = deployment["spec"]["template"]
        made = cluster.create(record(owner, template))
        assert made["data"] == {"format": 1, "template": template, "facts": FACTS.as_json()}
        name, space = made["metadata"]["name"], owner.namespace
        patch = json.dumps({"data": {"template": None}})
        refused = kubectl(
            control_plane, "patch", "controllerrevision", name, "-n", space, "--type=merge", "-p", patch
        )
        assert "field is immutable" in refused.stderr

    def test_takes_its_pin_along(self, cluster: Cluster, owner: OwnerView) -> None:
        space = owner.namespace
        kept = cluster.create(record(owner, {"spec": {}}))
        made = cluster.create(pin(owner, parse_revision(kept), version=3, digest=gen.DIGEST))
        assert json.loads(made["data"]["pin.json"]) == {"version": 3, "digest": gen.DIGEST}
        cluster.delete("ControllerRevision", space, kept["metadata"]["name"])
        cluster.until_gone("ConfigMap", space, made["metadata"]["name"])


def test_the_autoscaler_sets_the_replicas_of_the_model_deployment(cluster: Cluster, owner: OwnerView) -> None:
    """With nothing measured yet, it lifts one replica to the fewest that are allowed."""
    space = owner.namespace
    made = autoscaler(owner, resolved(**SCALED).spec)
    assert made is not None
    cluster.create(made)

    def replicas() -> bool:
        found = cluster.get("ModelDeployment", space, "digits")
        return found is not None and found["spec"]["replicas"] == 3

    until("three replicas", replicas, 60)
    scaler = cluster.get("HorizontalPodAutoscaler", space, "digits")
    assert scaler is not None
    able = condition(scaler, "AbleToScale")
    assert (able["status"], able["reason"]) == ("True", "SucceededRescale")
