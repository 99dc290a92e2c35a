"""The profiles for hardware in examples/profiles, read by the chart, the operator and the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from serval_contract.models import ACCELERATED
from serval_serving.devices.base import DeviceSettings
from serval_serving.devices.choice import make_device
from unit.chart.rendering import ROOT, Chart, configuration

EXAMPLES = sorted((ROOT / "examples" / "profiles").glob("*.yaml"))
ENGINES = {"u250": "vart", "np": "vart", "intel": "onnxruntime-ep"}


def values(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_each_card_has_its_example() -> None:
    assert {path.stem for path in EXAMPLES} == ENGINES.keys()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_says_that_it_is_untested(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# UNTESTED ON HARDWARE: ")
    (profile,) = values(path)["profiles"].values()
    assert "untested" in profile["description"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_operator_reads_it_and_the_server_knows_its_options(path: Path, chart: Chart) -> None:
    name = path.stem
    read = configuration(chart.render(values(path)))
    profile = read.profiles[name]
    assert profile.device is not None
    assert profile.device.engine == ENGINES[name]
    assert not profile.device.allow_emulation
    image = read.runtimes["serval"].image(name, ACCELERATED)
    assert image.startswith("registry.example.com/serval/serval-server:")
    device = make_device(profile.device.engine, DeviceSettings(options=profile.device.options))
    assert not device.emulated
