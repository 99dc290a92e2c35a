"""``serval images edge`` against a registry of the test."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from serval_serving.artifacts.client import RegistryClient, Settings
from serval_serving.artifacts.folder import bytes_file
from serval_serving.artifacts.image import NETWORK, append_layers, make_image
from serval_serving.artifacts.layer import make_layer
from serval_serving.artifacts.push import Pusher
from serval_serving.cli import main
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.safety.address_policy import AddressPolicy
from serval_serving.server.flags import parse
from support.push_registry import PushRegistry, pushable
from unit.serving.artifacts.conftest import write_artifact

Capture = pytest.CaptureFixture[str]
REPOSITORY = "serval/serval-server"
ENTRYPOINT = ["python3", "-m", "serval_serving.server"]


class Site:
    """A registry that has a server's image under the tag 1."""

    def __init__(self, registry: PushRegistry) -> None:
        self.registry = registry
        settings = Settings(None, None, True, 60.0, Environment(policy=AddressPolicy(())))
        self.client = RegistryClient(registry.host, settings)
        plain = make_image([make_layer([bytes_file("opt/serval/server.py", b"server")])])
        config = b"".join(plain.config.chunks())
        self.base = append_layers(plain.manifest, config, [], entrypoint=ENTRYPOINT, arguments=["--help"])
        Pusher(self.client, REPOSITORY).push(plain, "plain")
        Pusher(self.client, REPOSITORY).push(self.base, "1")

    def run(self, folder: Path, *options: str, image: str = f"{REPOSITORY}:1") -> int:
        return main(
            ["images", "edge", f"{self.registry.host}/{image}", str(folder), "--plain-http", *options]
        )

    def read(self, tag: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return manifest and configuration."""
        data = self.client.manifest(REPOSITORY, tag)
        assert data is not None
        manifest = json.loads(data)
        return manifest, json.loads(self.client.blob(REPOSITORY, manifest["config"]["digest"], 1 << 20))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nothing"))
    with ExitStack() as stack:
        yield Site(stack.enter_context(pushable(PushRegistry(), None)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_artifact(tmp_path / "artifact")


def test_the_model_lies_where_the_server_is_told_to_look(site: Site, folder: Path, capsys: Capture) -> None:
    options = ("--tag=edge", "--model-name=eyes", '--device-options={"programming_seconds": 1}')
    assert site.run(folder, *options) == 0
    manifest, config = site.read("edge")
    (name,) = capsys.readouterr().out.split()
    assert site.read(name.partition("@")[2])[0] == manifest
    assert config["config"]["Entrypoint"] == ENTRYPOINT
    told = parse(config["config"]["Cmd"])
    settings = told.settings
    assert told.unknown == ()
    where = (settings.model_name, str(settings.model_base_path), settings.port)
    assert where == ("eyes", "/models/eyes", 50051)
    assert settings.device_engine == "emulator"
    assert json.loads(settings.device_options) == {"programming_seconds": 1}
    layer = site.client.blob(REPOSITORY, manifest["layers"][-1]["digest"], 1 << 20)
    with tarfile.open(fileobj=BytesIO(layer)) as tar:
        files = {member.name for member in tar if member.isfile()}
    assert files == {f"models/eyes/1/{path.name}" for path in folder.iterdir()}
    assert manifest["layers"][:-1] == json.loads(site.base.manifest)["layers"]
    assert manifest["annotations"][NETWORK] == "ResNet50"


def test_the_same_model_makes_the_same_image(site: Site, folder: Path, capsys: Capture) -> None:
    for tag in ("first", "second"):
        assert site.run(folder, f"--tag={tag}") == 0
    first, second = capsys.readouterr().out.split()
    assert first == second


@pytest.mark.parametrize(
    ("image", "options", "status", "words"),
    [
        (f"{REPOSITORY}:2", ["--tag=edge"], 4, "there is no image"),
        (f"{REPOSITORY}:index", ["--tag=edge"], 1, "none of an image"),
        (f"{REPOSITORY}:1", ["--tag=no tag"], 2, "an image is written"),
    ],
)
def test_refusals(
    image: str, options: list[str], status: int, words: str, site: Site, folder: Path, capsys: Capture
) -> None:
    site.registry.manifests[REPOSITORY, "index"] = (
        "application/vnd.oci.image.index.v1+json",
        b'{"manifests": []}',
    )
    assert site.run(folder, *options, image=image) == status
    assert words in capsys.readouterr().err


def test_a_folder_that_is_no_artifact_is_refused(site: Site, tmp_path: Path, capsys: Capture) -> None:
    assert site.run(tmp_path, "--tag=edge") == 1
    assert "conversion.json" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--model-name=../x", "--model-name=a/b", "--device-options=[1]"])
def test_names_and_options_that_lead_elsewhere_are_refused(option: str, site: Site, folder: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        site.run(folder, "--tag=edge", option)
    assert ended.value.code == 2
