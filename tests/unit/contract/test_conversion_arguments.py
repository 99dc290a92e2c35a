"""Every argument of a conversion's Job is one of the contract, and the fetcher understands its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serval_contract import accel_flags, fetch_flags
from serval_contract.flags import Flag, Switch
from serval_contract.models import ACCELERATED, TENSORFLOW, WEIGHTS
from serval_operator.kinds.accelerated_model.artifact import report_of
from serval_serving.accel.artifact import Conversion, Host, Part
from serval_serving.accel.build import stage as build_stage
from serval_serving.accel.convert.stage import summary
from serval_serving.artifacts import push_stage
from serval_serving.fetch.__main__ import read_arguments
from serval_serving.server.flags import parse
from unit.operator.kinds.accelerated_model.cases import CASES, CLAIM
from unit.operator.kinds.accelerated_model.world import RESOURCE, World, configured, converted, document

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
    # What a featurizer needs is weights of any form; what is converted as it is must be a SavedModel.
    asked = WEIGHTS if "featurizer" in CASES[name] else TENSORFLOW
    assert found.framework.format.framework == asked


@pytest.mark.parametrize("name", CASES)
def test_the_pusher_understands_what_it_is_told(name: str) -> None:
    (push,) = (one for one in containers(name) if one["name"] == "push")
    settings, _log = push_stage.read_arguments([one.replace("$$", "$") for one in push["args"]])
    assert str(settings.artifact) == "/serval/work/artifact"
    if name == "claim":
        assert (settings.repository, str(settings.store), settings.plain) == ("eyes", "/serval/store", True)
    else:
        assert settings.repository == "registry.example/serval/vision/eyes"
        assert settings.store is None
    assert (settings.credentials_dir is None) == (name == "claim")


@pytest.mark.parametrize("name", [name for name, spec in CASES.items() if "featurizer" in spec])
def test_the_builder_understands_what_it_is_told(name: str) -> None:
    (build,) = (one for one in containers(name) if one["name"] == "build")
    found = build_stage._parser().parse_args([one.replace("$$", "$") for one in build["args"]])
    assert found.featurizer == CASES[name]["featurizer"]
    assert str(found.out) == "/serval/work/savedmodel"
    origin = CASES[name].get("weights")
    assert found.preprocessing.get("origin") == (origin if origin != "Random" else None)


def test_the_server_and_its_fetcher_understand_what_they_are_told() -> None:
    profiles = document()["profiles"]
    fields = {"engineOptions": {"a": "$(HOME)"}, "lockDir": "/locks", "allowEmulation": True}
    profiles[-1] |= fields
    spec = converted(World(configured(profiles=profiles))).deployment["spec"]["template"]["spec"]
    (fetch,), (server,) = spec["initContainers"], spec["containers"]
    settings, _log = read_arguments(fetch["args"])
    assert settings.framework.format.framework == ACCELERATED
    line = parse([one.replace("$$", "$") for one in server["args"]])
    assert (line.unknown, line.ignored) == ((), ())
    found = line.settings
    assert (found.device_engine, json.loads(found.device_options)) == ("emulator", {"a": "$(HOME)"})
    assert (found.device_resource, found.device_allow_emulation) == (RESOURCE, True)
    assert str(found.device_lock_dir) == "/locks"


def test_the_status_shows_all_that_a_conversion_measured() -> None:
    measured = {"cosine": 0.99, "largest_error": 1.5, "agreement": 0.95}
    report = {
        "bytes": {"device.onnx": 7},
        "seconds": {"load": 1.5},
        "peak_bytes": {"load": 9},
        "images": {"origin": "Photos"},
        "calibration": measured,
        "held_out": measured,
    }
    part = Part("device.onnx", (), (), ())
    told = summary(Conversion({}, {}, Host("Images"), part, None, "Int8", report=report))
    shown = report_of({"conversion": told})
    assert (shown["cosine"], shown["maxError"], shown["agreement"]) == (0.99, 1.5, 0.95)
    assert (shown["images"], shown["seconds"], shown["peakMemoryBytes"]) == ("Photos", 1.5, 9)
