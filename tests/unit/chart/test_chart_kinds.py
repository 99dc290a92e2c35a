"""The chart's value `kinds`: what is installed, what the operator may do, and what users may do."""

from __future__ import annotations

from pathlib import Path

import pytest

from serval_operator.registry import KINDS
from support.generated_chart import generated_for
from support.toy import TOY_KIND
from unit.chart.rendering import Chart, Manifest, environment, of_kind, only

EVERYTHING = {"get", "list", "watch", "create", "patch", "delete"}


@pytest.fixture(scope="module")
def two_kinds(helm: Path, tmp_path_factory: pytest.TempPathFactory) -> Chart:
    """The chart as it is after a second kind was added to the registry."""
    return Chart(helm, generated_for([*KINDS, TOY_KIND], tmp_path_factory.mktemp("chart")))


def verbs(role: Manifest) -> dict[str, set[str]]:
    """Verbs of a role by resource."""
    found: dict[str, set[str]] = {}
    for rule in role["rules"]:
        for resource in rule["resources"]:
            found.setdefault(resource, set()).update(rule["verbs"])
    return found


def crds(manifests: list[Manifest]) -> set[str]:
    """Names of the CRDs."""
    return {one["metadata"]["name"] for one in of_kind(manifests, "CustomResourceDefinition")}


@pytest.mark.parametrize("kinds", [None, []])
def test_without_a_choice_all_kinds_are_installed(two_kinds: Chart, kinds: list[str] | None) -> None:
    manifests = two_kinds.render({} if kinds is None else {"kinds": kinds})
    own = {kind.crd.name for kind in KINDS}
    assert crds(manifests) == {*own, "toys.serval.dev"}
    role = verbs(only(manifests, "ClusterRole"))
    assert {"modeldeployments", "toys", "deployments", "jobs", "events"} <= set(role)
    assert {"modeldeployments", "toys"} <= set(verbs(only(manifests, "ClusterRole", "serval-edit")))
    assert "SERVAL_KINDS" not in environment(manifests)


def test_a_chosen_kind_brings_its_own_rights_and_no_others(two_kinds: Chart) -> None:
    manifests = two_kinds.render({"kinds": ["Toy"]})
    assert crds(manifests) == {"toys.serval.dev"}
    assert verbs(only(manifests, "ClusterRole")) == {
        "toys": {"list", "watch"},
        "toys/status": {"patch"},
        "toys/finalizers": {"update"},
        "deployments": EVERYTHING - {"delete"},
        "jobs": EVERYTHING,
        "pods": {"list", "watch"},
        "events": {"list", "create"},
    }
    assert environment(manifests)["SERVAL_KINDS"] == "Toy"


def test_users_get_no_scale_of_a_kind_without_one(two_kinds: Chart) -> None:
    manifests = two_kinds.render({"kinds": ["Toy"]})
    assert verbs(only(manifests, "ClusterRole", "serval-view")) == {
        "toys": {"get", "list", "watch"},
        "toys/status": {"get"},
    }
    edit = verbs(only(manifests, "ClusterRole", "serval-edit"))
    assert edit == {"toys": {"create", "update", "patch", "delete", "deletecollection"}}


def test_roles_in_namespaces_follow_the_kinds(two_kinds: Chart) -> None:
    manifests = two_kinds.render({"kinds": ["Toy"], "watchNamespaces": ["vision"]})
    (role,) = (one for one in of_kind(manifests, "Role") if one["metadata"]["namespace"] == "vision")
    assert "jobs" in verbs(role)
    assert "services" not in verbs(role)


def test_several_kinds_may_be_named(two_kinds: Chart) -> None:
    names = ["Toy", *(kind.crd.kind for kind in KINDS)]
    manifests = two_kinds.render({"kinds": names})
    assert only(manifests, "ClusterRole") == only(two_kinds.render(), "ClusterRole")
    assert environment(manifests)["SERVAL_KINDS"] == ",".join(sorted(names))


def test_naming_every_kind_changes_nothing_else(chart: Chart, rendered: list[Manifest]) -> None:
    names = sorted(kind.crd.kind for kind in KINDS)
    manifests = chart.render({"kinds": names})
    assert environment(manifests)["SERVAL_KINDS"] == ",".join(names)
    others = [one for one in manifests if one["kind"] != "Deployment"]
    assert others == [one for one in rendered if one["kind"] != "Deployment"]


@pytest.mark.parametrize(
    "more", [{}, {"crds": {"enabled": False}, "rbac": {"create": False, "aggregateToUserRoles": False}}]
)
def test_an_unknown_kind_is_refused_with_the_known_ones(two_kinds: Chart, more: Manifest) -> None:
    text = two_kinds.refusal({"kinds": ["ModelDeploy"], **more})
    assert (
        'kinds: this chart has no kind "ModelDeploy"; it has AcceleratedModel, ModelDeployment, Toy' in text
    )


@pytest.mark.parametrize("kinds", ["ModelDeployment", [1], ["modeldeployments"], ["Toy", "Toy"]])
def test_values_that_are_no_list_of_kinds_are_refused(two_kinds: Chart, kinds: object) -> None:
    assert "kinds" in two_kinds.refusal({"kinds": kinds})
