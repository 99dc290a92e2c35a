"""Runs the fetcher in the test's own process, with the files of a Secret as the container has them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from serval_contract.models import TENSORFLOW
from serval_contract.report import FetchReport
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.fetcher import Fetcher
from serval_serving.fetch.model.frameworks import FRAMEWORKS
from serval_serving.fetch.safety.address_policy import REFUSED, AddressPolicy, system_resolve
from serval_serving.fetch.settings import FetchSettings
from unit.serving.fetch.builders import MEGABYTE, write

OPEN = AddressPolicy(entry for entry in REFUSED if entry[0] != "127.0.0.0/8")
"""The real rules, but the tests' servers are on loopback."""


class Fetch:
    """Fetches models into the folder ``models`` below `folder`; counts the pauses instead of making them.

    Parameters
    ----------
    folder:
        An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.slept: list[float] = []

    def __call__(self, uri: str, secret: dict[str, str] | None, **changes: Any) -> FetchReport:
        """Fetch, with a Secret of these contents; `changes` are settings, ``policy`` and ``resolve``."""
        values: dict[str, Any] = {
            "uri": uri,
            "name": "digits",
            "dest": self.folder / "models",
            "framework": FRAMEWORKS[TENSORFLOW],
            "max_bytes": 64 * MEGABYTE,
            "max_entries": 100,
            "version": None,
            "sha256": None,
            "ca_file": None,
            "credentials_dir": None,
            "identity": False,
            "pvc_mount": self.folder / "source",
            "image_mount": None,
            "pin_file": None,
            "cache": None,
            "max_seconds": 60.0,
        }
        if secret is not None:
            values["credentials_dir"] = self.folder / uuid4().hex
            write(values["credentials_dir"], {key: f"{value}\n".encode() for key, value in secret.items()})
        values["dest"].mkdir(exist_ok=True, parents=True)
        environment = Environment(
            clock=time.monotonic,
            sleep=self.slept.append,
            resolve=changes.pop("resolve", system_resolve),
            policy=changes.pop("policy", OPEN),
        )
        return Fetcher(FetchSettings(**values | changes), environment).run()

    def fails(self, uri: str, secret: dict[str, str] | None, **changes: Any) -> FetchError:
        """Return what a fetch fails with, having seen that it left nothing behind."""
        with pytest.raises(FetchError) as caught:
            self(uri, secret, **changes)
        assert not list((self.folder / "models").iterdir()), "a failure leaves nothing behind"
        return caught.value

    def files(self) -> dict[str, bytes]:
        """Return the files of versions, by path below the model's folder; their digests stand beside them."""
        model = self.folder / "models" / "digits"
        return {p.relative_to(model).as_posix(): p.read_bytes() for p in model.glob("*/**/*") if p.is_file()}
