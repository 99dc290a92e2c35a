"""When a child is applied, kept, or left to its owner."""

from __future__ import annotations

import pytest

from serval_operator.api.snapshots import parse_deployment, parse_owner
from serval_operator.runtime.drift import Action, conflict, decide
from support import gen
from unit.operator.configuration import resolved
from unit.operator.rendering import rendered

pytestmark = pytest.mark.unit

MODEL = parse_owner(gen.model())
MANIFEST = rendered(MODEL, resolved())
NEW_MANIFEST = rendered(MODEL, resolved(replicas=2))
HAND = gen.managed("kubectl-edit", {"f:spec": {"f:replicas": {}}})
SETTLED = parse_deployment(gen.stored(MANIFEST)).ownership
WITH_HAND = parse_deployment(gen.stored(MANIFEST, HAND)).ownership


def orphaned(obj: gen.Object) -> None:
    del obj["metadata"]["ownerReferences"]


def robbed(obj: gen.Object) -> None:
    del obj["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:strategy"]


def unmarked(obj: gen.Object) -> None:
    del obj["metadata"]["annotations"]


def first_build(obj: gen.Object) -> None:
    del obj["spec"]["selector"]["matchLabels"]["serval.dev/kind"]


def owned_by(kind: str, name: str, api_version: str = "serval.dev/v1alpha1") -> gen.Option:
    """The controlling owner is another object."""

    def change(obj: gen.Object) -> None:
        obj["metadata"]["ownerReferences"][0] |= {
            "apiVersion": api_version,
            "kind": kind,
            "name": name,
            "uid": "another-uid",
        }

    return change


@pytest.mark.parametrize(
    ("options", "settled", "action"),
    [
        ((), SETTLED, Action.KEEP),
        ((), None, Action.KEEP),
        ((HAND,), SETTLED, Action.APPLY),
        ((HAND,), None, Action.APPLY),
        ((HAND,), WITH_HAND, Action.KEEP),
        ((robbed,), SETTLED, Action.APPLY),
        ((unmarked,), SETTLED, Action.APPLY),
        ((gen.create_failure("quota"),), SETTLED, Action.KEEP),
    ],
    ids=[
        "as applied",
        "as applied, after a restart",
        "edited",
        "edited, after a restart",
        "another manager that is known",
        "a field removed",
        "annotation removed",
        "its status changed",
    ],
)
def test_decide(options: tuple[gen.Option, ...], settled: str | None, action: Action) -> None:
    assert decide(MANIFEST, parse_deployment(gen.stored(MANIFEST, *options)), settled) is action


def test_another_manifest_is_applied() -> None:
    seen = parse_deployment(gen.stored(MANIFEST))
    assert decide(NEW_MANIFEST, seen, SETTLED) is Action.APPLY
    assert decide(NEW_MANIFEST, seen, None) is Action.APPLY


def test_owner_references_are_no_drift() -> None:
    """A new version of the API group must not apply every child again."""
    manifest = rendered(MODEL, resolved())
    manifest["metadata"]["ownerReferences"][0]["apiVersion"] = "serval.dev/v1"
    assert decide(MANIFEST, parse_deployment(gen.stored(manifest)), None) is Action.KEEP


@pytest.mark.parametrize(
    ("options", "reason", "words"),
    [
        (
            (owned_by("ModelDeployment", "digits"),),
            "Progressing",
            "of a deleted ModelDeployment vision/digits",
        ),
        (
            (owned_by("ModelDeployment", "other"),),
            "ResourceConflict",
            "belongs to ModelDeployment vision/other",
        ),
        (
            (owned_by("ModelDeployment", "digits", "example.com/v1"),),
            "ResourceConflict",
            "belongs to ModelDeployment digits",
        ),
        ((owned_by("Rollout", "x", "argoproj.io/v1alpha1"),), "ResourceConflict", "belongs to Rollout x"),
        ((orphaned,), "ResourceConflict", "does not belong to this ModelDeployment"),
        ((first_build,), "ResourceConflict", "made by an unreleased build"),
    ],
    ids=["predecessor", "one of ours", "another group", "another kind", "no owner", "unreleased build"],
)
def test_conflict(options: tuple[gen.Option, ...], reason: str, words: str) -> None:
    blocked = conflict(MODEL, "Deployment/digits", parse_deployment(gen.stored(MANIFEST, *options)))
    assert blocked is not None
    assert blocked.reason == reason
    assert blocked.message.startswith("Deployment/digits ")
    assert words in blocked.message


def test_no_conflict_with_a_child_of_ours() -> None:
    assert conflict(MODEL, "Deployment/digits", parse_deployment(gen.stored(MANIFEST))) is None
