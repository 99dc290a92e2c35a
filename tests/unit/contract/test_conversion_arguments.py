"""Every argument of a conversion's Job is one of the contract, and the fetcher understands its own."""

from __future__ import annotations

from typing import Any

import pytest

from serval_contract import accel_flags, fetch_flags
from serval_contract.flags import Flag, Switch
from serval_serving.fetch.__main__ import read_arguments
from unit.operator.kinds.accelerated_model.cases import CASES, CLAIM
from unit.operator.kinds.accelerated_model.world import World, configured

pytestmark = pytest.mark.unit

ELSEWHERE = {accel_flags.SOURCE_DIGEST.option, "--classifier", "--seed"}
"""Flags of the stages that only people set."""


def containers(name: str) -> list[dict[str, Any]]:
    """Containers of a case's Job."""
    world = World(CLAIM if name == "claim" else configured(), **CASES[name])
    world.look()
    spec = world.job["spec"]["template"]["spec"]
    return [*spec["initContainers"], *spec["containers"]]


def options(flags: Any) -> set[str]:
    return {one.option for one in vars(flags).values() if isinstance(one, Flag | Switch)}


@pytest.mark.parametrize("name", CASES)
def test_every_argument_is_one_of_the_contract(name: str) -> None:
    known = options(accel_flags) | options(fetch_flags)
    for container in containers(name):
        assert {one.partition("=")[0] for one in container["args"]} <= known
        assert container["command"][:2] == ["python3", "-m"]


def test_every_flag_of_the_stages_is_rendered_by_a_case() -> None:
    used = {one.partition("=")[0] for name in CASES for each in containers(name) for one in each["args"]}
    assert options(accel_flags) - ELSEWHERE <= used


@pytest.mark.parametrize("name", [name for name, spec in CASES.items() if "model" in spec])
def test_the_fetcher_understands_what_it_is_told(name: str) -> None:
    model = CASES[name]["model"]
    fetch = containers(name)[0]
    found, _log = read_arguments([one.replace("$$", "$") for one in fetch["args"]])
    assert (found.uri, found.name) == (model["uri"], model.get("name", "eyes"))
    assert str(found.dest) == "/serval/work/source"
    assert found.pin_file is None
