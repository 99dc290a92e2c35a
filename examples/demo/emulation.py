"""What the lab lends to the third act: a registry to push to, an emulated device, a volume with photos."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from examples.demo import manifests
from examples.demo.manifests import PROFILE, PULL_SECRET, PUSH_SECRET, Manifest
from examples.demo.model import HeldOutImage

from serval_lab import Lab
from serval_lab.spec import EMULATED_FPGA_RESOURCE as RESOURCE

DEVICE_NODE = "fpga-0"
PHOTO_NODE = "cpu-0"
PHOTOS = "serval-demo-photos"
"""Folder below the node's /var/log, which the lab keeps on this machine."""
PROGRAMMING_S = 3


class Emulation:
    """A lab whose devices are emulated.

    Parameters
    ----------
    lab:
        It runs.
    converter, server:
        References of the images that convert, and that serve.
    """

    def __init__(self, lab: Lab, converter: str, server: str) -> None:
        self._lab = lab
        self._converter = converter
        self._server = server
        # Without TLS, so that nodes mount what is pushed: they do not know the other one's authority.
        self._registry = lab.push_registry(tls=False)

    def chart_values(self) -> dict[str, Any]:
        """Return the chart's values for conversion, artifacts and the emulated device."""
        repository, _, tag = self._converter.rpartition(":")
        profile = {
            "description": "An FPGA that does not exist",
            "resourceName": RESOURCE,
            "engine": "emulator",
            "engineOptions": {"programming_seconds": PROGRAMMING_S},
        }
        artifacts = {
            "repositoryPrefix": self._registry.host,
            "pushSecret": PUSH_SECRET,
            "pullSecret": PULL_SECRET,
            "plainHttp": True,
        }
        return {
            "converterImage": {"registry": repository.rpartition("/")[0], "tag": tag},
            "conversion": {"resources": {"requests": {"cpu": "200m"}}, "artifacts": artifacts},
            "profiles": {PROFILE: profile},
            "runtimes": {"serval": {"images": {PROFILE: {"Accelerated": self._server}}}},
        }

    @contextmanager
    def one_device(self) -> Iterator[None]:
        """Leave one emulated device as long as the block runs, so that a second model has to wait."""
        device = self._lab.device(DEVICE_NODE, RESOURCE)
        before = device.state.units
        device.set_units(1)
        try:
            yield
        finally:
            device.set_units(before)

    def manifests(self, photos: Sequence[HeldOutImage]) -> list[Manifest]:
        """Lay out photos for the calibration, and return the volume with them and the registry's Secrets.

        Parameters
        ----------
        photos:
            Like those that will be scored, and not among them.
        """
        folder = self._lab.node(PHOTO_NODE).folder / "log" / PHOTOS
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o755)
        for photo in photos:
            (folder / photo.name).write_bytes(photo.data)
            (folder / photo.name).chmod(0o644)
        account = self._registry.account(manifests.NAMESPACE)
        secrets = [account.secret(name, manifests.NAMESPACE) for name in (PUSH_SECRET, PULL_SECRET)]
        return [*secrets, *manifests.photo_volume(f"/var/log/{PHOTOS}", PHOTO_NODE)]


def merged(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with others merged in, deep; the others win."""
    whole = dict(values)
    for name, value in more.items():
        old = whole.get(name)
        whole[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return whole
