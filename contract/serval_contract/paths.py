"""Folders and files in the containers of a model's pod."""

from __future__ import annotations

from typing import Final

MODELS_DIR: Final = "/models"
"""The volume that the fetcher writes and the model server reads."""
MONITORING_FILE: Final = "monitoring.config"
BATCHING_FILE: Final = "batching.config"
RESERVED_NAMES: Final = (MONITORING_FILE, BATCHING_FILE)
"""Files that the fetcher writes into `MODELS_DIR` beside the model; no model may have these names."""
SOURCE_DIR: Final = "/serval/source"
"""Where a PersistentVolumeClaim with the model is mounted."""
IMAGE_DIR: Final = "/serval/image"
"""Where an image with the model is mounted, in the fetcher and in the server alike."""
CA_DIR: Final = "/serval/ca"
CREDENTIALS_DIR: Final = "/serval/credentials"
PIN_DIR: Final = "/serval/pin"
