"""Azure ML's PredictionClient, unmodified, told what to do by a line of JSON. Run as a program.

Its module is imported from the installed azureml-accel-models. Only its package and azureml-core, of which it
needs the name of one class, are replaced by empty ones where they are not installed.

    python azure_client.py '{"address": "localhost", "port": 8500, "calls": [{"score_file": {...}}]}'

With `scoring_uri`, `name` and perhaps `key` in place of the address, the client is made by
`client_from_service` of an object that has these. There may be several such arguments. The answer to each is
a line of JSON with one result per call: an array, or the error's text.
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
    """The client's module, from its own file."""
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


def client(told: dict[str, Any]) -> Any:
    """A client of an address, or of a service."""
    module = client_module()
    if "scoring_uri" not in told:
        return module.PredictionClient(**told)
    key = told.pop("key", "")
    service = types.SimpleNamespace(**told, auth_enabled=bool(key), get_keys=lambda: [key, "second"])
    return module.client_from_service(service)


def arrays(given: dict[str, Any]) -> dict[str, Any]:
    """Numbers as float32, text as bytes."""
    return {
        name: [text.encode() for text in value] if isinstance(value[0], str) else np.array(value, np.float32)
        for name, value in given.items()
    }


def answers(told: dict[str, Any]) -> list[Any]:
    """Make the calls of one line."""
    calls = told.pop("calls")
    made = client(told)
    results: list[Any] = []
    for call in calls:
        ((method, arguments),) = call.items()
        if "input_map" in arguments:
            arguments["input_map"] = arrays(arguments["input_map"])
        try:
            results.append(np.asarray(getattr(made, method)(**arguments)).tolist())
        except Exception as error:  # noqa: BLE001  the test looks at what came
            results.append(f"{type(error).__name__}: {error}")
    return results


def main() -> None:
    for line in sys.argv[1:]:
        sys.stdout.write(json.dumps(answers(json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
