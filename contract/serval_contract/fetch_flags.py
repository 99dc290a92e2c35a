"""Flags of the fetcher that the operator sets. The fetcher's ``--help`` explains each of them."""

from __future__ import annotations

from typing import Final

from serval_contract.flags import Flag, Switch

PROGRAM: Final = "serval_serving.fetch"
"""Python module to run with ``python3 -m``."""

URI: Final[Flag[str]] = Flag("uri")
NAME: Final[Flag[str]] = Flag("name")
DEST: Final[Flag[str]] = Flag("dest")
MAX_BYTES: Final[Flag[int]] = Flag("max-bytes")
MAX_ENTRIES: Final[Flag[int]] = Flag("max-entries")
VERSION: Final[Flag[int]] = Flag("version")
SHA256: Final[Flag[str]] = Flag("sha256")
FRAMEWORK: Final[Flag[str]] = Flag("framework")
SAVED_MODEL_TAGS: Final[Flag[str]] = Flag("saved-model-tags")
CA_FILE: Final[Flag[str]] = Flag("ca-file")
CREDENTIALS_DIR: Final[Flag[str]] = Flag("credentials-dir")
IDENTITY: Final = Switch("identity")
PVC_MOUNT: Final[Flag[str]] = Flag("pvc-mount")
IMAGE_MOUNT: Final[Flag[str]] = Flag("image-mount")
BATCH_SIZE: Final[Flag[int]] = Flag("batch-size")
BATCH_TIMEOUT_MICROS: Final[Flag[int]] = Flag("batch-timeout-micros")
BATCH_ENQUEUED: Final[Flag[int]] = Flag("batch-enqueued")
PIN_FILE: Final[Flag[str]] = Flag("pin-file")
CACHE: Final[Flag[str]] = Flag("cache")
