"""The official stubs of TensorFlow Serving, imported without TensorFlow itself.

`tensorflow_serving.apis` imports message modules from inside the tensorflow package, whose own import takes
seconds. A stand-in for that package, with nothing but its folder, lets them be found. It is taken away again,
so that a test which looks for TensorFlow in the process does not find it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from functools import cache
from typing import Any

_APIS = "tensorflow_serving.apis"
MODULES = {
    "predict": f"{_APIS}.predict_pb2",
    "metadata": f"{_APIS}.get_model_metadata_pb2",
    "status": f"{_APIS}.get_model_status_pb2",
    "model": f"{_APIS}.model_pb2",
    "prediction_service": f"{_APIS}.prediction_service_pb2_grpc",
    "model_service": f"{_APIS}.model_service_pb2_grpc",
    "classification": f"{_APIS}.classification_pb2",
    "regression": f"{_APIS}.regression_pb2",
    "inference": f"{_APIS}.inference_pb2",
    "management": f"{_APIS}.model_management_pb2",
    "input": f"{_APIS}.input_pb2",
    "example": "tensorflow.core.example.example_pb2",
    "feature": "tensorflow.core.example.feature_pb2",
    "tensor": "tensorflow.core.framework.tensor_pb2",
    "meta_graph": "tensorflow.core.protobuf.meta_graph_pb2",
    "saved_model": "tensorflow.core.protobuf.saved_model_pb2",
}


@cache
def stubs() -> Any:
    """Import the official modules once; they are attributes of the answer."""
    spec = importlib.util.find_spec("tensorflow")
    assert spec is not None, "tensorflow is not installed"
    found = types.SimpleNamespace()
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "tensorflow"}
    if not kept:
        stand_in = types.ModuleType("tensorflow")
        stand_in.__path__ = list(spec.submodule_search_locations or ())
        sys.modules["tensorflow"] = stand_in
    with warnings.catch_warnings():
        # Their generated code may be of an older protobuf than the one that runs.
        warnings.simplefilter("ignore")
        for name, module in MODULES.items():
            setattr(found, name, importlib.import_module(module))
    if not kept:
        for name in [name for name in sys.modules if name.split(".")[0].startswith("tensorflow")]:
            del sys.modules[name]
    return found
