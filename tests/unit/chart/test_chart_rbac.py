"""What the chart lets the operator and the users do."""

from __future__ import annotations

import pytest

from serval_operator.settings import Settings
from unit.chart.rendering import NAMESPACE, Chart, Manifest, environment, of_kind, only, pod_of

RULES = [
    (["serval.dev"], ["acceleratedmodels"], ["list", "watch"]),
    (["serval.dev"], ["acceleratedmodels/status"], ["patch"]),
    (["serval.dev"], ["acceleratedmodels/finalizers"], ["update"]),
    (["apps"], ["deployments"], ["get", "list", "watch", "create", "patch"]),
    ([""], ["services"], ["get", "list", "watch", "create", "patch"]),
    (["apps"], ["controllerrevisions"], ["get", "list", "watch", "create", "patch", "delete"]),
    (["batch"], ["jobs"], ["get", "list", "watch", "create", "patch", "delete"]),
    ([""], ["pods"], ["list", "watch", "delete"]),
    ([""], ["serviceaccounts"], ["get"]),
    (["serval.dev"], ["modeldeployments"], ["list", "watch"]),
    (["serval.dev"], ["modeldeployments/status"], ["patch"]),
    (["serval.dev"], ["modeldeployments/finalizers"], ["update"]),
    (["apps"], ["deployments"], ["get", "list", "watch", "create", "patch"]),
    ([""], ["services"], ["get", "list", "watch", "create", "patch"]),
    (["autoscaling"], ["horizontalpodautoscalers"], ["get", "list", "watch", "create", "patch", "delete"]),
    (["policy"], ["poddisruptionbudgets"], ["get", "list", "watch", "create", "patch", "delete"]),
    (["apps"], ["controllerrevisions"], ["get", "list", "watch", "create", "patch", "delete"]),
    ([""], ["pods"], ["list", "watch", "delete"]),
    ([""], ["configmaps"], ["create"]),
    ([""], ["serviceaccounts"], ["get"]),
    ([""], ["events"], ["list", "create"]),
]
"""All that the operator may do with what is in a namespace that it serves. No Secrets, no logs, no exec, no
wildcard; owner references delete most of it."""
CAPACITY_RULES = [
    ([""], ["nodes"], ["list", "watch"]),
    ([""], ["pods"], ["list"]),
    (["karpenter.sh"], ["nodeclaims"], ["list"]),
    (["resource.k8s.io"], ["deviceclasses"], ["list"]),
    (["scheduling.k8s.io"], ["priorityclasses"], ["list"]),
]
"""All that it may see beyond."""

SUBJECTS = [{"kind": "ServiceAccount", "name": "serval-operator", "namespace": NAMESPACE}]


def rules(role: Manifest) -> list[tuple[list[str], list[str], list[str]]]:
    """Rules that name no object."""
    assert all(set(rule) == {"apiGroups", "resources", "verbs"} for rule in role["rules"])
    return [(rule["apiGroups"], rule["resources"], rule["verbs"]) for rule in role["rules"]]


def test_operator_may_do_exactly_this_everywhere(rendered: list[Manifest]) -> None:
    assert rules(only(rendered, "ClusterRole")) == RULES
    binding = only(rendered, "ClusterRoleBinding")
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("ClusterRole", "serval-operator")
    assert binding["subjects"] == SUBJECTS


def test_operator_sees_capacity_and_one_object_of_the_autoscaler(rendered: list[Manifest]) -> None:
    assert rules(only(rendered, "ClusterRole", "serval-operator-capacity")) == CAPACITY_RULES
    role = only(rendered, "Role", "serval-operator-autoscaler")
    assert role["metadata"]["namespace"] == "kube-system"
    status = ["cluster-autoscaler-status"]
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": status, "verbs": ["get"]}
    ]
    bound = {one["roleRef"]["name"]: one for one in of_kind(rendered, "ClusterRoleBinding", "RoleBinding")}
    parts = ("", "-capacity", "-autoscaler", "-lease")
    assert set(bound) == {f"serval-operator{part}" for part in parts}
    assert all(one["subjects"] == SUBJECTS for one in bound.values())
    assert bound["serval-operator-autoscaler"]["metadata"]["namespace"] == "kube-system"


