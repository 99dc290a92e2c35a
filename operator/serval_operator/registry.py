"""The kinds of custom resources that the operator reconciles. This is the only list of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from serval_operator.errors import ConfigurationError
from serval_operator.kinds import accelerated_model, model_deployment
from serval_operator.reconcile.kind import Kind

KINDS: Final[tuple[Kind, ...]] = (model_deployment.KIND, accelerated_model.KIND)


def selected(names: Sequence[str]) -> tuple[Kind, ...]:
    """Return the kinds with these names; no names means all kinds.

    Raises
    ------
    ConfigurationError
        There is no kind of a name; the text names those that there are. Or a kind was left out whose objects
        another kind refers to.
    """
    known = {kind.resource.kind: kind for kind in KINDS}
    for name in names:
        if name not in known:
            raise ConfigurationError(f"SERVAL_KINDS: {name!r} is none of {', '.join(sorted(known))}")
    chosen = tuple(known[name] for name in names) or KINDS
    served = {kind.resource for kind in chosen}
    for kind in chosen:
        for resource in kind.refers:
            if resource not in served:
                raise ConfigurationError(f"SERVAL_KINDS: {kind.resource.kind} needs {resource.kind} too")
    return chosen
