"""Several models, labels and reloads on a live server, by the official stubs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format

from serval_serving.models.config import ModelConfig
from serval_serving.models.manager import ModelManager
from serval_serving.models.served_models import ServedModels
from serval_serving.wire.status import StatusError
from unit.serving.server.fake_engine import write_version
from unit.serving.server.grpc_calls import Predict, floats, predictor, refused
from unit.serving.server.processes import FAKE, Server, running, wait_until
from unit.serving.wire.official import stubs

LIMIT = 30.0
RELOADS = "--enable_config_reload"
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def entry(tmp_path: Path, name: str, more: str = "") -> str:
    path = tmp_path / name
    return f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" {more} }}\n'


def listed(*entries: str) -> str:
    return f"model_config_list {{ {''.join(entries)} }}"


def labels(**versions: int) -> str:
    return "".join(f'version_labels {{ key: "{key}" value: {value} }} ' for key, value in versions.items())


ALL = "model_version_policy { all { } } "


@contextmanager
def serving(tmp_path: Path, config: str, *flags: str) -> Iterator[Server]:
    """A server of a configuration file."""
    file = tmp_path / "models.config"
    file.write_text(config)
    with running(Server(FAKE, tmp_path / "log", f"--model_config_file={file}", *flags)) as server:
        yield server


class Client:
    """Both services of one server."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.predict: Predict = predictor(stubs().prediction_service.PredictionServiceStub(channel))
        self.models = stubs().model_service.ModelServiceStub(channel)

    def y(self, name: str, **target: Any) -> float:
        return float(self.predict({"x": floats(1)}, "", name, **target).outputs["y"].float_val[0])

    def reload(self, text: str | None) -> Any:
        request = stubs().management.ReloadConfigRequest()
        if text is not None:
            text_format.Parse(text, request.config)
        return self.models.HandleReloadConfigRequest(request, timeout=LIMIT)

    def states(self, name: str) -> dict[int, str]:
        request = stubs().status.GetModelStatusRequest()
        request.model_spec.name = name
        reply = self.models.GetModelStatus(request, timeout=LIMIT)
        state = stubs().status.ModelVersionStatus.State
        return {found.version: state.Name(found.state) for found in reply.model_version_status}


@contextmanager
def client(server: Server) -> Iterator[Client]:
    with server.channel() as channel:
        yield Client(channel)


