"""The kinds that an operator serves."""

from __future__ import annotations

import pytest

from serval_operator import registry
from serval_operator.errors import ConfigurationError
from serval_operator.registry import KINDS, selected
from support.toy import TOY_KIND

pytestmark = pytest.mark.unit


def test_no_names_mean_all_kinds() -> None:
    assert selected(()) == KINDS


def test_only_named_kinds_are_served() -> None:
    assert selected(["ModelDeployment"]) == tuple(
        kind for kind in KINDS if kind.resource.kind == "ModelDeployment"
    )


@pytest.mark.parametrize("name", ["modeldeployment", "Toy", "modeldeployments.serval.dev"])
def test_an_unknown_name_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"SERVAL_KINDS: '{name}' is none of .*ModelDeployment"):
        selected(["ModelDeployment", name])


def test_a_kind_is_not_served_without_those_that_its_objects_refer_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds = (*KINDS, TOY_KIND)
    monkeypatch.setattr(registry, "KINDS", kinds)
    with pytest.raises(ConfigurationError, match="SERVAL_KINDS: Toy needs ModelDeployment too"):
        selected(["Toy"])
    assert selected(["Toy", "ModelDeployment"]) == (TOY_KIND, *selected(["ModelDeployment"]))
    assert selected(()) == kinds
