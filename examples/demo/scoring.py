"""Asking a served model for its opinion on the held-out images, by gRPC and by HTTP."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from examples.demo.model import HeldOutImage
from PIL import Image

from serval_serving.client import GrpcClient, HttpClient

BATCH = 32
CALL_LIMIT_S = 30.0
INPUT = "images"
OUTPUT = "classes"
SHADES = " .:-=+*#%@"
SIDE = 8


@dataclass(frozen=True, slots=True)
class Answers:
    """What a protocol answered.

    Attributes
    ----------
    protocol:
        Its name, for people.
    digits:
        The digit for each image.
    requests:
        How many were sent.
    seconds:
        How long they took, one after the other.
    """

    protocol: str
    digits: tuple[int, ...]
    requests: int
    seconds: float

    def accuracy(self, images: Sequence[HeldOutImage]) -> float:
        """Return the part of the images whose digit is their label."""
        right = sum(digit == image.label for digit, image in zip(self.digits, images, strict=True))
        return right / len(images)


def by_grpc(
    address: str, model: str, images: Sequence[HeldOutImage], clock: Callable[[], float] = time.monotonic
) -> Answers:
    """Score images by Predict, several in one request.

    Parameters
    ----------
    address:
        ``host:port`` of the gRPC port.
    model:
        Name of the served model.

    Raises
    ------
    serval_serving.client.ServingError
        What the server, or the way to it, says.
    """
    digits: list[int] = []
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    with GrpcClient(address, timeout=CALL_LIMIT_S) as client:
        started = clock()
        for batch in batches:
            inputs = {INPUT: [image.data for image in batch]}
            answer = client.predict(inputs, model, outputs=[OUTPUT])
            digits.extend(int(digit) for digit in answer[OUTPUT])
        seconds = clock() - started
    return Answers("gRPC Predict", tuple(digits), len(batches), seconds)


def by_http(
    base_url: str, images: Sequence[HeldOutImage], clock: Callable[[], float] = time.monotonic
) -> Answers:
    """Score images by posting each file's bytes to the scoring address.

    Parameters
    ----------
    base_url:
        ``http://host:port``, without ``/score``.

    Raises
    ------
    serval_serving.client.ServingError
        What the server, or the way to it, says.
    """
    with HttpClient(base_url, timeout=CALL_LIMIT_S) as client:
        started = clock()
        # Each answer is one row of probabilities, for the one image of the request.
        digits = tuple(int(np.argmax(client.score(image.data))) for image in images)
        seconds = clock() - started
    return Answers("HTTP POST /score", digits, len(images), seconds)


def sketch(image: HeldOutImage) -> list[str]:
    """Draw an image with characters, two for each of its 8 x 8 pixels."""
    with Image.open(io.BytesIO(image.data)) as picture:
        small = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))
    levels = small.astype(int) * (len(SHADES) - 1) // 255
    return ["".join(SHADES[level] * 2 for level in row) for row in levels]
