"""Classify, Regress and MultiInference in both protocols, from a live server of the model `examples`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from unit.serving.server.grpc_calls import LIMIT, floats, predictor, refused
from unit.serving.server.processes import DIRECT, FRONT, REAL, Server, reached, running
from unit.serving.server.rest_calls import METRICS, ask
from unit.serving.wire.official import stubs

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNFIT = grpc.StatusCode.FAILED_PRECONDITION
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def itself(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("examples") / "log"
    with running(Server(REAL, log, "--model_name=ex", f"--model_base_path={models / 'examples'}")) as found:
        yield found.wait_ready()


@pytest.fixture(scope="module", params=[DIRECT, FRONT])
def server(
    request: pytest.FixtureRequest, itself: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The server, or a front before it."""
    log = tmp_path_factory.mktemp("front") / "log"
    with reached(request.param, itself, log, "--model_name=ex") as found:
        yield found


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with server.channel() as found:
        yield found


@pytest.fixture
def service(channel: grpc.Channel) -> Any:
    return stubs().prediction_service.PredictionServiceStub(channel)


def example(**features: float | bytes) -> Any:
    made = stubs().example.Example()
    for name, value in features.items():
        feature = made.features.feature[name]
        (feature.bytes_list if isinstance(value, bytes) else feature.float_list).value.append(value)
    return made


def filled(request: Any, signature: str, xs: tuple[float, ...], name: str | None = "ex") -> Any:
    if name is not None:
        request.model_spec.name = name
        request.model_spec.signature_name = signature
    request.input.example_list.examples.extend(example(x=x) for x in xs)
    return request


@pytest.fixture
def classify(service: Any) -> Ask:
    def ask_it(signature: str = "", xs: tuple[float, ...] = (1.0, 3.0), name: str | None = "ex") -> Any:
        request = filled(stubs().classification.ClassificationRequest(), signature, xs, name)
        return service.Classify(request, timeout=LIMIT)

    return ask_it


@pytest.fixture
def regress(service: Any) -> Ask:
    def ask_it(
        signature: str = "regress", xs: tuple[float, ...] = (1.0, 3.0), name: str | None = "ex"
    ) -> Any:
        request = filled(stubs().regression.RegressionRequest(), signature, xs, name)
        return service.Regress(request, timeout=LIMIT)

    return ask_it


def multi_request(*tasks: tuple[str | None, str, str], xs: tuple[float, ...] = (1.0,)) -> Any:
    request = stubs().inference.MultiInferenceRequest()
    for name, signature, method in tasks:
        task = request.tasks.add(method_name=method)
        if name is not None:
            task.model_spec.name = name
        task.model_spec.signature_name = signature
    request.input.example_list.examples.extend(example(x=x) for x in xs)
    return request


def rows(result: Any) -> list[list[tuple[str, float]]]:
    return [[(one.label, one.score) for one in found.classes] for found in result.classifications]


def values(result: Any) -> list[float]:
    return [found.value for found in result.regressions]


def test_classify(classify: Ask) -> None:
    reply = classify()
    assert rows(reply.result) == [[("cat", 1.0), ("dog", 2.0)], [("cat", 3.0), ("dog", 6.0)]]
    spec = reply.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("ex", 5, "serving_default")


def test_classes_and_scores_may_come_alone(classify: Ask) -> None:
    assert rows(classify("classes", (1.0,)).result) == [[("cat", 0.0), ("dog", 0.0)]]
    assert rows(classify("scores", (1.0,)).result) == [[("", 1.0), ("", 2.0)]]


@pytest.mark.parametrize("signature", ["regress", "regress_column"])
def test_regress(regress: Ask, signature: str) -> None:
    reply = regress(signature)
    assert values(reply.result) == [2.0, 6.0]
    assert (reply.model_spec.version.value, reply.model_spec.signature_name) == (5, signature)


def test_the_only_model_need_not_be_named(classify: Ask) -> None:
    assert classify("", (1.0,), None).model_spec.name == "ex"


