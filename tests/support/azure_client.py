"""Azure ML's PredictionClient, unmodified, told what to do by a line of JSON. Run as a program.

Its module is imported from the installed azureml-accel-models. Only its package and azureml-core, of which it
needs the name of one class, are replaced by empty ones where they are not installed.

    python azure_client.py '{"address": "localhost", "port": 8500, "calls": [{"score_file": {...}}]}'
    python azure_client.py '{"scoring_uri": "http://10.0.0.1/", "name": "digits", "calls": [...]}'

The first makes a client of an address, the second one of a web service, by `client_from_service`. The answer
is a line of JSON with one result per call: an array, or the error's text.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import types
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np


def client_module() -> Any:
    """The module, from its own file."""
    # Its older stand-ins for the stubs say where they would be moved.
    warnings.simplefilter("ignore")
    for name in ("azureml", "azureml.core", "azureml.core.webservice", "azureml.core.webservice.aks"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["azureml.core.webservice.aks"].AksWebservice = type("AksWebservice", (), {})  # type: ignore[attr-defined]
    (folder,) = (
        Path(path) / "azureml" / "accel" for path in sys.path if (Path(path) / "azureml/accel").is_dir()
    )
    package = types.ModuleType("azureml.accel")
    package.__path__ = [str(folder)]
    sys.modules["azureml.accel"] = package
    return importlib.import_module("azureml.accel._client")


class WebService:
    """What `client_from_service` reads of Azure's web services.

    Parameters
    ----------
    scoring_uri, name:
        Of the service.
    key:
        Its first key; empty for a service without keys.
    """

    def __init__(self, scoring_uri: str, name: str, key: str = "") -> None:
        self.scoring_uri = scoring_uri
        self.name = name
        self.auth_enabled = bool(key)
        self._key = key

    def get_keys(self) -> tuple[str, str]:
        """Return both keys."""
        return self._key, "second"


def make_client(told: dict[str, Any]) -> Any:
    """Make the client that is asked for."""
    module = client_module()
    return (
        module.client_from_service(WebService(**told))
        if "scoring_uri" in told
        else module.PredictionClient(**told)
    )


def arrays(given: dict[str, Any]) -> dict[str, Any]:
    """Numbers as float32, text as bytes."""
    return {
        name: [text.encode() for text in value] if isinstance(value[0], str) else np.array(value, np.float32)
        for name, value in given.items()
    }


def main() -> None:
    """Make the calls of the command line."""
    told = json.loads(sys.argv[1])
    calls = told.pop("calls")
    client = make_client(told)
    results: list[Any] = []
    for call in calls:
        ((method, arguments),) = call.items()
        if "input_map" in arguments:
            arguments["input_map"] = arrays(arguments["input_map"])
        try:
            results.append(np.asarray(getattr(client, method)(**arguments)).tolist())
        except Exception as error:  # noqa: BLE001  the test looks at what came
            results.append(f"{type(error).__name__}: {error}")
    sys.stdout.write(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
