"""The parts of the configuration about devices and conversion."""

from __future__ import annotations

from typing import Any

import pytest

from serval_contract.devices import ENGINES
from serval_operator.config_conversion import ArtifactStore, DeviceSettings
from serval_operator.errors import ConfigurationError
from unit.operator.kinds.accelerated_model.world import configured, document

pytestmark = pytest.mark.unit


def profile(**fields: Any) -> list[dict[str, Any]]:
    """The profiles, of which the device's has these fields."""
    profiles: list[dict[str, Any]] = document()["profiles"]
    profiles[-1] |= fields
    return profiles


def conversion(**artifacts: Any) -> dict[str, Any]:
    return {"image": "c:1", "artifacts": artifacts}


def test_a_device() -> None:
    fields = {"engineOptions": {"programSeconds": 2}, "lockDir": "/locks", "allowEmulation": True}
    found = configured(profiles=profile(resourceName="amd.com/u250", **fields)).profiles["u250"]
    assert found.device == DeviceSettings("emulator", {"programSeconds": 2}, "/locks", allow_emulation=True)
    assert configured().profiles["cpu"].device is None


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_may_be_named(engine: str) -> None:
    device = configured(profiles=profile(engine=engine)).profiles["u250"].device
    assert device is not None
    assert device.engine == engine


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"engine": "fpga"}, "engine: must be one of emulator, vart, onnxruntime-ep"),
        ({"resourceName": ""}, "resourceName: must be set beside `engine`"),
        ({"resourceName": "amd.com/u250"}, "allowEmulation: must be true, since the emulator would hold"),
        ({"engine": "", "lockDir": "/locks"}, "engine: must be set beside lockDir"),
    ],
)
def test_what_a_profile_must_not_say_of_its_device(fields: dict[str, Any], words: str) -> None:
    runtimes = document()["runtimes"]
    with pytest.raises(ConfigurationError, match=words):
        configured(profiles=profile(**fields), runtimes=runtimes)


def test_where_artifacts_go() -> None:
    found = configured().conversion
    assert found is not None
    assert found.store == ArtifactStore(prefix="registry.example/serval", push_secret="artifact-push")
    assert found.push_image == "registry.example/serval-operator:1", "that of the fetcher"
    nowhere = configured(conversion={"image": "c:1"}).conversion
    assert nowhere is not None
    assert nowhere.store is None


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({}, "conversion.image: must be a text"),
        (
            conversion(repositoryPrefix="r", claim="c"),
            "claim: must be absent where `repositoryPrefix`",
        ),
        (conversion(repositoryPrefix="https://r"), "repositoryPrefix: must be REGISTRY or REGISTRY/PATH"),
        (conversion(repositoryPrefix="r/Upper"), "repositoryPrefix: must be REGISTRY or REGISTRY/PATH"),
        (conversion(claim="A"), "claim: must be the name of an object"),
        (conversion(pushSecret="a b", claim="c"), "pushSecret: must be the name of an object"),
        (conversion(registry="r"), "registry: unknown field"),
    ],
)
def test_what_it_must_not_say_of_conversion(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        configured(conversion=section)