def test_a_context_is_part_of_every_example(service: Any) -> None:
    request = stubs().regression.RegressionRequest()
    request.model_spec.name = "ex"
    request.model_spec.signature_name = "regress"
    listed = request.input.example_list_with_context
    listed.context.MergeFrom(example(x=4.0))
    listed.examples.extend([example(y=1.0), example(x=5.0)])
    assert values(service.Regress(request, timeout=LIMIT).result) == [8.0, 10.0]


def test_several_at_once(service: Any) -> None:
    request = multi_request(("ex", "", CLASSIFY), ("ex", "regress", REGRESS), xs=(1.0, 2.0))
    first, second = service.MultiInference(request, timeout=LIMIT).results
    assert rows(first.classification_result)[1] == [("cat", 2.0), ("dog", 4.0)]
    assert values(second.regression_result) == [2.0, 4.0]
    assert [found.model_spec.signature_name for found in (first, second)] == ["serving_default", "regress"]


def test_signatures_with_different_inputs_get_the_same_examples(service: Any) -> None:
    request = multi_request(("ex", "regress", REGRESS), ("ex", "other_input", CLASSIFY), xs=(3.0,))
    first, second = service.MultiInference(request, timeout=LIMIT).results
    assert values(first.regression_result) == [6.0]
    assert rows(second.classification_result) == [[("", 6.0), ("", 9.0)]]


