"""Tiny networks of TensorFlow 1 and 2, through the whole conversion."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf

from serval_contract.conversion_reasons import ACCURACY_TOO_LOW, CALIBRATION_INVALID, CONVERSION_FAILED
from serval_contract.progress import Progress
from serval_contract.reasons import MODEL_INVALID
from serval_contract.stage_report import parse_stage_report
from serval_serving.accel.artifact import (
    CLASSIFIER_FILE,
    CONVERSION_FILE,
    DEVICE_ONNX,
    HOST_FILE,
    STRING,
    Conversion,
    Tensor,
    parse_conversion,
    read_conversion,
)
from serval_serving.accel.build_record import EXTRA_ASSETS, RECORD_FILE, write_build_record
from serval_serving.accel.convert import photos, pipeline, stage
from serval_serving.accel.convert.accuracy import run_classifier, run_parts
from serval_serving.accel.convert.options import ConvertOptions, InputTensor
from serval_serving.accel.convert.pipeline import convert
from serval_serving.accel.preprocess import preprocess
from serval_serving.cli import main as serval
from serval_serving.devices.base import DeviceSettings
from serval_serving.engines.accelerated import AcceleratedEngine, AcceleratedOptions
from serval_serving.models.folder_digest import file_sha256
from serval_serving.stages.program import StageFailure
from unit.serving.accel.convert_models import (
    CLASSES,
    RECORD,
    SIZE,
    expected,
    numbers,
    photos_in,
    save,
    tf1,
    tf2,
)

v1 = tf.compat.v1
AT_ONCE = DeviceSettings(options={"programming_seconds": 0})
PICTURES = [photos.encode(one) for one in photos.smooth(4, 40, 30, 3)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "tf1": tf1(folder / "tf1"),
        "tf2": tf2(folder / "tf2"),
        "bare": tf1(folder / "bare", record=False),
    }


def prepared(artifact: Path, conversion: Conversion) -> np.ndarray[Any, Any]:
    """Photos as the device part takes them, by the artifact's host part."""
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        if conversion.host.kind == "Graph":
            host = v1.GraphDef.FromString((artifact / HOST_FILE).read_bytes())
            tf.import_graph_def(host, name="")
            ((given,), (made,)) = conversion.host.inputs, conversion.host.outputs
            return np.asarray(session.run(made.name, {given.name: PICTURES}))
        return np.asarray(session.run(photos_in(tf.constant(PICTURES))))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("model", "host"), [("tf1", "Images"), ("tf2", "Graph"), ("bare", "Graph")])
def test_float_equals_tensorflow_and_int_8_is_close(
    models: dict[str, Path], tmp_path: Path, model: str, host: str
) -> None:
    exact = expected(models[model], PICTURES)
    found = {}
    for quantization in ("Float", "Int8"):
        out = tmp_path / quantization
        conversion = convert(ConvertOptions(models[model], out, quantization=quantization))  # type: ignore[arg-type]
        assert conversion == read_conversion(out) == parse_conversion((out / CONVERSION_FILE).read_bytes())
        assert (conversion.host.kind, conversion.quantization) == (host, quantization)
        outputs = run_parts(out / DEVICE_ONNX, out / CLASSIFIER_FILE, prepared(out, conversion))
        found[quantization] = outputs[conversion.outputs["output_alias"].name]
    np.testing.assert_allclose(found["Float"], exact, atol=1e-4 * exact.max())
    np.testing.assert_allclose(found["Int8"], exact, atol=0.05)
    assert not np.array_equal(found["Int8"], found["Float"])


