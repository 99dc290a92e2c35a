"""What the chart lets the operator and the users do."""

from __future__ import annotations

from unit.chart.rendering import NAMESPACE, Chart, Manifest, environment, of_kind, only, pod_of

RULES = [
    (["serval.dev"], ["modeldeployments"], ["list", "watch"]),
    (["serval.dev"], ["modeldeployments/status"], ["patch"]),
    (["serval.dev"], ["modeldeployments/finalizers"], ["update"]),
    (["apps"], ["deployments"], ["get", "list", "watch", "create", "patch"]),
    ([""], ["services"], ["get", "list", "watch", "create", "patch"]),
    ([""], ["pods"], ["list", "watch"]),
    ([""], ["events"], ["list", "create"]),
]
"""All that the operator may do. No Secrets, no logs, no exec, no wildcard; owner references delete for it."""

SUBJECTS = [{"kind": "ServiceAccount", "name": "serval-operator", "namespace": NAMESPACE}]


def rules(role: Manifest) -> list[tuple[list[str], list[str], list[str]]]:
    assert all(set(rule) == {"apiGroups", "resources", "verbs"} for rule in role["rules"])
    return [(rule["apiGroups"], rule["resources"], rule["verbs"]) for rule in role["rules"]]


def test_operator_may_do_exactly_this_everywhere(rendered: list[Manifest]) -> None:
    assert rules(only(rendered, "ClusterRole")) == RULES
    binding = only(rendered, "ClusterRoleBinding")
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("ClusterRole", "serval-operator")
    assert binding["subjects"] == SUBJECTS
    assert not of_kind(rendered, "Role", "RoleBinding")


def test_operator_may_do_exactly_this_in_named_namespaces(chart: Chart) -> None:
    manifests = chart.render({"watchNamespaces": ["vision", "speech", "vision"]})
    roles, bindings = of_kind(manifests, "Role"), of_kind(manifests, "RoleBinding")
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
