from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from serval_contract.stage_report import StageReport, parse_stage_report
from serval_serving.accel.artifact import CONVERSION_FILE, DEVICE_ONNX, Conversion, Host, Part, Tensor
from serval_serving.artifacts.client import RegistryClient, Settings
from serval_serving.artifacts.push_stage import PushSettings, tag_of
from serval_serving.artifacts.push_stage import run as run_stage
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.safety.address_policy import AddressPolicy, system_resolve
from support.push_registry import PushRegistry, pushable
from unit.serving.fetch.tls import Pki, make_pki

IMAGE = Tensor("InputImage:0", "float32", (None, 8, 8, 3))
SCORES = Tensor("scores:0", "float32", (None, 10))
KEY = "sha256:" + "a" * 64
TAG = tag_of(KEY)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def environment(slept: list[float]) -> Environment:
    """The real network without the rules about addresses, since all is on loopback; pauses are counted."""
    return Environment(time.monotonic, slept.append, system_resolve, AddressPolicy(()))


@pytest.fixture
def run(pki: Pki) -> Iterator[Callable[..., PushRegistry]]:
    """Run registries until the test ends."""
    with ExitStack() as stack:

        def start(*, plain: bool = True, **settings: object) -> PushRegistry:
            registry = PushRegistry(**settings)  # type: ignore[arg-type]
            return stack.enter_context(pushable(registry, None if plain else pki))

        yield start


@pytest.fixture
def client(pki: Pki, environment: Environment) -> Callable[..., RegistryClient]:
    def make(registry: PushRegistry, login: tuple[str, str] | None = None) -> RegistryClient:
        settings = Settings(login, pki.ca, not registry.tls, 60.0, environment)
        return RegistryClient(registry.host, settings)

    return make


def conversion(**changes: object) -> Conversion:
    fields: dict[str, object] = {
        "inputs": {"image": IMAGE},
        "outputs": {"scores": SCORES},
        "host": Host("None"),
        "device": Part(DEVICE_ONNX, "sha256:" + "0" * 64, (IMAGE,), (SCORES,)),
        "classifier": None,
        "quantization": "Int8",
        "network": "ResNet50",
        "source_digest": "sha256:" + "5" * 64,
        "converter": "serval 0.2.0",
        "report": {"cosine": 0.99, "seconds": 12.5},
    }
    return Conversion(**(fields | changes))  # type: ignore[arg-type]


def write_artifact(folder: Path, device: bytes = b"weights" * 1000, **changes: object) -> Path:
    """Write an artifact's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DEVICE_ONNX).write_bytes(device)
    (folder / CONVERSION_FILE).write_text(conversion(**changes).dump(), encoding="utf-8")
    (folder / "conversion.log").write_text("converted\n", encoding="utf-8")
    return folder


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_artifact(tmp_path / "artifact")


@pytest.fixture
def stage(tmp_path: Path, pki: Pki, environment: Environment) -> Callable[..., StageReport]:
    def push(registry: PushRegistry | None, artifact: Path, **changes: Any) -> StageReport:
        values: dict[str, Any] = {
            "artifact": artifact,
            "repository": "" if registry is None else f"{registry.host}/serval/team-a",
            "cache_key": KEY,
            "tag": TAG,
            "ca_file": pki.ca,
            "plain": registry is not None and not registry.tls,
        }
        message = tmp_path / "termination"
        message.touch()
        status = run_stage(PushSettings(**values | changes), environment, message)
        report = parse_stage_report(message.read_text())
        assert report is not None
        assert report.stage == "push"
        assert (status == 0) == (report.reason == "")
        return report

    return push
