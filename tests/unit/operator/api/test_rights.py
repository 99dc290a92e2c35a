"""Rights as data: what follows from a resource, and from what a kind owns."""

from __future__ import annotations

import pytest

from serval_operator.api.resources import (
    AUTOSCALERS,
    DEPLOYMENTS,
    LEASES,
    MODEL_DEPLOYMENTS,
    SERVICES,
    Resource,
)
from serval_operator.api.rights import APPLIED, Right, applied_rights, custom_resource_rights
from serval_operator.constants import GROUP, VERSION
from serval_operator.kinds.model_deployment.rights import APPLIES, OPTIONAL
from serval_operator.reconcile.kind import Kind
from serval_operator.registry import KINDS
from serval_operator.runtime.rights import LEASE_NAME, LEASE_RIGHTS


def test_a_custom_resource_is_read_and_its_status_written() -> None:
    rights = custom_resource_rights(MODEL_DEPLOYMENTS)
    assert [(right.target, right.verbs) for right in rights] == [
        ("modeldeployments", ("list", "watch")),
        ("modeldeployments/status", ("patch",)),
        ("modeldeployments/finalizers", ("update",)),
    ]
    assert {right.resource for right in rights} == {MODEL_DEPLOYMENTS}


def test_only_optional_children_may_be_deleted() -> None:
    reasons = {DEPLOYMENTS: "It runs pods.", AUTOSCALERS: "A spec may ask for it."}
    rights = applied_rights((DEPLOYMENTS, AUTOSCALERS), (AUTOSCALERS,), reasons)
    assert rights == (
        Right(DEPLOYMENTS, APPLIED, "It runs pods."),
        Right(AUTOSCALERS, (*APPLIED, "delete"), "A spec may ask for it."),
    )


@pytest.mark.parametrize("owns", [(), (DEPLOYMENTS, SERVICES)])
def test_every_owned_resource_has_a_reason_and_no_other(owns: tuple[Resource, ...]) -> None:
    with pytest.raises(ValueError, match=r"do not match: (deployments|services)$"):
        applied_rights(owns, (), {DEPLOYMENTS: "It runs pods."})


def test_the_lease_is_restricted_by_its_name() -> None:
    by_verb = {verb: right.names for right in LEASE_RIGHTS for verb in right.verbs}
    assert by_verb == {"create": (), "get": (LEASE_NAME,), "update": (LEASE_NAME,)}
    assert {right.resource for right in LEASE_RIGHTS} == {LEASES}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.crd.kind)
class TestRegisteredKinds:
    def test_the_resource_is_that_of_the_crd(self, kind: Kind) -> None:
        assert kind.resource == Resource(GROUP, VERSION, kind.crd.plural, kind.crd.kind)

    def test_every_right_has_a_reason(self, kind: Kind) -> None:
        assert [right.target for right in kind.rights if not right.why.endswith(".")] == []

    def test_none_is_for_secrets_logs_or_everything(self, kind: Kind) -> None:
        refused = {"secrets", "pods/log", "pods/exec", "serviceaccounts/token"}
        assert [right.target for right in kind.rights if right.target in refused] == []
        words = [word for right in kind.rights for word in (right.resource.group, right.target, *right.verbs)]
        assert "*" not in words


def test_children_of_model_deployments_have_the_verbs_of_the_applier() -> None:
    (kind,) = (one for one in KINDS if one.resource == MODEL_DEPLOYMENTS)
    verbs = {right.resource: right.verbs for right in kind.rights}
    assert {resource: verbs[resource] for resource in APPLIES} == {
        resource: (*APPLIED, *(["delete"] if resource in OPTIONAL else [])) for resource in APPLIES
    }