@pytest.mark.parametrize(
    ("signature", "code", "words"),
    [
        ("nope", INVALID, "No signature was found with the name: nope"),
        ("class_alias", UNFIT, "No classification inputs found in SignatureDef: inputs {"),
        ("class_outputs", UNFIT, "Expected classification signature outputs to contain at least one of"),
        ("class_three", INVALID, "Expected one or two output Tensors, found 3"),
        ("class_rank", INVALID, "Expected Tensor shape: [batch_size num_classes] but got [2]"),
        ("class_dtype", INVALID, "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
        ("class_labels", INVALID, "Expected classes Tensor of DT_STRING. Got: DT_INT64"),
        ("class_batch", INVALID, "Expected scores output batch size of 2. Got: 1"),
        ("class_sizes", INVALID, "Tensors class and score should match in dim_size(1). Got 3 vs. 2"),
    ],
)
def test_classify_refused(classify: Ask, signature: str, code: grpc.StatusCode, words: str) -> None:
    found, text = refused(lambda: classify(signature))
    assert found is code
    assert text.startswith(words)


@pytest.mark.parametrize(
    ("signature", "code", "words"),
    [
        ("nope", INVALID, "No signature was found with the name: nope"),
        ("regress_alias", UNFIT, "No regression inputs found in SignatureDef: inputs {"),
        ("regress_outputs", UNFIT, "No regression outputs found in SignatureDef: inputs {"),
        ("regress_two", INVALID, "Expected one output Tensor."),
        (
            "regress_shape",
            INVALID,
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1]",
        ),
        ("regress_dtype", INVALID, "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
        ("regress_batch", INVALID, "Input batch size did not match output batch size: 2 vs. 1"),
    ],
)
def test_regress_refused(regress: Ask, signature: str, code: grpc.StatusCode, words: str) -> None:
    found, text = refused(lambda: regress(signature))
    assert found is code
    assert text.startswith(words)


def test_no_examples(classify: Ask, regress: Ask, service: Any) -> None:
    assert refused(lambda: classify("", ())) == (INVALID, "Input is empty.")
    assert refused(lambda: regress("regress", ())) == (INVALID, "Input is empty.")
    request = multi_request(("ex", "", CLASSIFY), xs=())
    assert refused(lambda: service.MultiInference(request, timeout=LIMIT)) == (INVALID, "Input is empty.")


def test_unknown_models(classify: Ask, regress: Ask) -> None:
    expected = (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(nope)")
    assert refused(lambda: classify(name="nope")) == expected
    assert refused(lambda: regress(name="nope")) == expected


def test_examples_that_do_not_fit_the_model(service: Any, server: Server) -> None:
    request = stubs().regression.RegressionRequest()
    request.model_spec.name = "ex"
    request.model_spec.signature_name = "regress"
    request.input.example_list.examples.append(example(x=b"text"))
    code, text = refused(lambda: service.Regress(request, timeout=LIMIT))
    assert code is INVALID
    assert "Data types don't match" in text
    assert server.process.poll() is None


@pytest.mark.parametrize(
    ("tasks", "code", "words"),
    [
        ((), INVALID, "ModelSpec has no name specified."),
        (((None, "", CLASSIFY),), INVALID, "ModelSpec has no name specified."),
        (
            (("ex", "", CLASSIFY), (None, "regress", REGRESS)),
            INVALID,
            "Found ModelSpec with an empty model name.",
        ),
        (
            (("ex", "", CLASSIFY), ("other", "", REGRESS)),
            INVALID,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            (("ex", "", CLASSIFY), ("ex", "serving_default", CLASSIFY)),
            INVALID,
            "Duplicate evaluation of signature: serving_default",
        ),
        ((("ex", "nope", CLASSIFY),), INVALID, "Requested signature not found in model graph: nope"),
        (
            (("ex", "", "tensorflow/serving/predict"),),
            grpc.StatusCode.UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
    ],
)
def test_several_refused(service: Any, tasks: tuple[Any, ...], code: grpc.StatusCode, words: str) -> None:
    request = multi_request(*tasks)
    assert refused(lambda: service.MultiInference(request, timeout=LIMIT)) == (code, words)


def test_examples_are_counted(classify: Ask, server: Server) -> None:
    def total() -> int:
        page = server.get(METRICS).data.decode()
        prefix = ':tensorflow:serving:request_example_count_total{model="ex"} '
        return sum(int(line.removeprefix(prefix)) for line in page.splitlines() if line.startswith(prefix))

    before = total()
    classify(xs=(1.0, 2.0, 3.0))
    assert total() == before + 3
    page = server.get(METRICS).data.decode()
    assert (
        ':tensorflow:serving:request_latency_count{model_name="ex",API="Classify",entrypoint="GRPC"}' in page
    )
    assert ':tensorflow:serving:runtime_latency_count{model_name="ex",API="Classify",runtime="TF1"}' in page


# REST.

PATH = "/v1/models/ex"


def test_classify_by_rest(server: Server) -> None:
    status, reply = ask(server, {"examples": [{"x": 0.2}, {"x": [3.0]}, {}]}, f"{PATH}:classify")
    expected = [[["cat", 0.2], ["dog", 0.4]], [["cat", 3.0], ["dog", 6.0]], [["cat", 1.0], ["dog", 2.0]]]
    assert (status, reply) == (200, {"results": expected})


def test_regress_by_rest_with_a_context(server: Server) -> None:
    body = {"signature_name": "regress", "context": {"x": 1.5}, "examples": [{}, {"x": 2.5}]}
    assert ask(server, body, f"{PATH}/versions/5:regress") == (200, {"results": [3.0, 5.0]})


def test_numbers_that_json_has_not(server: Server) -> None:
    body = '{"signature_name": "regress", "examples": [{"x": NaN}, {"x": -Infinity}]}'
    reply = server.post(f"{PATH}:regress", body)
    assert (reply.status, reply.data) == (200, b'{"results":[NaN,-Infinity]}')


def test_numbers_beyond_the_type_of_a_feature_are_infinite(server: Server) -> None:
    body = {"signature_name": "regress", "examples": [{"x": 1e300}, {"x": -(2**70)}, {"x": 16777217.0}]}
    reply = server.post(f"{PATH}:regress", json.dumps(body))
    assert (reply.status, reply.data) == (200, b'{"results":[Infinity,-2.3611832e+21,33554432.0]}')


def test_features_of_every_kind(server: Server) -> None:
    b64 = {"b64": base64.b64encode(b"\xff").decode()}
    body = {"examples": [{"x": 1.0, "a": ["b", b64], "c": True, "d": [1, False], "e": []}]}
    assert ask(server, body, f"{PATH}:classify")[0] == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "When method is classify, key 'examples' is expected and was not found"),
        ({"examples": {}}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"examples": [{}], "context": []}, "Example must be JSON object but got JSON Array"),
        ({"examples": [{"x": None}]}, "Feature: x has element with unexpected JSON type: Null"),
        ({"examples": [{"x": {"y": 1}}]}, "Feature: x has element with unexpected JSON type: Object"),
        ({"examples": [{"x": [[1]]}]}, "Feature: x has element with unexpected JSON type: Array"),
        ({"examples": [{"x": [1.0, 1]}]}, "Unexpected element type in feature: x expecting type: float"),
        ({"examples": [{"x": ["a", 1.0]}]}, "Unexpected element type in feature: x expecting type: bytes"),
        ({"examples": [{"x": [True, "a"]}]}, "Unexpected element type in feature: x expecting type: int64"),
        ({"examples": [{"x": 2**63}]}, "Feature: x has uint64_t element. Only int64_t is supported."),
        ({"examples": [{"x": {"b64": "?"}}]}, "Unable to base64 decode"),
        ({"signature_name": 1, "examples": [{}]}, "'signature_name' key must be a string value."),
        ({"signature_name": "nope", "examples": [{}]}, "No signature was found with the name: nope"),
        ({"examples": [{"x": 1}]}, "Data types don't match"),
    ],
)
def test_refused_by_rest(server: Server, body: Any, words: str) -> None:
    status, reply = ask(server, body, f"{PATH}:classify")
    assert status == 400
    assert words in reply["error"]