@pytest.mark.parametrize(
    ("capacity", "namespaces", "sees"),
    [
        ("auto", [], True),
        ("auto", ["vision"], False),
        ("always", ["vision"], True),
        ("never", [], False),
    ],
)
def test_whether_the_operator_sees_capacity(
    chart: Chart, capacity: str, namespaces: list[str], sees: bool
) -> None:
    manifests = chart.render({"rbac": {"capacity": capacity}, "watchNamespaces": namespaces})
    named = [one for one in manifests if one["metadata"]["name"] == "serval-operator-capacity"]
    assert len(named) == (2 if sees else 0)


@pytest.mark.parametrize(
    ("replicas", "strategy", "spreads"), [(1, "Recreate", False), (2, "RollingUpdate", True)]
)
def test_every_operator_needs_the_lease(chart: Chart, replicas: int, strategy: str, *, spreads: bool) -> None:
    """Also a single one: it may still run when its successor starts, as in an upgrade to two."""
    manifests = chart.render({"operator": {"replicas": replicas, "leaseSeconds": 30}})
    role = only(manifests, "Role", "serval-operator-lease")
    assert role["metadata"]["namespace"] == NAMESPACE
    group, leases = ["coordination.k8s.io"], ["leases"]
    assert role["rules"] == [
        {"apiGroups": group, "resources": leases, "verbs": ["create"]},
        {
            "apiGroups": group,
            "resources": leases,
            "resourceNames": ["serval-operator"],
            "verbs": ["get", "update"],
        },
    ]
    assert only(manifests, "RoleBinding", "serval-operator-lease")["subjects"] == SUBJECTS
    spec = only(manifests, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (replicas, strategy)
    assert ("topologySpreadConstraints" in spec["template"]["spec"]) is spreads
    variables = environment(manifests)
    settings = Settings.from_environment(variables)
    assert (settings.lease_name, settings.lease_namespace) == ("serval-operator", NAMESPACE)
    assert settings.lease_seconds == 30


def test_operator_may_do_exactly_this_in_named_namespaces(chart: Chart) -> None:
    manifests = chart.render({"watchNamespaces": ["vision", "speech", "vision"]})
    lease, name = "serval-operator-lease", "serval-operator"
    assert only(manifests, "Role", lease)["metadata"]["namespace"] == NAMESPACE
    roles = [one for one in of_kind(manifests, "Role") if one["metadata"]["name"] == name]
    bindings = [one for one in of_kind(manifests, "RoleBinding") if one["metadata"]["name"] == name]
    assert len(of_kind(manifests, "Role", "RoleBinding")) == len(roles) + len(bindings) + 2
    assert [one["metadata"]["namespace"] for one in roles] == ["vision", "speech"]
    assert [one["metadata"]["namespace"] for one in bindings] == ["vision", "speech"]
    for role, binding in zip(roles, bindings, strict=True):
        assert rules(role) == RULES
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("Role", role["metadata"]["name"])
        assert binding["subjects"] == SUBJECTS
    assert not of_kind(manifests, "ClusterRoleBinding")
    assert [one["metadata"]["name"] for one in of_kind(manifests, "ClusterRole")] == [
        "serval-edit",
        "serval-view",
    ]
    assert environment(manifests)["SERVAL_WATCH_NAMESPACES"] == "vision,speech"


def test_users_roles_speak_of_our_kind_alone(rendered: list[Manifest]) -> None:
    view, edit = only(rendered, "ClusterRole", "serval-view"), only(rendered, "ClusterRole", "serval-edit")
    for role in (view, edit):
        assert {group for groups, _, _ in rules(role) for group in groups} == {"serval.dev"}
        assert not {"modeldeployments/finalizers", "*"} & {
            one for _, resources, _ in rules(role) for one in resources
        }
    assert {verb for _, _, verbs in rules(view) for verb in verbs} == {"get", "list", "watch"}
    assert "rbac.authorization.k8s.io/aggregate-to-view" not in edit["metadata"]["labels"]


def test_roles_may_be_left_out(chart: Chart) -> None:
    manifests = chart.render({"rbac": {"create": False, "aggregateToUserRoles": False}})
    assert not of_kind(manifests, "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


def test_service_account_of_the_users_own(chart: Chart) -> None:
    manifests = chart.render({"serviceAccount": {"create": False, "name": "mine"}})
    assert not of_kind(manifests, "ServiceAccount")
    assert pod_of(manifests)["spec"]["serviceAccountName"] == "mine"
    assert only(manifests, "ClusterRoleBinding")["subjects"][0]["name"] == "mine"