def test_several_models_policies_and_labels(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        write_version(tmp_path / "a", version)
        write_version(tmp_path / "b", version)
    specific = "model_version_policy { specific { versions: 1 versions: 2 } } "
    config = listed(
        entry(tmp_path, "a", specific + labels(stable=1, canary=2)),
        entry(tmp_path, "b", "model_version_policy { latest { num_versions: 2 } }"),
    )
    flags = ("--model_name=ignored", "--allow_version_labels_for_unavailable_models")
    with serving(tmp_path, config, *flags) as server, client(server.wait_ready()) as calls:
        wait_until("all versions serve", lambda: len(calls.states("a")) + len(calls.states("b")) == 4)
        wait_until(
            "they do", lambda: {*calls.states("a").values(), *calls.states("b").values()} == {"AVAILABLE"}
        )
        assert (calls.y("a"), calls.y("b")) == (2, 3)
        assert (calls.y("a", label="stable"), calls.y("a", label="canary")) == (1, 2)
        assert calls.predict({"x": floats(1)}, "", "a", label="stable").model_spec.version.value == 1
        assert refused(lambda: calls.y("a", label="nope")) == (
            INVALID,
            "Unrecognized servable version label: nope",
        )
        assert refused(lambda: calls.y("b", version=1))[0] is grpc.StatusCode.NOT_FOUND
        assert refused(lambda: calls.y("ignored"))[0] is grpc.StatusCode.NOT_FOUND
        assert refused(lambda: calls.predict({"x": floats(1)}, "", None)) == (INVALID, "Missing ModelSpec")
        assert refused(lambda: calls.y("")) == (INVALID, "ModelSpec has no name specified.")
        body = json.dumps({"instances": [1.0]})
        reply = server.post("/v1/models/a/labels/stable:predict", body)
        assert json.loads(reply.data) == {"predictions": [1.0]}
        assert server.post("/v1/models/a/labels/nope:predict", body).status == 400
        assert server.get("/v1/models/a/labels/canary/metadata").status == 200
        assert server.post("/score", b"x").status == 400


def test_reload(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_version(tmp_path / name, 1)
    with (
        serving(tmp_path, listed(entry(tmp_path, "a")), RELOADS) as server,
        client(server.wait_ready()) as calls,
    ):
        reply = calls.reload(listed(entry(tmp_path, "a", labels(stable=1)), entry(tmp_path, "b")))
        assert reply.status.error_code == 0
        assert (calls.y("a", label="stable"), calls.y("b")) == (1, 1)
        write_version(tmp_path / "a", 2)
        calls.reload(listed(entry(tmp_path, "a", ALL + labels(stable=1))))
        wait_until("version 2 serves", lambda: calls.states("a").get(2) == "AVAILABLE", LIMIT)
        assert (calls.y("a"), calls.y("a", label="stable")) == (2, 1)
        expected = (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(b)")
        assert refused(lambda: calls.y("b")) == expected
        calls.reload(listed(entry(tmp_path, "a", ALL + labels(stable=2))))
        assert calls.y("a", label="stable") == 2
        # No model at all is a configuration too.
        calls.reload("model_config_list { }")
        assert refused(lambda: calls.y("a"))[0] is grpc.StatusCode.NOT_FOUND


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[Client]:
    """A server of one model, configured by flags."""
    write_version(tmp_path / "a", 1)
    flags = ("--model_name=a", f"--model_base_path={tmp_path / 'a'}", RELOADS)
    with running(Server(FAKE, tmp_path / "log", *flags)) as server, client(server.wait_ready()) as found:
        yield found


BAD: dict[str, tuple[Callable[[Path], str | None], grpc.StatusCode, str]] = {
    "no config": (
        lambda _: None,
        INVALID,
        (
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported"
        ),
    ),
    "a custom config": (
        lambda _: "custom_model_config { }",
        INVALID,
        (
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported"
        ),
    ),
    "a name twice": (
        lambda path: listed(entry(path, "b"), entry(path, "b")),
        INVALID,
        "Illegal to list model b multiple times in config list",
    ),
    "another platform": (
        lambda path: listed(entry(path, "a").replace("tensorflow", "onnx")),
        INVALID,
        (
            "Illegal to change a model's platform. For model a platform was tensorflow and "
            "new platform requested is onnx"
        ),
    ),
    "a label of nothing": (
        lambda path: listed(entry(path, "a", labels(next=2))),
        grpc.StatusCode.FAILED_PRECONDITION,
        "Request to assign label to version 2 of model a, which is not currently available for inference",
    ),
    "a bad model": (
        lambda path: listed(entry(path, "a"), entry(path, "bad")),
        grpc.StatusCode.UNKNOWN,
        "1 model(s) did not become available: {{name: bad version: 1} due to error: Not found: no graph}",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_reload_refused(calls: Client, tmp_path: Path, case: str) -> None:
    write_version(tmp_path / "bad", 1, fail="no graph")
    config, code, words = BAD[case]
    assert refused(lambda: calls.reload(config(tmp_path))) == (code, words)
    assert calls.y("a") == 1


def test_a_reload_whose_caller_left_holds_no_thread(calls: Client, tmp_path: Path) -> None:
    request = stubs().management.ReloadConfigRequest()
    for name in ("a", "nothing"):
        request.config.model_config_list.config.add(
            name=name, base_path=str(tmp_path / name), model_platform="tensorflow"
        )
    code, _ = refused(lambda: calls.models.HandleReloadConfigRequest(request, timeout=0.3))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    calls.reload(listed(entry(tmp_path, "a")))
    assert calls.y("a") == 1


def test_no_request_changes_the_models_unless_a_flag_allows_it(tmp_path: Path) -> None:
    write_version(tmp_path / "a", 1)
    with serving(tmp_path, listed(entry(tmp_path, "a"))) as server, client(server.wait_ready()) as calls:
        assert refused(lambda: calls.reload("model_config_list { }")) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "This server does not change its models by request: --enable_config_reload is not set.",
        )
        assert calls.y("a") == 1


def test_a_caller_who_left_before_his_turn_changes_nothing(tmp_path: Path) -> None:
    made: list[ModelConfig] = []

    def make(config: ModelConfig) -> ModelManager:
        made.append(config)
        raise AssertionError

    served = ServedModels(make)
    with pytest.raises(StatusError) as caught:
        served.reload([ModelConfig("a", tmp_path)], lambda: True)
    assert caught.value.code is grpc.StatusCode.CANCELLED
    assert (made, len(served)) == ([], 0)


def test_the_file_is_read_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_version(tmp_path / name, 1)
    poll = "--model_config_file_poll_wait_seconds=1"
    with (
        serving(tmp_path, listed(entry(tmp_path, "a")), poll) as server,
        client(server.wait_ready()) as calls,
    ):
        file = tmp_path / "models.config"
        file.write_text("no text proto")
        wait_until("the fault is logged", lambda: "Error parsing text-format" in server.log, LIMIT)
        assert calls.y("a") == 1
        assert server.log.count("Error parsing text-format") == 1, "it is said once"
        # The label's version comes later: the file takes effect then, without being touched again.
        file.write_text(listed(entry(tmp_path, "b", ALL + labels(next=2)), entry(tmp_path, "a", ALL)))
        wait_until("the label is refused", lambda: "Request to assign label" in server.log, LIMIT)
        file.write_text(listed(entry(tmp_path, "b", ALL)))

        def gone() -> bool:
            return server.get("/v1/models/a").status == 404

        wait_until("the new list is in effect", gone, LIMIT)
        write_version(tmp_path / "b", 2)
        file.write_text(listed(entry(tmp_path, "b", ALL + labels(next=2))))

        def labelled() -> bool:
            return server.get("/v1/models/b/labels/next/metadata").status == 200

        wait_until("the label is in effect", labelled, LIMIT)
        assert calls.y("b", label="next") == 2


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            "model_config_list { config { nmae: 'a' } }",
            "Error parsing text-format tensorflow.serving.ModelServerConfig: ",
        ),
        ("", "holds no model_config_list"),
        (
            "model_config_list { config { name: 'a' base_path: '/a' } }",
            "Invalid argument: Illegal setting neither ModelServerConfig::model_type",
        ),
        (
            (
                "model_config_list { config { name: 'a' base_path: '/a' model_platform: 'tensorflow' "
                "version_labels { key: 'x' value: 1 } } }"
            ),
            "Failed precondition: Request to assign label to version 1 of model a, which is not",
        ),
    ],
)
def test_a_bad_file_ends_the_start(tmp_path: Path, config: str, words: str) -> None:
    with serving(tmp_path, config) as server:
        assert server.wait(60) == 255
        last = server.log.splitlines()[-1]
    assert last.startswith("Failed to start server. Error: ")
    assert words in last


def test_a_model_that_fails_ends_the_start_though_another_serves(tmp_path: Path) -> None:
    write_version(tmp_path / "a", 1)
    write_version(tmp_path / "b", 1, fail="no graph")
    with serving(tmp_path, listed(entry(tmp_path, "a"), entry(tmp_path, "b"))) as server:
        assert server.wait(60) == 255
        last = server.log.splitlines()[-1]
    assert last == (
        "Failed to start server. Error: Unknown: 1 servable(s) did not become available: "
        "{{name: b version: 1} due to error: Not found: no graph}"
    )


def test_a_file_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    with running(Server(FAKE, tmp_path / "log", f"--model_config_file={tmp_path / 'absent'}")) as server:
        assert server.wait(60) == 255
        assert "--model_config_file cannot be read" in server.log.splitlines()[-1]
