from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from serval_serving.cli import main
from serval_serving.cli.examples import examples
from serval_serving.models.savedmodel import Signature, TensorInfo
from unit.serving.engines import onnx_models
from unit.serving.fetch.builders import below, model_files, saved_model, write
from unit.serving.models.test_textproto import TEXT


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
        """echo '{"instances": [{"b64": "'$(base64 -w0 image.jpg)'"}]}'"""
        " | curl -d @- http://gpu-0:8501/v1/models/digits:predict"
    )
    assert lines[11].startswith("""echo '{"model_spec": {"name": "digits", """)
    assert lines[11].endswith(
        " | grpcurl -plaintext -protoset serving.protoset -d @"
        " gpu-0:8500 tensorflow.serving.PredictionService/Predict"
    )


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, model_files())
    assert main(["inspect", str(tmp_path / "saved_model.pb"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == str(tmp_path)
    assert found["signatures"]["serving_default"]["inputs"] == {
        "images": {"dtype": "DT_STRING", "shape": [-1], "tensor": "serving_default_images:0"}
    }


def test_a_saved_model_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"digits/9/saved_model.pbtxt": TEXT})
    for path in (tmp_path / "digits", tmp_path / "digits/9/saved_model.pbtxt"):
        assert main(["inspect", str(path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["signatures"]["plain"]["inputs"]["x"]["tensor"] == "x:0"


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
        ({"saved_model.pb": saved_model(tags=("train",))}, "no graph has the tag 'serve'"),
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
        "d": TensorInfo("d:0", "DT_HALF", (-1,)),
    }
    rest, _, grpc = examples("other", Signature("m", inputs, {}), "m", "h")
    assert json.loads(rest.split("'")[1]) == {
        "instances": [{"a": [[0.0], [0.0]], "b": 0, "c": False, "d": 0.0}],
        "signature_name": "other",
    }
    assert rest.endswith("' http://h:8501/v1/models/m:predict")
    assert grpc.endswith("' h:8500 tensorflow.serving.PredictionService/Predict")
    sent = json.loads(grpc.split("'")[1])["inputs"]
    one = {"dim": [{"size": 1}]}
    assert sent["a"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": 1}, {"size": 2}, {"size": 1}]},
        "float_val": [0.0],
    }
    assert sent["b"] == {"dtype": "DT_INT32", "tensor_shape": one, "int_val": [0]}
    assert sent["c"] == {"dtype": "DT_BOOL", "tensor_shape": one, "bool_val": [False]}
    assert sent["d"] == {"dtype": "DT_HALF", "tensor_shape": one, "half_val": [0]}


def _lines(dtype: str, shape: tuple[int, ...] | None, *, is_text: bool = False) -> list[str]:
    """The lines for a model with one input, under the default signature."""
    signature = Signature("tensorflow/serving/predict", {"x": TensorInfo("x:0", dtype, shape)}, {})
    return list(examples("serving_default", signature, "m", "h", is_text=is_text))


def test_what_has_no_rows_is_sent_by_name() -> None:
    rest, _, grpc = _lines("DT_FLOAT", ())
    assert json.loads(rest.split("'")[1]) == {"inputs": {"x": 0.0}}
    assert json.loads(grpc.split("'")[1])["inputs"]["x"]["tensor_shape"] == {"dim": []}


@pytest.mark.parametrize(
    ("dtype", "shape", "is_text", "file"),
    [
        ("DT_STRING", (-1,), False, "image.jpg"),
        ("DT_STRING", (-1,), True, "text.txt"),
        ("DT_UINT8", (-1,), False, "image.jpg"),
        ("DT_UINT8", None, False, "image.jpg"),
        ("DT_UINT8", (-1, 8, 8), False, "pixels.raw"),
    ],
)
def test_scoring(dtype: str, shape: tuple[int, ...] | None, is_text: bool, file: str) -> None:
    assert _lines(dtype, shape, is_text=is_text)[0] == f"curl --data-binary @{file} http://h:8501/score"


@pytest.mark.parametrize(("dtype", "shape"), [("DT_FLOAT", (-1,)), ("DT_UINT8", (-1, -1, 3))])
def test_scoring_takes_bytes_alone(dtype: str, shape: tuple[int, ...]) -> None:
    assert not any("/score" in line for line in _lines(dtype, shape))


def test_strings_of_onnx_are_text() -> None:
    _, rest, _, grpc = _lines("DT_STRING", (-1,), is_text=True)
    assert json.loads(rest.split("'")[1]) == {"instances": ["text"]}
    assert json.loads(grpc.split("'")[1])["inputs"]["x"]["string_val"] == ["dGV4dA=="]


def test_there_is_no_line_of_json_that_is_too_long_or_not_accepted() -> None:
    for lines in (_lines("DT_FLOAT", (-1, 224, 224, 3)), _lines("DT_COMPLEX64", (-1,))):
        assert [line.split()[0] for line in lines] == ["serval", "grpcurl"]
    assert _lines("DT_RESOURCE", ()) == []


def test_examples_of_classifiers_and_regressors() -> None:
    for call in ("Classify", "Regress"):
        signature = Signature(f"tensorflow/serving/{call.lower()}", {}, {})
        rest, _, grpc = examples("serving_default", signature, "m", "h")
        assert rest == (
            f"""curl -d '{{"examples": [{{"FEATURE": 0.0}}]}}' http://h:8501/v1/models/m:{call.lower()}"""
        )
        assert grpc.endswith(f" h:8500 tensorflow.serving.PredictionService/{call}")


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
