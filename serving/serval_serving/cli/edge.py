"""``serval images edge``: a server's image with a converted model on top, for machines without Kubernetes."""

from __future__ import annotations

import argparse
import json
import re
from typing import Final

from serval_contract.devices import DEVICE_ENGINE, DEVICE_OPTIONS
from serval_contract.paths import MODELS_DIR
from serval_contract.server_flags import MODEL_BASE_PATH, MODEL_NAME, PORT
from serval_serving.artifacts.artifact import read_artifact
from serval_serving.artifacts.errors import ArtifactFailure
from serval_serving.artifacts.folder import Limits
from serval_serving.artifacts.image import Image, append_layers, parse_manifest
from serval_serving.artifacts.layer import make_layer
from serval_serving.artifacts.push import Pusher
from serval_serving.cli.errors import NOT_FOUND, OK, CliError
from serval_serving.cli.stored import Images, parse_image, refused

VERSION: Final = 1
MADE_BY: Final = "serval images edge"
MAX_CONFIG_BYTES: Final = 4 << 20
"""Of the configuration of the server's image."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def model_name(text: str) -> str:
    """Check the name of a model, which is a folder of the image as well.

    Raises
    ------
    ValueError
        It is none.
    """
    if not _NAME.fullmatch(text):
        raise ValueError(text)
    return text


def engine_options(text: str) -> str:
    """Check that options of an engine are a JSON object; the server checks what they say.

    Raises
    ------
    ValueError
        They are none.
    """
    if not isinstance(json.loads(text), dict):
        raise ValueError(text)  # noqa: TRY004  as argparse expects
    return text


def edge(options: argparse.Namespace) -> int:
    """Push a server's image with a converted model on top, and print its name by digest."""
    reference = parse_image(options.image)
    parse_image(f"{reference.registry}/{reference.repository}:{options.tag}")
    try:
        images = Images.at(reference.registry, options)
        base = images.client.manifest(reference.repository, reference.reference)
        if base is None:
            raise CliError(f"there is no image {reference.name}", NOT_FOUND)
        config = images.client.blob(
            reference.repository, parse_manifest(base).config.digest, MAX_CONFIG_BYTES
        )
        image = edge_image(base, config, options)
        pushed = Pusher(images.client, reference.repository).push(image, options.tag)
    except ArtifactFailure as error:
        raise refused(error) from error
    print(f"{reference.registry}/{reference.repository}@{pushed.digest}")
    return OK


def edge_image(base: bytes, config: bytes, options: argparse.Namespace) -> Image:
    """Return the image: the files of the model in the folder of its version, and the server's arguments.

    Parameters
    ----------
    base, config:
        Manifest and configuration of the server's image.
    options:
        `folder`, `model_name`, `device_engine`, `device_options` and `port`.

    Raises
    ------
    ArtifactFailure
        The folder is no artifact, or the base is no image of one platform.
    """
    artifact = read_artifact(options.folder, Limits())
    path = f"{MODELS_DIR}/{options.model_name}"
    layer = make_layer(artifact.files, below=f"{path}/{VERSION}".lstrip("/"), made_by=MADE_BY)
    arguments = [
        MODEL_NAME(options.model_name),
        MODEL_BASE_PATH(path),
        PORT(options.port),
        DEVICE_ENGINE(options.device_engine),
        DEVICE_OPTIONS(options.device_options),
    ]
    notes = parse_manifest(artifact.image.manifest).annotations
    return append_layers(base, config, [layer], arguments=arguments, annotations=notes)
