from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tools.descriptors

from serval_serving.wire import descriptors, messages, rpc
from serval_serving.wire.dtypes import DataType
from serval_serving.wire.services import METHODS
from unit.serving.wire.official import stubs

OFFICIAL = {
    "TensorProto": ("tensor", "TensorProto"),
    "TensorInfo": ("meta_graph", "TensorInfo"),
    "SignatureDef": ("meta_graph", "SignatureDef"),
    "ModelSpec": ("model", "ModelSpec"),
    "PredictRequest": ("predict", "PredictRequest"),
    "PredictResponse": ("predict", "PredictResponse"),
    "Feature": ("feature", "Feature"),
    "Example": ("example", "Example"),
    "Input": ("input", "Input"),
    "Class": ("classification", "Class"),
    "Classifications": ("classification", "Classifications"),
    "ClassificationResult": ("classification", "ClassificationResult"),
    "ClassificationRequest": ("classification", "ClassificationRequest"),
    "ClassificationResponse": ("classification", "ClassificationResponse"),
    "Regression": ("regression", "Regression"),
    "RegressionResult": ("regression", "RegressionResult"),
    "RegressionRequest": ("regression", "RegressionRequest"),
    "RegressionResponse": ("regression", "RegressionResponse"),
    "InferenceTask": ("inference", "InferenceTask"),
    "InferenceResult": ("inference", "InferenceResult"),
    "MultiInferenceRequest": ("inference", "MultiInferenceRequest"),
    "MultiInferenceResponse": ("inference", "MultiInferenceResponse"),
    "SignatureDefMap": ("metadata", "SignatureDefMap"),
    "GetModelMetadataRequest": ("metadata", "GetModelMetadataRequest"),
    "GetModelMetadataResponse": ("metadata", "GetModelMetadataResponse"),
    "ModelVersionStatus": ("status", "ModelVersionStatus"),
    "GetModelStatusRequest": ("status", "GetModelStatusRequest"),
    "GetModelStatusResponse": ("status", "GetModelStatusResponse"),
}


def fields(descriptor: Any) -> dict[str, tuple[Any, ...]]:
    return {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            field.message_type.full_name if field.message_type else None,
            field.enum_type.full_name if field.enum_type else None,
            field.containing_oneof.name if field.containing_oneof else None,
        )
        for field in descriptor.fields
    }


@pytest.mark.parametrize("name", OFFICIAL)
def test_fields_are_the_official_ones(name: str) -> None:
    module, attribute = OFFICIAL[name]
    official = getattr(getattr(stubs(), module), attribute).DESCRIPTOR
    ours = getattr(messages, name).DESCRIPTOR
    assert ours.full_name == official.full_name
    assert fields(ours) == fields(official)


def test_both_live_in_one_process_and_read_each_other() -> None:
    request = messages.PredictRequest()
    request.model_spec.name = "m"
    request.model_spec.version.value = 0
    request.inputs["x"].float_val.extend([1.0, 2.0])
    official = stubs().predict.PredictRequest.FromString(request.SerializeToString())
    assert official.model_spec.HasField("version")
    assert list(official.inputs["x"].float_val) == [1.0, 2.0]
    assert messages.PredictRequest.FromString(official.SerializeToString()) == request


def test_fields_of_a_later_release_are_kept() -> None:
    later = messages.PredictRequest().SerializeToString() + b"\xc2\x3e\x03abc"
    assert messages.PredictRequest.FromString(later).SerializeToString() == later


def test_types_are_the_official_ones() -> None:
    official = messages.POOL.FindEnumTypeByName("tensorflow.DataType").values_by_name
    assert {name: official[name].number for name in DataType.__members__} == {
        member.name: member.value for member in DataType
    }


def test_signatures_are_packed_under_the_official_type_url() -> None:
    response = messages.GetModelMetadataResponse()
    signatures = messages.SignatureDefMap()
    signatures.signature_def["serving_default"].method_name = "tensorflow/serving/predict"
    response.metadata["signature_def"].Pack(signatures)
    official = stubs().metadata.GetModelMetadataResponse.FromString(response.SerializeToString())
    unpacked = stubs().metadata.SignatureDefMap()
    assert official.metadata["signature_def"].Unpack(unpacked)
    assert unpacked.signature_def["serving_default"].method_name == "tensorflow/serving/predict"


def test_the_default_pool_is_left_alone() -> None:
    code = (
        "from google.protobuf import descriptor_pool as p; from serval_serving.wire import rpc\n"
        "try: p.Default().FindMessageTypeByName('tensorflow.serving.ModelSpec')\n"
        "except KeyError: print('absent')\n"
        "import sys; print('tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["absent", "False"]


def test_the_stub_file_declares_what_the_classes_have() -> None:
    """Fields of every kind, as `tools.message_stubs` writes them: types are checked by mypy."""
    tree = ast.parse(tools.descriptors.STUBS.read_text())
    found = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    classes = {node.name: ast.unparse(node).splitlines() for node in found}
    declared = {name for name in vars(messages) if name[0].isupper() and name != "POOL"}
    assert declared <= classes.keys()
    spec = {"    name: str", "    version_label: str", "    def version(self) -> wrappers_pb2.Int64Value:"}
    assert spec <= set(classes["ModelSpec"])
    assert "name: str=..., version: wrappers_pb2.Int64Value=..." in "".join(classes["ModelSpec"])
    assert "    def inputs(self) -> MutableMapping[str, TensorProto]:" in classes["PredictRequest"]
    assert "    def output_filter(self) -> _Repeated[str]:" in classes["PredictRequest"]
    assert "    def dim(self) -> _Messages[TensorShapeProto.Dim]:" in classes["TensorShapeProto"]
    assert {"    AVAILABLE: int", "    state: int"} <= set(classes["ModelVersionStatus"])
    assert "    tensor_content: bytes" in classes["TensorProto"]
    assert "    def float_val(self) -> _Repeated[float]:" in classes["TensorProto"]


@pytest.mark.parametrize("path", [tools.descriptors.FILE, tools.descriptors.STUBS], ids=["binpb", "pyi"])
def test_generated_files_are_those_of_the_installed_package(path: Path) -> None:
    assert path.read_bytes() == tools.descriptors.rendered()[path]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_rpcs_are_the_official_ones(method: rpc.Method) -> None:
    official = messages.POOL.FindServiceByName(method.service).methods_by_name[method.name]
    assert official.input_type is method.request.DESCRIPTOR
    assert official.output_type is method.response.DESCRIPTOR


def test_unknown_messages_are_an_error() -> None:
    with pytest.raises(KeyError):
        descriptors.message_class(messages.POOL, "tensorflow.serving.Nothing")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (rpc.PREDICT, "/tensorflow.serving.PredictionService/Predict"),
        (rpc.CLASSIFY, "/tensorflow.serving.PredictionService/Classify"),
        (rpc.REGRESS, "/tensorflow.serving.PredictionService/Regress"),
        (rpc.MULTI_INFERENCE, "/tensorflow.serving.PredictionService/MultiInference"),
        (rpc.GET_MODEL_METADATA, "/tensorflow.serving.PredictionService/GetModelMetadata"),
        (rpc.GET_MODEL_STATUS, "/tensorflow.serving.ModelService/GetModelStatus"),
    ],
)
def test_paths(method: rpc.Method, path: str) -> None:
    assert method.path == path
