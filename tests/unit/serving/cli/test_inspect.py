from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from serval_serving.cli import main
from serval_serving.cli.inspect import examples
from serval_serving.models.savedmodel import Signature, TensorInfo
from unit.serving.engines import onnx_models
from unit.serving.fetch.builders import below, model_files, saved_model, write


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, below("digits/9", model_files()) | below("digits/10", model_files()))
    assert main(["inspect", str(tmp_path / "digits"), "--host", "gpu-0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"SavedModel {tmp_path}/digits/10, tags: serve"
    assert lines[2] == "signature serving_default (tensorflow/serving/predict)"
    assert [line.split() for line in lines[3:7]] == [
        ["NAME", "TYPE", "SHAPE", "TENSOR"],
        ["input", "images", "DT_STRING", "[-1]", "serving_default_images:0"],
        ["output", "classes", "DT_INT64", "[-1]", "StatefulPartitionedCall:0"],
        ["output", "probabilities", "DT_FLOAT", "[-1,", "10]", "StatefulPartitionedCall:1"],
    ]
    assert lines[8] == "curl --data-binary @image.jpg http://gpu-0:8501/score"
    assert lines[9] == (
        """curl -d '{"instances": [{"b64": "'$(base64 -w0 image.jpg)'"}]}'"""
        " http://gpu-0:8501/v1/models/digits:predict"
    )
    assert lines[11].startswith("grpcurl -plaintext -protoset serving.protoset -d '{")
    assert lines[11].endswith("' gpu-0:8500 tensorflow.serving.PredictionService/Predict")


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, model_files())
    assert main(["inspect", str(tmp_path / "saved_model.pb"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == str(tmp_path)
    assert found["signatures"]["serving_default"]["inputs"] == {
        "images": {"dtype": "DT_STRING", "shape": [-1], "tensor": "serving_default_images:0"}
    }


def test_onnx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx_models.write(tmp_path / "digits", 9, onnx_models.half_plus_two(), "old.onnx")
    folder = onnx_models.write(tmp_path / "digits", 10, onnx_models.half_plus_two(), "net.onnx")
    for path in (tmp_path / "digits", folder, folder / "net.onnx"):
        assert main(["inspect", str(path)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"ONNX model {folder}/net.onnx, opset {onnx_models.OPSET}"
        assert lines[4].split() == ["input", "x", "DT_FLOAT", "[-1]", "x"]
        assert lines[7] == """curl -d '{"instances": [0.0]}' http://localhost:8501/v1/models/digits:predict"""
    assert main(["inspect", str(folder / "net.onnx"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["opset"], found["dataFiles"]) == (onnx_models.OPSET, [])
    (folder / "more.onnx").touch()
    assert main(["inspect", str(tmp_path / "digits")]) == 4
    assert "several ONNX files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "neither saved_model.pb nor an ONNX file nor numbered versions"),
        ({"saved_model.pb": b"\xff"}, "damaged"),
        ({"1/x": b""}, "no file saved_model.pb"),
        ({"saved_model.pb": saved_model(tags=("train",))}, "no graph is tagged 'serve'"),
    ],
)
def test_no_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, bytes], words: str
) -> None:
    write(tmp_path, files)
    assert main(["inspect", str(tmp_path)]) == 4
    assert words in capsys.readouterr().err


def test_no_path(tmp_path: Path) -> None:
    assert main(["inspect", str(tmp_path / "absent")]) == 4


def test_examples_of_numbers() -> None:
    inputs = {
        "a": TensorInfo("a:0", "DT_FLOAT", (-1, 2, 1)),
        "b": TensorInfo("b:0", "DT_INT32", (-1,)),
        "c": TensorInfo("c:0", "DT_BOOL", None),
        "d": TensorInfo("d:0", "DT_DOUBLE", ()),
    }
    rest, _, grpc = examples("other", Signature("m", inputs, {}), "m", "h")
    assert json.loads(rest.split("'")[1]) == {
        "instances": [{"a": [[0.0], [0.0]], "b": 0, "c": False, "d": 0.0}],
        "signature_name": "other",
    }
    sent = json.loads(grpc.split("'")[1])["inputs"]
    one = {"dim": [{"size": 1}]}
    assert sent["a"] == {
        "dtype": "DT_FLOAT",
        "tensorShape": {"dim": [{"size": 1}, {"size": 2}, {"size": 1}]},
        "floatVal": [0.0],
    }
    assert sent["b"] == {"dtype": "DT_INT32", "tensorShape": one, "intVal": [0]}
    assert sent["c"] == {"dtype": "DT_BOOL", "tensorShape": one, "boolVal": [False]}
    assert sent["d"] == {"dtype": "DT_DOUBLE", "tensorShape": {"dim": []}, "doubleVal": [0.0]}


def test_protoset_describes_the_services(tmp_path: Path) -> None:
    path = tmp_path / "serving.protoset"
    assert main(["protoset", str(path)]) == 0
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    service = pool.FindServiceByName("tensorflow.serving.PredictionService")
    assert service.methods_by_name["Predict"].input_type.full_name == "tensorflow.serving.PredictRequest"
    assert "GetModelMetadata" in service.methods_by_name
    assert "GetModelStatus" in pool.FindServiceByName("tensorflow.serving.ModelService").methods_by_name
    assert main(["protoset", str(tmp_path / "absent" / "x")]) == 4
