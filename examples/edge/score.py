"""Score photos with the server of an edge machine, by Azure ML's client.

    pip install azureml-accel-models
    python examples/edge/score.py --address=192.0.2.7 photos/*.png

The server answers UNAVAILABLE while its device is programmed; such a request is sent again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PAUSE_S = 2.0
TRIES = 30


def scores(client: Any, photo: Path, output: str, pause: Callable[[float], None] = time.sleep) -> np.ndarray:
    """Return what the model says of one photo.

    Parameters
    ----------
    client:
        Azure's ``PredictionClient``.
    output:
        Name of the output tensor.
    pause:
        Waits for some seconds.
    """
    for left in reversed(range(TRIES)):
        try:
            return np.asarray(client.score_file(path=str(photo), outputs=output))
        except Exception as error:
            # The client raises gRPC's error or one of its own, with the status in its text.
            if "UNAVAILABLE" not in str(error) or not left:
                raise
            pause(PAUSE_S)
    raise AssertionError


def main() -> None:
    """Print the best class of each photo, or its class where the model says only that."""
    from azureml.accel import PredictionClient  # noqa: PLC0415  optional, and slow to import

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--address", required=True, help="of the edge machine")
    parser.add_argument("--port", type=int, default=50051)
    parser.add_argument("--output", default="output_alias", help="(default: %(default)s)")
    options = parser.parse_args()
    client = PredictionClient(address=options.address, port=options.port)
    for photo in options.photos:
        said = scores(client, photo, options.output)
        print(photo.name, said.argmax() if said.size > 1 else said.item())


if __name__ == "__main__":
    main()