def test_a_signature_that_does_not_fit_by_rest(server: Server) -> None:
    body = {"signature_name": "class_alias", "examples": [{}]}
    status, reply = ask(server, body, f"{PATH}:classify")
    assert status == 400
    assert reply["error"].startswith("No classification inputs found in SignatureDef")
    assert ask(server, {"examples": [{}]}, "/v1/models/nope:regress")[0] == 404


# Flags.


def test_method_names_are_looked_at_only_when_asked(models: Path, tmp_path: Path, classify: Ask) -> None:
    assert refused(lambda: classify("predict"))[0] is UNFIT
    flags = (
        "--model_name=ex",
        f"--model_base_path={models / 'examples'}",
        "--enable_signature_method_name_check",
    )
    with running(Server(REAL, tmp_path / "log", *flags)) as server:
        server.wait_ready()
        with server.channel() as channel:
            strict = stubs().prediction_service.PredictionServiceStub(channel)
            request = filled(stubs().classification.ClassificationRequest(), "regress", (1.0,))
            assert refused(lambda: strict.Classify(request, timeout=LIMIT)) == (
                INVALID,
                f"Expected classification signature method_name to be {CLASSIFY}. Was: {REGRESS}",
            )
            inputs = {"inputs": example(x=1.0).SerializeToString()}
            predict = predictor(strict)
            code, text = refused(lambda: predict(inputs, "unnamed", "ex"))
        status, reply = ask(server, {"signature_name": "unnamed", "instances": ["x"]}, f"{PATH}:predict")
    expected = (
        "Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
        f"{CLASSIFY}, {REGRESS}}}. Was: something/else"
    )
    assert (code, text) == (grpc.StatusCode.INTERNAL, expected)
    assert (status, reply) == (500, {"error": expected})


def test_defaults_of_a_signature_and_replies_as_tensor_content(models: Path, tmp_path: Path) -> None:
    flags = (
        "--model_name=m",
        f"--model_base_path={models / 'defaults'}",
        "--enable_serialization_as_tensor_content",
    )
    with running(Server(REAL, tmp_path / "log", *flags)) as server:
        server.wait_ready()
        with server.channel() as channel:
            predict = predictor(stubs().prediction_service.PredictionServiceStub(channel))
            reply = predict({"a": floats(1)}, "", "m").outputs["sum"]
            assert not reply.float_val
            assert reply.tensor_content == floats(11).tobytes()
            code, text = refused(lambda: predict({"b": floats(1)}, "", "m"))
        body = json.dumps({"inputs": {"a": [1.0], "b": [2.0]}})
        assert json.loads(server.post("/v1/models/m:predict", body).data) == {"outputs": [3.0]}
    assert code is INVALID
    assert text == (
        "Signature input alias: a(feed name: a:0) not found in request and no default value provided. "
        "Inputs expected to be in the request {b}, or default input alias set: b"
    )
