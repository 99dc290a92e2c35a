"""When a child is applied, kept, or left to its owner."""

from __future__ import annotations

import pytest

from serval_operator.api.views import parse_deployment, parse_model
from serval_operator.planning.children import Action, decide
from support import gen
from unit.operator.configuration import resolved
from unit.operator.rendering import rendered

pytestmark = pytest.mark.unit

MODEL = parse_model(gen.model())
MANIFEST = rendered(MODEL, resolved())
NEW_MANIFEST = rendered(MODEL, resolved(replicas=2))
HAND = gen.managed("kubectl-edit", {"f:spec": {"f:replicas": {}}})
SETTLED = parse_deployment(gen.stored(MANIFEST)).ownership
WITH_HAND = parse_deployment(gen.stored(MANIFEST, HAND)).ownership


def strangers(obj: gen.Object) -> None:
    obj["metadata"]["ownerReferences"][0]["uid"] = "somebody-else"


def orphaned(obj: gen.Object) -> None:
    del obj["metadata"]["ownerReferences"]


def robbed(obj: gen.Object) -> None:
    del obj["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:strategy"]


def unmarked(obj: gen.Object) -> None:
    del obj["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("options", "settled", "action"),
    [
        (None, None, Action.CREATE),
        (None, SETTLED, Action.CREATE),
        ((), SETTLED, Action.KEEP),
        ((), None, Action.KEEP),
        ((HAND,), SETTLED, Action.APPLY),
        ((HAND,), None, Action.APPLY),
        ((HAND,), WITH_HAND, Action.KEEP),
        ((robbed,), SETTLED, Action.APPLY),
        ((unmarked,), SETTLED, Action.APPLY),
        ((strangers,), SETTLED, Action.CONFLICT),
        ((strangers, unmarked), None, Action.CONFLICT),
        ((orphaned,), None, Action.CONFLICT),
        ((gen.create_failure("quota"),), SETTLED, Action.KEEP),
    ],
    ids=[
        "not seen",
        "vanished",
        "as applied",
        "as applied, after a restart",
        "edited",
        "edited, after a restart",
        "another manager that we know of",
        "a field removed",
        "annotation removed",
        "of another owner",
        "of another owner, without our mark",
        "without an owner",
        "its status changed",
    ],
)
def test_decide(options: tuple[gen.Option, ...] | None, settled: str | None, action: Action) -> None:
    seen = None if options is None else parse_deployment(gen.stored(MANIFEST, *options))
    assert decide(MODEL, MANIFEST, seen, settled) is action


def test_another_manifest_is_applied() -> None:
    seen = parse_deployment(gen.stored(MANIFEST))
    assert decide(MODEL, NEW_MANIFEST, seen, SETTLED) is Action.APPLY
    assert decide(MODEL, NEW_MANIFEST, seen, None) is Action.APPLY


def test_a_model_of_the_same_name_does_not_inherit() -> None:
    """The first was deleted, and its children wait for the garbage collector."""
    successor = parse_model(gen.model(uid="another-uid"))
    manifest = rendered(successor, resolved())
    assert decide(successor, manifest, parse_deployment(gen.stored(MANIFEST)), None) is Action.CONFLICT