@pytest.mark.usefixtures("in_process")
def test_the_artifact(models: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "artifact"
    said: list[tuple[str, int, str]] = []
    conversion = convert(ConvertOptions(models["tf1"], out), lambda *progress: said.append(progress))

    assert sorted(path.name for path in out.iterdir()) == [CLASSIFIER_FILE, CONVERSION_FILE, DEVICE_ONNX]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact"], "the work folder is gone"
    assert conversion.inputs == {"images": Tensor("images:0", STRING, (None,))}
    scores = Tensor("classifier/Softmax:0", "float32", (None, CLASSES))
    features = Tensor("features:0", "float32", (None, 1, 1, 16))
    image = Tensor("InputImage:0", "float32", (None, SIZE, SIZE, 3))
    assert conversion.outputs == {"output_alias": scores}
    assert (conversion.device.inputs, conversion.device.outputs) == ((image,), (features,))
    assert conversion.classifier is not None
    assert (conversion.classifier.inputs, conversion.classifier.outputs) == ((features,), (scores,))
    assert conversion.device.sha256 == f"sha256:{file_sha256(out / DEVICE_ONNX)}"
    assert conversion.host.preprocessing == RECORD.preprocessing
    assert (conversion.network, conversion.weights) == ("Tiny", "Random")
    percents = [percent for _, percent, _ in said]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert {step for step, _, _ in said} == {"translate", "fold", "split", "quantize", "check"}

    report = conversion.report
    assert report["held_out"]["cosine"] > 0.99
    assert report["float_error"] < 1e-4
    assert report["images"] == {"origin": "Random", "skipped": 0}
    assert set(report["bytes"]) == {DEVICE_ONNX, CLASSIFIER_FILE}
    assert set(report["seconds"]) == set(report["peak_bytes"]) == {step for step, _, _ in said}


@pytest.mark.usefixtures("in_process")
def test_the_engine_for_devices_serves_it(models: dict[str, Path], tmp_path: Path) -> None:
    conversion = convert(ConvertOptions(models["tf1"], tmp_path / "out"))
    engine = AcceleratedEngine(AcceleratedOptions("emulator", AT_ONCE))
    model = engine.load(tmp_path / "out")
    model.program()
    (served,) = model.run("serving_default", {"images": np.array(PICTURES, object)}, ["output_alias"], None)
    model.close()
    assert conversion.host.preprocessing is not None
    given = preprocess(PICTURES, conversion.host.preprocessing)
    parts = run_parts(tmp_path / "out" / DEVICE_ONNX, tmp_path / "out" / CLASSIFIER_FILE, given)
    np.testing.assert_allclose(served, parts["classifier/Softmax:0"], rtol=1e-6)


@pytest.mark.usefixtures("in_process")
def test_int_8_is_per_channel_and_the_classifier_is_float(models: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "artifact"
    convert(ConvertOptions(models["tf1"], out))
    device = onnx.load(str(out / DEVICE_ONNX))
    values = {one.name: onnx.numpy_helper.to_array(one) for one in device.graph.initializer}
    kernels = {name: value for name, value in values.items() if value.dtype == np.int8 and value.ndim == 4}
    scales = [values[node.input[1]] for node in device.graph.node if node.input and node.input[0] in kernels]
    assert sorted(scale.size for scale in scales) == [8, 16], "one scale for each channel"
    assert device.opset_import[0].version == 17
    operations = {node.op_type for node in onnx.load(str(out / CLASSIFIER_FILE)).graph.node}
    assert "Softmax" in operations
    assert not operations & {"QuantizeLinear", "DequantizeLinear"}


@pytest.mark.usefixtures("in_process")
def test_a_model_without_a_classifier_is_one_part(tmp_path: Path) -> None:
    kernel = np.random.default_rng(1).standard_normal((3, 3, 3, 4)).astype(np.float32)
    folder = numbers(tmp_path / "model", lambda x: tf.nn.softmax(tf.nn.conv2d(x, kernel, 1, "SAME")))
    np.save(tmp_path / "inputs.npy", np.random.default_rng(2).standard_normal((9, 8, 8, 3)))
    conversion = convert(ConvertOptions(folder, tmp_path / "out", calibration=tmp_path))
    assert conversion.host.kind == "None"
    assert conversion.classifier is None
    assert conversion.device.inputs[0] == conversion.inputs["x"]
    assert conversion.report["images"]["origin"] == "Folder"
    nodes = onnx.load(str(tmp_path / "out" / DEVICE_ONNX)).graph.node
    (softmax,) = (node for node in nodes if node.op_type == "Softmax")
    assert not any(node.op_type == "QuantizeLinear" and node.input[0] == softmax.output[0] for node in nodes)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"min_cosine": 1.0}, ACCURACY_TOO_LOW, r"cosine of int8 and float features is 0\.\d+ .*below 1"),
        ({"calibration": Path("/nowhere")}, CALIBRATION_INVALID, "nowhere, does not exist"),
        ({"saved_model": Path("/nowhere")}, MODEL_INVALID, "no saved_model.pb"),
    ],
)
def test_failures(
    models: dict[str, Path], tmp_path: Path, change: dict[str, Any], reason: str, words: str
) -> None:
    out = tmp_path / "artifact"
    with pytest.raises(StageFailure, match=words) as failed:
        convert(ConvertOptions(**{"saved_model": models["tf1"], "out": out, **change}))
    assert failed.value.reason == reason
    assert failed.value.permanent
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("in_process")
def test_the_only_version_of_a_base_path(models: dict[str, Path], tmp_path: Path) -> None:
    base = tmp_path / "model"
    shutil.copytree(models["tf1"], base / "3")
    converted = [
        convert(ConvertOptions(folder, tmp_path / "out", quantization="Float")).source_digest
        for folder in (base, base / "3")
    ]
    assert converted[0] == converted[1], "the digest is that of the SavedModel"
    (base / "4").mkdir()
    with pytest.raises(StageFailure, match="model has 2 versions, 3, 4; name one"):
        convert(ConvertOptions(base, tmp_path / "out"))


