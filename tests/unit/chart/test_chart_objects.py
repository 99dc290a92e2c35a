"""Which objects the chart renders, their names and labels, and what is optional."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import yaml

from serval_contract.ports import PORT_HTTP, PORT_PROGRESS
from serval_operator.api.naming import Key
from serval_operator.constants import COMPONENT_JOB
from serval_operator.workload.manifests.metadata import labels
from unit.chart.rendering import CHART, NAMESPACE, ROOT, Chart, Manifest, of_kind, only


def test_lint_finds_nothing(chart: Chart) -> None:
    linted = chart.run("lint", "--strict", str(CHART))
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_renders_these_objects_and_no_more(rendered: list[Manifest]) -> None:
    assert sorted((one["kind"], one["metadata"]["name"]) for one in rendered) == [
        ("ClusterRole", "serval-edit"),
        ("ClusterRole", "serval-operator"),
        ("ClusterRole", "serval-operator-capacity"),
        ("ClusterRole", "serval-view"),
        ("ClusterRoleBinding", "serval-operator"),
        ("ClusterRoleBinding", "serval-operator-capacity"),
        ("ConfigMap", "serval-operator"),
        ("CustomResourceDefinition", "acceleratedmodels.serval.dev"),
        ("CustomResourceDefinition", "modeldeployments.serval.dev"),
        ("Deployment", "serval-operator"),
        ("Role", "serval-operator-autoscaler"),
        ("Role", "serval-operator-lease"),
        ("RoleBinding", "serval-operator-autoscaler"),
        ("RoleBinding", "serval-operator-lease"),
        ("ServiceAccount", "serval-operator"),
    ]


def test_rendering_twice_gives_the_same(chart: Chart, rendered: list[Manifest]) -> None:
    assert chart.render() == rendered  # else GitOps tools would see drift for ever


def test_every_object_carries_the_labels(chart: Chart) -> None:
    for one in chart.render({"commonLabels": {"team": "serving"}}):
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "serval"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["team"] == "serving"


def test_namespaced_objects_name_their_namespace(rendered: list[Manifest]) -> None:
    for one in of_kind(rendered, "ConfigMap", "Deployment", "ServiceAccount"):
        assert one["metadata"]["namespace"] == NAMESPACE


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"nameOverride": "other"}, "serval-other-operator"),
        ({"fullnameOverride": "other"}, "other-operator"),
        ({"fullnameOverride": "a" * 40}, "a" * 40 + "-operator"),
    ],
)
def test_names_follow_the_values(chart: Chart, values: Manifest, name: str) -> None:
    manifests = chart.render(values)
    only(manifests, "Deployment", name)
    only(manifests, "ClusterRole", name)


def test_metrics_service(chart: Chart) -> None:
    manifests = chart.render({"metrics": {"service": {"enabled": True}}})
    service = only(manifests, "Service", "serval-operator-metrics")
    assert service["spec"]["selector"] == only(manifests, "Deployment")["spec"]["selector"]["matchLabels"]
    (port,) = service["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (8080, "http")


MONITOR: Manifest = {
    "metrics": {"service": {"enabled": True}, "serviceMonitor": {"enabled": True, "labels": {"a": "b"}}}
}


def test_service_monitor_where_the_cluster_knows_it(chart: Chart) -> None:
    flags = "--api-versions=monitoring.coreos.com/v1/ServiceMonitor"
    monitor = only(chart.render(MONITOR, flags), "ServiceMonitor")
    service = only(chart.render(MONITOR, flags), "Service", "serval-operator-metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert monitor["metadata"]["labels"]["a"] == "b"
    assert not of_kind(chart.render(MONITOR), "ServiceMonitor")
    forced = {"metrics": {**MONITOR["metrics"], "serviceMonitor": {"enabled": True, "force": True}}}
    only(chart.render(forced), "ServiceMonitor")


def test_disruption_budget_and_network_policy(chart: Chart) -> None:
    manifests = chart.render(
        {
            "podDisruptionBudget": {"enabled": True},
            "networkPolicy": {"enabled": True, "apiServerPorts": [6443]},
        }
    )
    selector = only(manifests, "Deployment")["spec"]["selector"]
    budget, policy = only(manifests, "PodDisruptionBudget"), only(manifests, "NetworkPolicy")
    assert budget["spec"]["selector"] == policy["spec"]["podSelector"] == selector
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    ports = [port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]]
    assert ports == [53, 53, 6443, PORT_HTTP, PORT_PROGRESS]
    models, jobs = [rule["to"] for rule in policy["spec"]["egress"] if "to" in rule]
    assert jobs[0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == COMPONENT_JOB
    pod_labels = labels(Key("ModelDeployment", "vision", "digits"))
    assert models[0]["podSelector"]["matchLabels"].items() <= pod_labels.items()


def value_paths(values: Manifest, prefix: str = "") -> Iterable[str]:
    """Paths of the values that a user would set, down to blocks that are taken whole."""
    whole = {"runtimes", "profiles", "resources"}
    for key, value in values.items():
        if isinstance(value, dict) and value and key not in whole and not key.endswith("Selector"):
            yield from value_paths(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_readme_lists_every_value() -> None:
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert [path for path in value_paths(values) if f"`{path}`" not in readme] == []


def test_chart_and_package_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert chart["version"] == chart["appVersion"]
    assert f'\nversion = "{chart["version"]}"\n' in project


def test_example_of_the_chart_is_a_model_deployment() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    (example,) = yaml.safe_load(chart["annotations"]["artifacthub.io/crdsExamples"])
    assert (example["apiVersion"], example["kind"]) == ("serval.dev/v1alpha1", "ModelDeployment")
