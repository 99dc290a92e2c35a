from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from serval_serving.fetch.environment import Environment
from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.fetcher import Fetcher
from serval_serving.fetch.model.version_pin import read_pin
from serval_serving.fetch.settings import FetchSettings
from unit.serving.fetch.builders import below, model_files, write

Settings = Callable[..., FetchSettings]


def pin(folder: Path, version: int, digest: str) -> Path:
    path = folder / "pin.json"
    path.write_text(json.dumps({"version": version, "digest": digest}))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "source", below("m/1", model_files(b"one")) | below("m/2", model_files(b"two")))


@pytest.fixture
def digest(source: Path, settings: Settings, environment: Environment) -> str:
    """The digest of version 1."""
    made = settings("pvc://c/m", version=1, dest=source.parent / "first")
    return Fetcher(made, environment).run().digest


def fails(settings: FetchSettings, environment: Environment) -> FetchError:
    with pytest.raises(FetchError) as caught:
        Fetcher(settings, environment).run()
    assert not list(settings.dest.iterdir()), "a failure leaves nothing behind"
    return caught.value


def test_replicas_to_come_take_the_pinned_version(
    settings: Settings, environment: Environment, tmp_path: Path, digest: str
) -> None:
    made = settings("pvc://c/m", pin_file=pin(tmp_path, 1, digest))
    bound = Fetcher(made, environment).run()
    assert (bound.version, bound.pinned) == (1, True)
    without = settings("pvc://c/m", pin_file=tmp_path / "not-yet")
    first = Fetcher(without, environment).run()
    assert (first.version, first.pinned) == (2, False)


def test_version_that_changed_is_named(
    source: Path, settings: Settings, environment: Environment, tmp_path: Path, digest: str
) -> None:
    write(source, below("m/1", model_files(b"changed")))
    error = fails(settings("pvc://c/m", pin_file=pin(tmp_path, 1, digest)), environment)
    assert (error.reason, error.permanent) == ("ModelVersionSkew", True)
    assert digest in error.message
    assert "version 1 has the digest sha256:" in error.message


def test_version_that_is_gone_is_named(
    settings: Settings, environment: Environment, tmp_path: Path, digest: str
) -> None:
    error = fails(settings("pvc://c/m", pin_file=pin(tmp_path, 7, digest)), environment)
    assert (error.reason, error.permanent) == ("ModelVersionSkew", True)
    assert "serve version 7, which is gone" in error.message
    assert "versions found: 2, 1" in error.message


def test_version_of_the_spec_comes_first(
    settings: Settings, environment: Environment, tmp_path: Path, digest: str
) -> None:
    made = settings("pvc://c/m", version=2, pin_file=pin(tmp_path, 1, digest))
    assert Fetcher(made, environment).run().version == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": true, "digest": "sha256:' + "0" * 64 + '"}',
        '{"version": -1, "digest": "sha256:' + "0" * 64 + '"}',
        '{"version": 1, "digest": "0"}',
        '{"version": 1, "digest": 0}',
    ],
)
def test_strange_pin_stops_the_fetch(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pin.json"
    path.write_text(text)
    with pytest.raises(FetchError) as caught:
        read_pin(path)
    assert (caught.value.reason, caught.value.permanent) == ("ModelSourceUnavailable", False)