@pytest.mark.usefixtures("in_process")
def test_agreement_below_the_threshold(models: dict[str, Path], tmp_path: Path, monkeypatch: Any) -> None:
    measured = {"cosine": 1.0, "agreement": 0.5, "images": 32}
    run = pipeline.run_step

    def poor(step: str, *given: Any, **options: Any) -> Any:
        done = run(step, *given, **options)
        if step == "check":
            done.result["held_out"].update(measured)  # type: ignore[attr-defined]
        return done

    monkeypatch.setattr(pipeline, "run_step", poor)
    with pytest.raises(StageFailure, match=r"agree on the best class of 50 % .*\(Random\), less than 60 %"):
        convert(ConvertOptions(models["tf1"], tmp_path / "out", min_agreement=0.6))
    # Of random pictures the agreement says little: without a threshold of the user none counts.
    assert convert(ConvertOptions(models["tf1"], tmp_path / "out"))


@pytest.mark.usefixtures("in_process")
def test_numbers_of_unknown_range_need_inputs(tmp_path: Path) -> None:
    kernel = np.ones((3, 3, 3, 4), np.float32)
    folder = numbers(tmp_path / "model", lambda x: tf.nn.conv2d(x, kernel, 1, "SAME"))
    with pytest.raises(StageFailure, match=r"range is not known.*--calibration.*--quantization=Float"):
        convert(ConvertOptions(folder, tmp_path / "out"))
    assert convert(ConvertOptions(folder, tmp_path / "out", quantization="Float")).quantization == "Float"


@pytest.mark.usefixtures("in_process")
def test_only_an_artifact_is_replaced(models: dict[str, Path], tmp_path: Path) -> None:
    options = ConvertOptions(models["tf1"], tmp_path / "out", quantization="Float")
    (tmp_path / "out").mkdir()
    convert(options)
    (tmp_path / "out" / "old").touch()
    convert(options)
    assert not (tmp_path / "out" / "old").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(StageFailure, match="is no artifact") as failed:
        convert(ConvertOptions(models["tf1"], tmp_path / "other"))
    assert failed.value.reason == CONVERSION_FAILED
    assert (tmp_path / "other" / "thesis.tex").exists()


