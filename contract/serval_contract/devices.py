"""Devices that hold one model: flags and environment of the server, and the first words of its refusals."""

from __future__ import annotations

from typing import Final

from serval_contract.flags import Flag

DEVICE_ENGINE: Final[Flag[str]] = Flag("device_engine")
"""One of `ENGINES`."""
DEVICE_OPTIONS: Final[Flag[str]] = Flag("device_options")
"""Options of the engine as a JSON object."""
DEVICE_LOCK_DIR: Final[Flag[str]] = Flag("device_lock_dir")
DEVICE_RESOURCE: Final[Flag[str]] = Flag("device_resource")
"""Name of the extended resource that the pod holds."""
DEVICE_ALLOW_EMULATION: Final[Flag[bool]] = Flag("device_allow_emulation")

EMULATOR: Final = "emulator"
VART: Final = "vart"
ONNXRUNTIME_EP: Final = "onnxruntime-ep"
ENGINES: Final = (EMULATOR, VART, ONNXRUNTIME_EP)
"""What programs and runs a device. Only `EMULATOR` works without hardware."""

LOCK_DIR_VARIABLE: Final = "SERVAL_DEVICE_LOCK_DIR"
"""Environment variable that a device plugin sets: folder of locks that its Allocate mounts."""
UNITS_VARIABLE: Final = "SERVAL_DEVICE_UNITS"
"""Environment variable that a device plugin sets: ids of the allocated units, separated by commas."""
EMULATED_DOMAIN: Final = "emulated.serval.dev/"
"""Prefix of extended resources that stand for no card. The emulator may always hold these."""

ARTIFACT_EMPTY: Final = "ArtifactEmpty"
"""The folder of the version is empty, such as an image that was mounted and holds no file."""
ARTIFACT_INVALID: Final = "ArtifactInvalid"
"""The folder holds no artifact that this version can read."""
ARTIFACT_CORRUPTED: Final = "ArtifactCorrupted"
"""A file of the artifact has not the digest that `conversion.json` records."""
DEVICE_HELD: Final = "DeviceHeld"
"""Another process holds the device."""
DEVICE_UNUSABLE: Final = "DeviceUnusable"
"""The engine cannot open or program the device."""
EMULATION_REFUSED: Final = "EmulationRefused"
"""The emulator would hold a resource of a real card."""
DEVICE_REASONS: Final = (
    ARTIFACT_EMPTY,
    ARTIFACT_INVALID,
    ARTIFACT_CORRUPTED,
    DEVICE_HELD,
    DEVICE_UNUSABLE,
    EMULATION_REFUSED,
)
"""Words that begin the text of a refusal, as in ``DeviceHeld: unit fpga-0 is held by pod-a``."""
