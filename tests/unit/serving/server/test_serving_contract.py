"""What clients of TensorFlow Serving rely on, whatever shape the signature declares.

docs/tensorflow-serving.md lists which behavior of TensorFlow Serving is covered where.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from unit.serving.server.grpc_calls import LIMIT, floats, predictor, refused
from unit.serving.server.processes import DIRECT, FRONT, REAL, Server, reached, running
from unit.serving.server.rest_calls import ask
from unit.serving.wire.official import stubs

TF1, TF2, ANY = "half_plus_two", "half_plus_two_2", "any_rank"
CONFIG = 'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" }}'
CLASSIFY, REGRESS = "classify_x_to_y", "regress_x_to_y"
DEFAULT = "serving_default"
both = pytest.mark.parametrize("model", [TF1, TF2])


@pytest.fixture(scope="module")
def itself(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("contract")
    lines = [CONFIG.format(name=name, base=models / name) for name in (TF1, TF2, ANY)]
    (folder / "models").write_text(f"model_config_list {{ {' '.join(lines)} }}")
    with running(Server(REAL, folder / "log", f"--model_config_file={folder / 'models'}")) as found:
        yield found.wait_ready()


@pytest.fixture(scope="module", params=[DIRECT, FRONT])
def server(
    request: pytest.FixtureRequest, itself: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The server, or a front before it, which leaves shapes to the server."""
    log = tmp_path_factory.mktemp("front") / "log"
    with reached(request.param, itself, log, f"--model_name={TF1}") as found:
        yield found


@pytest.fixture
def service(server: Server) -> Iterator[Any]:
    with server.channel() as channel:
        yield stubs().prediction_service.PredictionServiceStub(channel)


def filled(request: Any, model: str, signature: str, x: float = 2.0) -> Any:
    """A request with one Example of one feature."""
    if signature:
        request.model_spec.name = model
        request.model_spec.signature_name = signature
    example = request.input.example_list.examples.add()
    example.features.feature["x"].float_list.value.append(x)
    return request


def spec(message: Any) -> tuple[str, int, str]:
    found = message.model_spec
    return found.name, found.version.value, found.signature_name


@both
@pytest.mark.parametrize("outputs", [("y",), ()])
def test_one_number_of_one_dimension_where_the_signature_has_two(
    service: Any, model: str, outputs: tuple[str, ...]
) -> None:
    reply = predictor(service)({"x": floats(2)}, DEFAULT, model, outputs=outputs)
    assert list(reply.outputs) == ["y"]
    y = reply.outputs["y"]
    assert (list(y.float_val), [dim.size for dim in y.tensor_shape.dim]) == ([3.0], [1])
    assert spec(reply) == (model, 123, DEFAULT)


@both
@pytest.mark.parametrize("shape", [(), (3,), (3, 1), (1, 3), (2, 3, 4), (0,), (1, 1, 1, 1, 1)])
def test_any_shape_that_the_graph_takes(service: Any, model: str, shape: tuple[int, ...]) -> None:
    reply = predictor(service)({"x": np.full(shape, 2, np.float32)}, DEFAULT, model).outputs["y"]
    assert tuple(dim.size for dim in reply.tensor_shape.dim) == shape
    assert set(reply.float_val) <= {3.0}


@both
@pytest.mark.parametrize(("key", "answer"), [("instances", "predictions"), ("inputs", "outputs")])
def test_a_list_of_numbers(server: Server, model: str, key: str, answer: str) -> None:
    path = f"/v1/models/{model}:predict"
    assert ask(server, {key: [1.0, 2.0, 5.0]}, path) == (200, {answer: [2.5, 3.0, 4.5]})
    assert ask(server, {key: [[1.0], [2.0]]}, path) == (200, {answer: [[2.5], [3.0]]})


@both
def test_classify_and_regress(service: Any, model: str) -> None:
    classified = service.Classify(
        filled(stubs().classification.ClassificationRequest(), model, CLASSIFY), timeout=LIMIT
    )
    (row,) = classified.result.classifications
    assert [(found.label, found.score) for found in row.classes] == [("", 3.0)]
    assert spec(classified) == (model, 123, CLASSIFY)
    regressed = service.Regress(filled(stubs().regression.RegressionRequest(), model, REGRESS), timeout=LIMIT)
    assert [found.value for found in regressed.result.regressions] == [3.0]
    assert spec(regressed) == (model, 123, REGRESS)


@both
def test_classify_and_regress_by_rest(server: Server, model: str) -> None:
    for method, signature, results in (("classify", CLASSIFY, [[["", 3.0]]]), ("regress", REGRESS, [3.0])):
        document = {"signature_name": signature, "examples": [{"x": 2.0}]}
        assert ask(server, document, f"/v1/models/{model}:{method}") == (200, {"results": results})


@both
def test_several_at_once_though_each_has_an_input_tensor_of_its_own(service: Any, model: str) -> None:
    request = filled(stubs().inference.MultiInferenceRequest(), model, "")
    for method, signature in (("regress", REGRESS), ("classify", CLASSIFY)):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = model, signature
    regressed, classified = service.MultiInference(request, timeout=LIMIT).results
    assert regressed.regression_result.regressions[0].value == 3.0
    assert classified.classification_result.classifications[0].classes[0].score == 3.0
    assert [spec(found) for found in (regressed, classified)] == [
        (model, 123, REGRESS),
        (model, 123, CLASSIFY),
    ]


def test_examples_of_any_number_where_the_rank_is_open(server: Server) -> None:
    examples = [{"x": float(x)} for x in range(5)]
    document = {"signature_name": REGRESS, "examples": examples}
    assert ask(server, document, f"/v1/models/{TF1}:regress") == (200, {"results": [2.0, 2.5, 3.0, 3.5, 4.0]})


@pytest.mark.parametrize("shape", [(1,), (2, 1), ()])
def test_signatures_that_say_nothing_of_the_rank(service: Any, shape: tuple[int, ...]) -> None:
    predict = predictor(service)
    x = np.full(shape, 2, np.float32)
    assert set(predict({"x": x}, DEFAULT, ANY, outputs=("y",)).outputs["y"].float_val) == {12.0}
    assert list(predict({"x": x}, "constant", ANY, outputs=("y",)).outputs["y"].float_val) == [2.0]


def test_examples_of_a_rank_that_the_parser_does_not_take(service: Any, itself: Server) -> None:
    predict = predictor(service)
    code, words = refused(lambda: predict({"inputs": np.full((1, 1, 1), b"", object)}, REGRESS, TF1))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "rank" in words
    assert itself.process.poll() is None


def test_metadata_and_states(server: Server) -> None:
    document = json.loads(server.get(f"/v1/models/{TF1}/metadata").data)
    assert (document["model_spec"]["name"], document["model_spec"]["version"]) == (TF1, "123")
    found = document["metadata"]["signature_def"]["signature_def"]
    assert found[DEFAULT]["inputs"]["x"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}],
        "unknown_rank": False,
    }
    assert found[REGRESS]["inputs"]["inputs"]["tensor_shape"] == {"dim": [], "unknown_rank": True}
    assert json.loads(server.get(f"/v1/models/{TF1}").data) == {
        "model_version_status": [
            {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