@pytest.mark.usefixtures("in_process")
def test_a_wrong_conversion_is_noticed(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(classifier: Path, features: Any) -> Any:
        return {name: value * 1.01 for name, value in run_classifier(classifier, features).items()}

    monkeypatch.setattr("serval_serving.accel.convert.accuracy.run_classifier", changed)
    with pytest.raises(StageFailure, match=r"differs from TensorFlow by 0\.01"):
        convert(ConvertOptions(models["tf1"], tmp_path / "out", quantization="Float"))


@pytest.mark.usefixtures("in_process")
def test_a_record_of_another_model(models: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(models["tf2"], tmp_path / "model")
    write_build_record(folder, RECORD)
    with pytest.raises(StageFailure, match="no tensor InputImage:0, features:0, which the build recorded"):
        convert(ConvertOptions(folder, tmp_path / "out"))
    (folder / EXTRA_ASSETS / RECORD_FILE).write_text("{}")
    with pytest.raises(StageFailure, match="is not as expected") as failed:
        convert(ConvertOptions(folder, tmp_path / "out"))
    assert failed.value.reason == MODEL_INVALID


@pytest.mark.usefixtures("in_process")
def test_preprocessing_that_refuses_every_picture(tmp_path: Path) -> None:
    def graph() -> Any:
        image = v1.placeholder(tf.string, [], name="image")  # one photo, not a batch
        kernel = tf.constant(np.ones((3, 3, 3, 4), np.float32))
        return {"image": image}, {"y": tf.nn.conv2d(photos_in(image[None]), kernel, 1, "SAME")}

    folder = save(tmp_path / "model", graph)
    with pytest.raises(StageFailure, match=r"the preprocessing fails on a picture: .*shape") as failed:
        convert(ConvertOptions(folder, tmp_path / "out"))
    assert failed.value.reason == CALIBRATION_INVALID


@pytest.mark.usefixtures("in_process")
def test_a_named_cut_leaves_the_record(models: dict[str, Path], tmp_path: Path) -> None:
    wanted = InputTensor("truediv:0")
    options = ConvertOptions(models["tf1"], tmp_path / "out", input=wanted, quantization="Float")
    conversion = convert(options)
    # The recorded preprocessing ends at another tensor.
    assert conversion.host.kind == "Graph"
    assert conversion.device.inputs[0].name == "truediv:0"


@pytest.mark.usefixtures("importable")
def test_the_stage_in_processes_of_its_own(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    pages: list[Progress] = []
    monkeypatch.setattr(stage, "Progress", lambda *fields: pages.append(Progress(*fields)) or pages[-1])
    arguments = [f"--saved-model={models['tf1']}", f"--out={tmp_path / 'out'}", f"--termination-log={log}"]
    assert stage.main(arguments) == 0
    report = parse_stage_report(log.read_text())
    assert report is not None
    conversion = read_conversion(tmp_path / "out")
    assert report.result == {"conversion": stage.summary(conversion)}
    assert {one.name for one in report.files} == {DEVICE_ONNX, CLASSIFIER_FILE, CONVERSION_FILE}
    shown = report.result["conversion"]
    assert shown["sourceDigest"].startswith("sha256:")
    assert shown["heldOut"]["cosine"] > 0.99
    assert all(peak > 20 << 20 for peak in shown["peakBytes"].values())
    assert shown["peakBytes"]["translate"] > 300 << 20, "TensorFlow is in that process alone"
    assert pages[-1] == Progress(100, 100, "percent", "check: converted", "convert")


@pytest.mark.usefixtures("in_process")
def test_the_command(models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["accel", "convert", str(models["tf1"]), "--out", str(tmp_path / "out")]
    assert serval([*arguments, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["quantization"] == "Int8"
    assert "the network's input is InputImage:0, recorded by the build" in said.err
    assert serval([*arguments, "--quantization=Float"]) == 0
    assert "Float, host part Images" in capsys.readouterr().out
    assert serval([*arguments, "--inputs=nothing"]) == 1
    assert "serval: ModelNotConvertible: the outputs depend on no tensor nothing:0" in capsys.readouterr().err
