from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from serval_contract.models import TENSORFLOW
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.model.frameworks import FRAMEWORKS
from serval_serving.fetch.safety.address_policy import REFUSED, AddressPolicy
from serval_serving.fetch.settings import FetchSettings
from unit.serving.fetch.builders import MEGABYTE
from unit.serving.fetch.clocks import Clock
from unit.serving.fetch.tls import Pki, Site, make_pki, serving


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def site(pki: Pki) -> Iterator[Site]:
    with serving(Site(), pki) as site:
        yield site


@pytest.fixture
def clock() -> Clock:
    return Clock()


@dataclass
class Network:
    """Name resolution of a test, and what was asked of it."""

    hosts: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def resolve(self, host: str, port: int) -> list[str]:
        del port
        self.asked.append(host)
        answers = self.hosts.get(host, [["127.0.0.1"]])
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def environment(clock: Clock, network: Network) -> Environment:
    """The real rules, but loopback is allowed: the test's server is there."""
    policy = AddressPolicy(entry for entry in REFUSED if entry[0] != "127.0.0.0/8")
    return Environment(clock=clock, sleep=clock.sleep, resolve=network.resolve, policy=policy)


@pytest.fixture
def settings(tmp_path: Path, pki: Pki) -> Callable[..., FetchSettings]:
    def make(uri: str, **changes: Any) -> FetchSettings:
        values: dict[str, Any] = {
            "uri": uri,
            "name": "digits",
            "dest": tmp_path / "models",
            "framework": FRAMEWORKS[TENSORFLOW],
            "max_bytes": 4 * MEGABYTE,
            "max_entries": 100,
            "version": None,
            "sha256": None,
            "ca_file": pki.ca,
            "credentials_dir": None,
            "identity": False,
            "pvc_mount": tmp_path / "source",
            "image_mount": None,
            "pin_file": None,
            "cache": None,
            "max_seconds": 60.0,
        }
        settings = FetchSettings(**(values | changes))
        settings.dest.mkdir(exist_ok=True)
        return settings

    return make


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="serval.fetch")
