"""Which engine a server's flags ask for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from serval_contract.devices import (
    EMULATOR,
    ENGINES,
    LOCK_DIR_VARIABLE,
    ONNXRUNTIME_EP,
    UNITS_VARIABLE,
    VART,
)
from serval_serving.devices.base import Device, DeviceSettings
from serval_serving.devices.emulator import Emulator
from serval_serving.devices.execution_provider import ExecutionProviderDevice
from serval_serving.devices.vart import VartDevice

_MAKERS: Final[Mapping[str, Callable[[DeviceSettings], Device]]] = MappingProxyType(
    {EMULATOR: Emulator, VART: VartDevice, ONNXRUNTIME_EP: ExecutionProviderDevice}
)


def engine_name(text: str) -> str:
    """Check the name of an engine; empty stands for none.

    Raises
    ------
    ValueError
        There is no such engine.
    """
    if text and text not in ENGINES:
        raise ValueError(text)
    return text


def engine_options(text: str) -> str:
    """Check options of an engine: a JSON object; empty stands for none.

    Raises
    ------
    ValueError
        It is none.
    """
    if not isinstance(json.loads(text or "{}"), dict):
        raise ValueError(text)  # noqa: TRY004  as parsers of flags do
    return text


def environment_lock_dir() -> Path | None:
    """Return the folder of locks that the device plugin named; None for none."""
    value = os.environ.get(LOCK_DIR_VARIABLE, "")
    return Path(value) if value else None


def environment_units() -> tuple[str, ...]:
    """Return the units that the device plugin named."""
    return tuple(unit for unit in os.environ.get(UNITS_VARIABLE, "").split(",") if unit)


def make_device(engine: str, settings: DeviceSettings) -> Device:
    """Make a device, not opened.

    Raises
    ------
    ModelLoadError
        An option is wrong.
    """
    return _MAKERS[engine](settings)
